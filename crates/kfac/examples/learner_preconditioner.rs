//! K-FAC in front of the optimizer of Burn's training loop.
//!
//! The model holds the preconditioner in a field that is no parameter. Its training step has the batch, and its
//! `optimize` the gradients and the learning rate.

use std::{env, error::Error, path::Path};

use burn::{
    data::dataloader::batcher::Batcher,
    lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    module::Module,
    nn::{Linear, LinearConfig},
    optim::{GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig},
    tensor::{Device, Tensor},
    train::{
        ClassificationOutput, InferenceStep, Interrupter, Learner, SupervisedTraining, TrainOutput,
        TrainStep,
        metric::{AccuracyMetric, LossMetric},
    },
};
use kfac::{
    Categorical, Network, Phase, PreconditionerConfig, Tape,
    train::{LearnerPreconditioner, PreconditionerMetric, PreconditionerReports, Reported},
};
use largest::{Cases, Item, NUMBERS, judge, loader};

#[path = "support/largest.rs"]
mod largest;

type Output = Reported<ClassificationOutput, PreconditionerReports>;

#[derive(Module, Debug)]
struct Classifier {
    hidden: Linear,
    logits: Linear,
    #[module(skip)]
    kfac: LearnerPreconditioner<Categorical>,
}

impl Network for Classifier {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, numbers: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.hidden, numbers).tanh();
        tape.linear(&self.logits, hidden)
    }
}

impl TrainStep for Classifier {
    type Input = Item;
    type Output = Output;

    fn step(&self, item: Item) -> TrainOutput<Output> {
        let reports = self.kfac.accumulate(self, &item);
        let output = InferenceStep::step(self, item).output;
        let gradients = output.loss.backward();
        TrainOutput::new(self, gradients, Reported::new(output, reports))
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let gradients = self.kfac.precondition(&self, gradients, rate.base());
        optimizer.step(rate, self, gradients)
    }
}

impl InferenceStep for Classifier {
    type Input = Item;
    type Output = Output;

    fn step(&self, item: Item) -> Output {
        let logits = self.forward(item.inputs, &mut Tape::off());
        Reported::plain(judge(logits, item.targets))
    }
}

/// Trains, with logs and checkpoints in a folder; returns the loss on new cases.
pub(crate) fn train(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let device = Device::default().autodiff();
    // The preconditioner stops the training where it refuses a batch.
    let interrupter = Interrupter::new();
    let config = PreconditionerConfig::new();
    let model = Classifier {
        hidden: LinearConfig::new(NUMBERS, 32).init(&device),
        logits: LinearConfig::new(32, NUMBERS).init(&device),
        kfac: LearnerPreconditioner::new(config, Categorical, interrupter.clone()),
    };
    let momentum = MomentumConfig::new()
        .with_dampening(0.0)
        .with_nesterov(true); // 0.9
    let sgd = SgdConfig::new().with_momentum(Some(momentum)).init();
    let result = SupervisedTraining::new(folder, loader(0..1024), loader(1024..1536))
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .metric_train_numeric(PreconditionerMetric::clipped())
        .metric_train_numeric(PreconditionerMetric::phase(Phase::Inverse))
        .with_interrupter(interrupter)
        .with_default_checkpointers()
        .with_application_logger(None)
        .num_epochs(20)
        .launch(Learner::new(model, sgd, 0.1));
    if let Some(error) = result.error {
        return Err(error.into());
    }
    let new = Cases.batch((1536..2048).collect(), &Device::default());
    let judged = InferenceStep::step(&result.model, new);
    Ok(judged.output.loss.into_scalar::<f64>())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join("learner_preconditioner");
    println!("loss on new cases: {:.4}", train(&folder)?);
    Ok(())
}
