//! Thousands of steps through every kind of trouble: no panic, nothing that is not finite, no growth of memory.

use std::time::{Duration, Instant};

use burn::{
    module::Module,
    optim::{GradientsParams, ModuleOptimizer, SgdConfig},
    tensor::{DType, Tensor},
};
use kfac::{
    Batch, CurvatureConfig, DampingScheme, Eigenvalues, Gaussian, InverseMethod, InverseStructure,
    IterateAveraging, Kfac, KfacConfig, Momentum, Network, Preconditioner, PreconditionerConfig,
    RefreshTiming, ScaleShiftBlock, Tape, WeightSharing, record::OptimizerRecord,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Kind, KindNetwork, bits, normal};

/// Seconds of the soak; the environment variable `KFAC_SOAK_SECONDS` has another number.
const SECONDS: u64 = 10;

/// Steps of a problem.
const STEPS: u64 = 40;

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    NotANumber,
    Infinite,
    /// All inputs are zero: layers that see nothing.
    Dead,
    /// One case again and again.
    Repeated,
    Constant,
    /// Inputs that span one direction.
    RankOne,
    Scaled(f64),
    OneCase,
    /// Targets that the model has reached already.
    Converged,
}

impl Trouble {
    fn any(random: &mut impl Rng) -> Self {
        let troubles = [
            Self::NotANumber,
            Self::Infinite,
            Self::Dead,
            Self::Repeated,
            Self::Constant,
            Self::RankOne,
            Self::OneCase,
            Self::Converged,
            Self::Scaled(10f64.powi(random.random_range(-20..=20))),
        ];
        if random.random_bool(0.4) {
            Self::None
        } else {
            troubles[random.random_range(0..troubles.len())]
        }
    }

    fn batch(self, model: &KindNetwork, dtype: DType, random: &mut impl Rng) -> Batch<Tensor<2>> {
        let cases = match self {
            Self::OneCase => 1,
            _ => random.random_range(2..24),
        };
        let seed = random.random();
        let Batch {
            inputs,
            mut targets,
        } = Kind::batch(cases, seed);
        let inputs: Tensor<2> = match self {
            Self::NotANumber => inputs * f64::NAN,
            Self::Infinite => inputs * f64::INFINITY,
            Self::Dead => inputs * 0.0,
            Self::Repeated => inputs.slice_dim(0, 0..1).repeat_dim(0, cases),
            Self::Constant => inputs * 0.0 + 0.5,
            Self::RankOne => {
                inputs.slice_dim(0, 0..1).repeat_dim(0, cases) * normal([cases, 1], seed ^ 2)
            }
            Self::Scaled(by) => inputs * by,
            Self::None | Self::OneCase | Self::Converged => inputs,
        };
        let inputs = inputs.cast(dtype);
        if matches!(self, Self::Converged) {
            targets = model.valid().forward(inputs.clone(), &mut Tape::off());
        }
        Batch::new(inputs, targets.cast(dtype))
    }
}

fn any<T: Copy>(of: &[T], random: &mut impl Rng) -> T {
    of[random.random_range(0..of.len())]
}

fn curvature(settings: CurvatureConfig, random: &mut impl Rng) -> CurvatureConfig {
    let exact = random.random_bool(0.4);
    let settings = settings
        .with_inverse_period(any(&[2, 5, 8], random))
        .with_statistics_period(1)
        .with_statistics_fraction(any(&[0.3, 1.0], random))
        .with_refresh_timing(any(&[RefreshTiming::Ahead, RefreshTiming::AtOnce], random))
        .with_weight_sharing(any(&[WeightSharing::Expand, WeightSharing::Reduce], random))
        .with_scale_shift(any(
            &[ScaleShiftBlock::Diagonal, ScaleShiftBlock::Full],
            random,
        ))
        .with_seed(random.random());
    if exact {
        let corrected = any(&[Eigenvalues::Kronecker, Eigenvalues::PerCase], random);
        return settings
            .with_damping(DampingScheme::ExactTikhonov)
            .with_eigenvalues(corrected);
    }
    let method = any(
        &[
            InverseMethod::Automatic,
            InverseMethod::Cholesky,
            InverseMethod::Eigen,
        ],
        random,
    );
    let structure = any(
        &[
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ],
        random,
    );
    settings
        .with_inverse_method(method)
        .with_structure(structure)
}

/// Steps that were taken, and refused.
#[derive(Debug, Default)]
struct Count {
    taken: u64,
    refused: u64,
}

impl Count {
    /// Looks at what a step left of a model that it began with.
    fn look<E: std::fmt::Debug>(
        &mut self,
        step: &Result<(), E>,
        [before, after]: [&[u64]; 2],
        what: &str,
    ) {
        if let Err(error) = step {
            assert!(
                before == after,
                "{what}: refused, and the model is another: {error:?}"
            );
            self.refused += 1;
        } else {
            let finite = after.iter().all(|bits| f64::from_bits(*bits).is_finite());
            assert!(finite, "{what}: a parameter is not finite");
            self.taken += 1;
        }
    }
}

