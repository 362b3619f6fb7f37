//! A small network in training, with everything drawn from one number.

use burn::{
    module::Module,
    optim::{GradientsParams, ModuleOptimizer, SgdConfig},
    store::ModuleRecord,
    tensor::{Bytes, DType, Tensor},
};
use kfac::{
    Batch, Gaussian, Kfac, KfacConfig, Network, Preconditioner, PreconditionerConfig, Tape,
    record::OptimizerRecord,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{settings, trouble::Trouble};
use crate::support::{Kind, KindNetwork, bits};

/// Steps of a problem.
pub(super) const STEPS: u64 = 40;

/// The learning rate of the optimizer behind a preconditioner.
const RATE: f64 = 0.1;

/// Steps that were taken, and refused.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) taken: u64,
    pub(super) refused: u64,
}

/// A network, how it is trained, and how far it came.
pub(super) struct Problem {
    seed: u64,
    kind: Kind,
    dtype: DType,
    settings: Settings,
    model: KindNetwork,
    optimizer: Optimizer,
    pub(super) step: u64,
}

#[derive(Debug)]
enum Settings {
    Alone(KfacConfig),
    InFront(PreconditionerConfig),
}

#[expect(
    clippy::large_enum_variant,
    reason = "a test holds one of them at a time"
)]
enum Optimizer {
    Alone(Kfac<Gaussian>),
    InFront(Preconditioner<Gaussian>, ModuleOptimizer),
}

/// What is written down of a problem between two steps.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    step: u64,
    model: Vec<u8>,
    optimizer: Vec<u8>,
}

impl Settings {
    fn optimizer(&self, model: &KindNetwork, example: &Tensor<2>) -> Optimizer {
        match self {
            Self::Alone(config) => {
                let kfac = config.init(model, Gaussian, example);
                Optimizer::Alone(kfac.unwrap_or_else(|error| panic!("{config:?}: {error}")))
            }
            Self::InFront(config) => {
                let kfac = config.init(model, Gaussian, example);
                let kfac = kfac.unwrap_or_else(|error| panic!("{config:?}: {error}"));
                Optimizer::InFront(kfac, SgdConfig::new().init())
            }
        }
    }
}

impl Optimizer {
    fn step(
        &mut self,
        model: &mut KindNetwork,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(), kfac::StepError> {
        match self {
            Self::Alone(kfac) => kfac.step(model, batch).map(drop),
            Self::InFront(kfac, sgd) => {
                let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
                let error = outputs - Tensor::from_inner(batch.targets.clone());
                let loss = (error.clone() * error).mean();
                let gradients = GradientsParams::from_grads(loss.backward(), model);
                kfac.observe(model, batch)?;
                let step = kfac.precondition(model, gradients, RATE)?;
                *model = sgd.step(RATE, model.clone(), step.gradients);
                Ok(())
            }
        }
    }

    fn record(&self) -> OptimizerRecord {
        match self {
            Self::Alone(kfac) => kfac.record(),
            Self::InFront(kfac, _) => kfac.record(),
        }
    }

    fn load(&mut self, model: &KindNetwork, record: &OptimizerRecord) {
        let loaded = match self {
            Self::Alone(kfac) => kfac.load_record(model, record),
            Self::InFront(kfac, _) => kfac.load_record(model, record),
        };
        loaded.unwrap();
    }

    /// λ, and γ where there is one.
    fn damping(&self) -> [f64; 2] {
        match self {
            Self::Alone(kfac) => [kfac.lambda(), kfac.gamma()],
            Self::InFront(kfac, _) => [kfac.lambda(), 1.0],
        }
    }
}

impl Problem {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let kind = Kind::ALL[seed as usize % Kind::ALL.len()];
        let dtype = settings::any(&[DType::F32, DType::F64], &mut random);
        let model = kind.model_in(dtype, random.random());
        let settings = if random.random() {
            Settings::Alone(settings::kfac(&mut random))
        } else {
            Settings::InFront(settings::preconditioner(&mut random))
        };
        let optimizer = settings.optimizer(&model, &Kind::batch(2, 1).inputs.cast(dtype));
        Self {
            seed,
            kind,
            dtype,
            settings,
            model,
            optimizer,
            step: 0,
        }
    }

    /// The problem where it was written down.
    pub(super) fn restored(seed: u64, saved: Saved) -> Self {
        let mut problem = Self::new(seed);
        problem.go_to(saved);
        problem
    }

    fn go_to(&mut self, saved: Saved) {
        // Other identities and values than those of the record.
        let model = self.kind.model_in(self.dtype, self.seed ^ 1);
        self.model = model
            .load_record(ModuleRecord::from_bytes(Bytes::from_bytes_vec(saved.model)).unwrap());
        let example = Kind::batch(2, 1).inputs.cast(self.dtype);
        self.optimizer = self.settings.optimizer(&self.model, &example);
        let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(saved.optimizer)).unwrap();
        self.optimizer.load(&self.model, &record);
        self.step = saved.step;
    }

    pub(super) fn saved(&self) -> Saved {
        let model = self.model.valid().into_record();
        Saved {
            step: self.step,
            model: model.into_bytes().unwrap().to_vec(),
            optimizer: self.optimizer.record().into_bytes().unwrap().to_vec(),
        }
    }

    /// One step with whatever trouble; model and optimizer are looked at after it.
    pub(super) fn take_step(&mut self, count: &mut Count) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.step + 1);
        let trouble = Trouble::any(&mut random);
        let batch = trouble.batch(&self.model, self.dtype, &mut random);
        if random.random_bool(0.1) {
            self.go_to(self.saved());
        }
        let before = bits(&self.model);
        // A training pass of the user moves the running statistics, whatever becomes of the step.
        let moves =
            matches!(self.optimizer, Optimizer::InFront(..)) && self.kind == Kind::BatchNorm;
        let point = moves.then(|| self.saved());

        let stepped = self.optimizer.step(&mut self.model, &batch);

        if let (Some(point), Err(_)) = (point, &stepped) {
            self.go_to(point);
        }
        let after = bits(&self.model);
        let what = format!(
            "problem {}, {:?}, step {}, {trouble:?}, {:?}, {:?}, {stepped:?}",
            self.seed, self.kind, self.step, self.dtype, self.settings
        );
        if stepped.is_err() {
            assert!(before == after, "{what}: refused, and the model is another");
            count.refused += 1;
        } else {
            let finite = after.iter().all(|bits| f64::from_bits(*bits).is_finite());
            assert!(finite, "{what}: a parameter is not finite");
            count.taken += 1;
        }
        for damping in self.optimizer.damping() {
            assert!(damping.is_finite() && damping > 0.0, "{what}");
        }
        self.step += 1;
    }

    /// All that it became, to the last bit.
    pub(super) fn result(&self) -> Vec<u64> {
        let damping = self.optimizer.damping();
        let damping = damping.map(f64::to_bits).into_iter();
        bits(&self.model).into_iter().chain(damping).collect()
    }
}
