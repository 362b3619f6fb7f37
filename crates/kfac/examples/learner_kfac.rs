//! `Kfac` in Burn's training loop: data loaders, metrics, checkpoints.
//!
//! A learner's model says which batch is made of an item of its data loader, and what the metrics are told of a step;
//! a strategy of the training does the rest.

use std::{env, error::Error, path::Path, sync::Arc};

use burn::{
    data::dataloader::batcher::Batcher,
    module::Module,
    nn::{Linear, LinearConfig},
    optim::SgdConfig,
    tensor::{Device, Int, Tensor},
    train::{
        ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
        TrainingStrategy,
        metric::{AccuracyMetric, LossMetric},
    },
};
use kfac::{
    Categorical, KfacConfig, Network, Phase, StepReport, Tape,
    train::{KfacMetric, KfacModel, KfacStrategy, LossOutput, Reported},
};
use largest::{Cases, Item, NUMBERS, judge, loader};

#[path = "support/largest.rs"]
mod largest;

#[derive(Module, Debug)]
struct Classifier {
    hidden: Linear,
    logits: Linear,
}

impl Network for Classifier {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, numbers: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.hidden, numbers).tanh();
        tape.linear(&self.logits, hidden)
    }
}

impl KfacModel for Classifier {
    type Targets = Tensor<1, Int>;

    fn batch(item: Item) -> Item {
        item
    }

    fn output(&self, _: Item, report: StepReport) -> Reported<LossOutput, StepReport> {
        Reported::new(LossOutput::of(report.objective), report)
    }
}

/// For Burn's other strategies.
impl TrainStep for Classifier {
    type Input = Item;
    type Output = Reported<LossOutput, StepReport>;

    fn step(&self, item: Item) -> TrainOutput<Self::Output> {
        let loss = InferenceStep::step(self, item).loss;
        TrainOutput::new(self, loss.backward(), Reported::plain(LossOutput { loss }))
    }
}

impl InferenceStep for Classifier {
    type Input = Item;
    type Output = ClassificationOutput;

    fn step(&self, item: Item) -> ClassificationOutput {
        let logits = self.forward(item.inputs, &mut Tape::off());
        judge(logits, item.targets)
    }
}

/// Trains, with logs and checkpoints in a folder; returns the loss on new cases.
pub(crate) fn train(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let model = Classifier {
        hidden: LinearConfig::new(NUMBERS, 32).init(&device),
        logits: LinearConfig::new(32, NUMBERS).init(&device),
    };
    let strategy = Arc::new(KfacStrategy::new(KfacConfig::new(), Categorical));
    // The learner has an optimizer and a learning rate, which are not used.
    let learner = Learner::new(model, SgdConfig::new().init(), 0.1);
    let result = SupervisedTraining::new(folder, loader(0..1024), loader(1024..1536))
        .metrics((LossMetric::new(),))
        .metric_valid_numeric(AccuracyMetric::new())
        .metric_train_numeric(KfacMetric::lambda())
        .metric_train_numeric(KfacMetric::reduction_ratio())
        .metric_train_numeric(KfacMetric::phase(Phase::Inverse))
        .with_training_strategy(TrainingStrategy::Custom(strategy))
        .with_default_checkpointers()
        .with_application_logger(None)
        .num_epochs(5)
        .launch(learner);
    if let Some(error) = result.error {
        return Err(error.into());
    }
    let new = Cases.batch((1536..2048).collect(), &Device::default());
    let judged = InferenceStep::step(&result.model, new);
    Ok(judged.loss.into_scalar::<f64>())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join("learner_kfac");
    println!("loss on new cases: {:.4}", train(&folder)?);
    Ok(())
}