fn trained_alone(kind: Kind, dtype: DType, random: &mut impl Rng, count: &mut Count) {
    let mut model = kind.model_in(dtype, random.random());
    let config = KfacConfig::new()
        .with_l2(any(&[0.0, 1e-5, 0.1], random))
        .with_initial_lambda(any(&[1e-6, 1.0, 150.0], random))
        .with_gamma_period(any(&[5, 20], random))
        .with_momentum(any(&[Momentum::Adaptive, Momentum::None], random))
        .with_averaging(any(
            &[
                IterateAveraging::Off,
                IterateAveraging::From { start: 5, cap: 0.9 },
            ],
            random,
        ))
        .map_curvature(|settings| {
            let settings = curvature(settings, random);
            // γ is searched where the inverse is made.
            settings.with_inverse_period(5)
        });
    let example = Kind::batch(2, 1).inputs.cast(dtype);
    let new = |model: &KindNetwork| -> Kfac<Gaussian> {
        config
            .init(model, Gaussian, &example)
            .unwrap_or_else(|error| panic!("{config:?}: {error}"))
    };
    let mut kfac = new(&model);
    for step in 0..STEPS {
        let trouble = Trouble::any(random);
        let batch = trouble.batch(&model, dtype, random);
        let before = bits(&model);
        let report = kfac.step(&mut model, &batch).map(drop);
        let what = format!("{kind:?}, step {step}, {trouble:?}, {dtype:?}, {config:?}");
        count.look(&report, [&before, &bits(&model)], &what);
        let [lambda, gamma] = [kfac.lambda(), kfac.gamma()];
        assert!(
            lambda.is_finite() && lambda > 0.0 && gamma.is_finite() && gamma > 0.0,
            "{what}"
        );
        if random.random_bool(0.1) {
            let bytes = kfac.record().into_bytes().unwrap();
            kfac = new(&model);
            kfac.load_record(&model, &OptimizerRecord::from_bytes(bytes).unwrap())
                .unwrap();
        }
    }
}

fn trained_in_front(kind: Kind, dtype: DType, random: &mut impl Rng, count: &mut Count) {
    let mut model = kind.model_in(dtype, random.random());
    let config = PreconditionerConfig::new()
        .with_lambda(any(&[1e-8, 3e-3, 10.0], random))
        .map_curvature(|settings| {
            curvature(settings, random).with_refresh_timing(RefreshTiming::AtOnce)
        });
    let example = Kind::batch(2, 1).inputs.cast(dtype);
    let new = |model: &KindNetwork| -> Preconditioner<Gaussian> {
        config
            .init(model, Gaussian, &example)
            .unwrap_or_else(|error| panic!("{config:?}: {error}"))
    };
    let mut kfac = new(&model);
    let mut sgd: ModuleOptimizer = SgdConfig::new().init();
    for step in 0..STEPS {
        let trouble = Trouble::any(random);
        let batch = trouble.batch(&model, dtype, random);
        let before = bits(&model);
        let what = format!("{kind:?}, step {step}, {trouble:?}, {dtype:?}, {config:?}");
        let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
        let error = outputs - Tensor::from_inner(batch.targets.clone());
        let loss = (error.clone() * error).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let stepped = kfac.observe(&model, &batch);
        let stepped = stepped.and_then(|_| kfac.precondition(&model, gradients, 0.1));
        let stepped = stepped.map(|step| model = sgd.step(0.1, model.clone(), step.gradients));
        if kind == Kind::BatchNorm && stepped.is_err() {
            // The training pass has moved the running statistics: it is the user's own.
            model = kind.model_in(dtype, step);
            kfac = new(&model);
            count.refused += 1;
            continue;
        }
        count.look(&stepped, [&before, &bits(&model)], &what);
        if random.random_bool(0.1) {
            let bytes = kfac.record().into_bytes().unwrap();
            kfac = new(&model);
            kfac.load_record(&model, &OptimizerRecord::from_bytes(bytes).unwrap())
                .unwrap();
        }
    }
}

/// MiB that the process holds, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[test]
fn no_batch_and_no_setting_breaks_a_run() {
    let seconds = std::env::var("KFAC_SOAK_SECONDS");
    let time = Duration::from_secs(seconds.map_or(SECONDS, |text| text.parse().unwrap()));
    let start = Instant::now();
    let mut count = Count::default();
    let mut held = Vec::new();
    let mut problems = 0;
    while start.elapsed() < time {
        let mut random = ChaCha8Rng::seed_from_u64(problems);
        let kind = Kind::ALL[problems as usize % Kind::ALL.len()];
        let dtype = any(&[DType::F32, DType::F64], &mut random);
        if random.random() {
            trained_alone(kind, dtype, &mut random, &mut count);
        } else {
            trained_in_front(kind, dtype, &mut random, &mut count);
        }
        problems += 1;
        if problems % 16 == 0 {
            held.extend(resident());
        }
    }
    let [first, last] = [held.first(), held.last()];
    println!(
        "{problems} problems in {:.0} s: {count:?}; MiB held after 16 problems and at the end: {first:?}, {last:?}",
        start.elapsed().as_secs_f64()
    );
    assert!(count.taken > 5 * STEPS, "{count:?}");
    // What the allocator keeps once each kind has been seen is all that there is.
    if let (Some(warm), Some(last)) = (held.get(held.len() / 4), held.last())
        && held.len() >= 8
    {
        assert!(last - warm < 64.0, "from {warm} to {last} MiB");
    }
}
