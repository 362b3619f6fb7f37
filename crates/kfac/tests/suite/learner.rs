//! Burn's training loop takes the steps that a loop of one's own takes, and stops where those are refused.

use std::{error::Error, path::Path, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher},
        dataset::InMemDataset,
    },
    lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    module::Module,
    nn::{Linear, LinearConfig},
    optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer, SgdConfig},
    tensor::{Device, Tensor},
    train::{
        EarlyStoppingStrategy, InferenceStep, Interrupter, Learner, LearningResult,
        SupervisedTraining, TrainOutput, TrainStep, TrainingStrategy,
        metric::{LossMetric, Metric, MetricMetadata, Numeric, store::EventStoreClient},
    },
};
use kfac::{
    Batch, Gaussian, IterateAveraging, Kfac, KfacConfig, Network, PreconditionerConfig,
    RandomStream, StepReport, Tape,
    train::{
        KfacModel, KfacStrategy, LearnerError, LearnerPreconditioner, LossOutput,
        PreconditionerReports, ReportMetric, Reported,
    },
};

const INPUTS: usize = 5;
const BATCH: usize = 32;
const RATE: f64 = 0.3;

/// From this seed on cases are not numbers.
const BROKEN: u64 = 1_000_000;

type Item = Batch<Tensor<2>, Tensor<2>>;

/// Either optimizer's.
#[derive(Clone, Debug)]
enum Report {
    Kfac(Box<StepReport>),
    Preconditioner(PreconditionerReports),
}

impl Report {
    /// The number of the step.
    fn steps(&self) -> Option<f64> {
        let steps = match self {
            Self::Kfac(report) => report.iteration,
            Self::Preconditioner(reports) => reports.observation()?.observation,
        };
        Some(steps as f64)
    }
}

#[derive(Module, Debug)]
struct Model {
    hidden: Linear,
    last: Linear,
    #[module(skip)]
    kfac: LearnerPreconditioner<Gaussian>,
}

impl Network for Model {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.hidden, x).tanh();
        tape.linear(&self.last, hidden)
    }
}

impl Model {
    /// `mean ½ ‖z − y‖²`.
    fn loss(&self, item: Item) -> Tensor<1> {
        let outputs = self.forward(item.inputs, &mut Tape::off());
        (outputs - item.targets).square().sum_dim(1).mean() * 0.5
    }

    fn parameters(&self) -> Vec<f32> {
        let layers = [&self.hidden, &self.last];
        let numbers = layers.map(|layer| {
            let bias = layer.bias.as_ref().unwrap().val().into_data();
            let weight = layer.weight.val().into_data();
            [
                weight.try_to_vec::<f32>().unwrap(),
                bias.try_to_vec::<f32>().unwrap(),
            ]
            .concat()
        });
        numbers.concat()
    }
}

impl TrainStep for Model {
    type Input = Item;
    type Output = Reported<LossOutput, Report>;

    fn step(&self, item: Item) -> TrainOutput<Self::Output> {
        let reports = self.kfac.accumulate(self, &item);
        let loss = self.loss(item);
        let gradients = loss.backward();
        let output = Reported::new(LossOutput { loss }, Report::Preconditioner(reports));
        TrainOutput::new(self, gradients, output)
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

impl InferenceStep for Model {
    type Input = Item;
    type Output = LossOutput;

    fn step(&self, item: Item) -> LossOutput {
        LossOutput {
            loss: self.loss(item),
        }
    }
}

impl KfacModel for Model {
    type Targets = Tensor<2>;

    fn batch(item: Item) -> Item {
        item
    }

    fn output(&self, _: Item, report: StepReport) -> Reported<LossOutput, Report> {
        let output = LossOutput::of(report.objective);
        Reported::new(output, Report::Kfac(Box::new(report)))
    }
}

struct Cases;

impl Batcher<u64, Item> for Cases {
    fn batch(&self, seeds: Vec<u64>, device: &Device) -> Item {
        let like = Tensor::<2>::zeros([1, INPUTS], device);
        let case = |&seed: &u64| {
            let case = RandomStream::from_seed(seed).normal_like(&like);
            if seed < BROKEN { case } else { case * f64::NAN }
        };
        let inputs = Tensor::cat(seeds.iter().map(case).collect(), 0);
        Batch::new(inputs.clone(), inputs.square().sum_dim(1))
    }
}

fn loader(seeds: impl Iterator<Item = u64>) -> Arc<dyn DataLoader<Item>> {
    let loader = DataLoaderBuilder::new(Cases).batch_size(BATCH);
    loader.build(InMemDataset::new(seeds.collect()))
}

/// Four batches.
fn cases() -> impl Iterator<Item = u64> {
    0..4 * BATCH as u64
}

/// A batch, and another that is refused.
fn broken() -> impl Iterator<Item = u64> {
    (0..BATCH as u64).chain(BROKEN..BROKEN + BATCH as u64)
}

fn model(config: PreconditionerConfig, interrupter: &Interrupter) -> Model {
    let device = Device::default().autodiff();
    Model {
        hidden: LinearConfig::new(INPUTS, 6).init(&device),
        last: LinearConfig::new(6, 1).init(&device),
        kfac: LearnerPreconditioner::new(config, Gaussian, interrupter.clone()),
    }
}

/// For trainings in which no preconditioner takes part.
fn plain_model() -> Model {
    model(PreconditionerConfig::new(), &Interrupter::new())
}

fn training(folder: &Path, seeds: impl Iterator<Item = u64>) -> SupervisedTraining<Model> {
    SupervisedTraining::new(folder, loader(seeds), loader(200..264))
        .metrics((LossMetric::new(),))
        .metric_train_numeric(ReportMetric::new("Steps", None, Report::steps))
        .with_application_logger(None)
        .num_epochs(2)
}

fn learner(model: &Model) -> Learner<Model> {
    Learner::new(model.clone(), SgdConfig::new().init(), RATE)
}

fn by_kfac(
    training: SupervisedTraining<Model>,
    strategy: &Arc<KfacStrategy<Gaussian>>,
    model: &Model,
) -> LearningResult<Model> {
    let strategy = TrainingStrategy::Custom(strategy.clone());
    training
        .with_training_strategy(strategy)
        .launch(learner(model))
}

fn kfac_config() -> KfacConfig {
    KfacConfig::new().with_averaging(IterateAveraging::Off)
}

/// What a training logged of the steps of its second epoch.
fn logged_steps(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("train/epoch-2/Steps.log")).unwrap()
}

/// What `LearningResult::error` says of the optimizer.
fn learner_error<M>(result: &LearningResult<M>) -> &LearnerError {
    let error = result.error.as_ref().unwrap();
    let source = error.source().and_then(Error::source).unwrap();
    source.downcast_ref().unwrap()
}

/// The steps of a loop over the same batches, twice.
fn loop_by_kfac(start: Model, config: &KfacConfig) -> (Model, Kfac<Gaussian>) {
    let mut model = start;
    let loader = loader(cases());
    let batches: Vec<Item> = loader
        .iter()
        .chain(loader.iter())
        .map(Result::unwrap)
        .collect();
    let mut optimizer = config.init(&model, Gaussian, &batches[0].inputs).unwrap();
    for batch in batches {
        optimizer.step(&mut model, &batch).unwrap();
    }
    (model, optimizer)
}

#[test]
fn the_strategy_takes_the_steps_of_a_loop() {
    let folder = tempfile::tempdir().unwrap();
    let start = plain_model();
    let strategy = Arc::new(KfacStrategy::new(kfac_config(), Gaussian));
    let result = by_kfac(training(folder.path(), cases()), &strategy, &start);
    assert!(result.error.is_none() && result.interrupted.is_none());
    assert_eq!(
        logged_steps(folder.path()),
        "5,1\n6,1\n7,1\n8,1\n6.5,final\n"
    );

    let (model, expected) = loop_by_kfac(start, &kfac_config());
    assert_eq!(result.model.parameters(), model.parameters());
    let optimizer = strategy.optimizer().unwrap();
    assert_eq!(optimizer.iteration(), 8);
    let difference = optimizer.lambda() - expected.lambda();
    assert!(difference.abs() < f64::EPSILON * expected.lambda());
}

#[test]
fn the_average_is_what_the_strategy_validates_saves_and_returns() {
    let folder = tempfile::tempdir().unwrap();
    let start = plain_model();
    let averaging = IterateAveraging::From {
        start: 1,
        cap: 0.99,
    };
    let config = KfacConfig::new().with_averaging(averaging);
    let strategy = Arc::new(KfacStrategy::new(config.clone(), Gaussian));
    let training = training(folder.path(), cases()).with_default_checkpointers();
    let result = by_kfac(training, &strategy, &start);
    let (last, optimizer) = loop_by_kfac(start, &config);
    let average = optimizer.averaged_model(&last).unwrap();
    assert_ne!(last.parameters(), average.parameters());
    assert_eq!(result.model.parameters(), average.parameters());

    let losses: Vec<f64> = loader(200..264)
        .iter()
        .map(|item| average.valid().loss(item.unwrap()).into_scalar::<f64>())
        .collect();
    let logged = std::fs::read_to_string(folder.path().join("valid/epoch-2/Loss.log")).unwrap();
    for (line, loss) in logged.lines().zip(losses) {
        let value: f64 = line.split(',').next().unwrap().parse().unwrap();
        assert!((value - loss).abs() < 1e-5 * loss, "{value} {loss}");
    }

    // A training that goes on from the checkpoint and has no epoch left returns what was saved.
    let training = self::training(folder.path(), cases()).with_default_checkpointers();
    let again = by_kfac(training.checkpoint(2), &strategy, &plain_model());
    assert_eq!(again.model.parameters(), average.parameters());
}

#[test]
fn a_training_by_kfac_goes_on_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let strategy = Arc::new(KfacStrategy::new(kfac_config(), Gaussian));
    let first = training(folder.path(), cases()).with_default_checkpointers();
    let first = by_kfac(first, &strategy, &plain_model());
    let second = training(folder.path(), cases()).with_default_checkpointers();
    let second = second.checkpoint(2).num_epochs(10);
    let second = by_kfac(second, &strategy, &plain_model());
    assert!(second.error.is_none(), "{:?}", second.error);
    let loss = |model: &Model| {
        let item = loader(cases()).iter().next().unwrap().unwrap();
        model.loss(item).into_scalar::<f64>()
    };
    let (first, second) = (loss(&first.model), loss(&second.model));
    assert!(second < first, "{first} -> {second}");
}

#[test]
fn a_batch_that_kfac_refuses_ends_the_training_with_the_model_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let start = plain_model();
    let strategy = Arc::new(KfacStrategy::new(kfac_config(), Gaussian));
    let result = by_kfac(training(folder.path(), broken()), &strategy, &start);
    let error = learner_error(&result);
    assert!(matches!(error, LearnerError::Step(_)), "{error}");
    assert_eq!(strategy.optimizer().unwrap().iteration(), 1);
    let one = training(folder.path(), 0..BATCH as u64).num_epochs(1);
    let one = by_kfac(one, &strategy, &start);
    assert_eq!(result.model.parameters(), one.model.parameters());
}

#[test]
fn a_model_that_kfac_refuses_ends_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let start = plain_model();
    let strategy = Arc::new(KfacStrategy::new(kfac_config().with_l2(-1.0), Gaussian));
    let result = by_kfac(training(folder.path(), cases()), &strategy, &start);
    let error = learner_error(&result);
    assert!(matches!(error, LearnerError::Init(_)), "{error}");
    assert_eq!(result.model.parameters(), start.parameters());
}

#[test]
fn the_strategy_refuses_to_accumulate_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let start = plain_model();
    let strategy = Arc::new(KfacStrategy::new(kfac_config(), Gaussian));
    let training = training(folder.path(), cases()).grads_accumulation(2);
    let result = by_kfac(training, &strategy, &start);
    let error = learner_error(&result);
    assert!(matches!(error, LearnerError::Accumulation), "{error}");
    assert!(strategy.optimizer().is_none());
    assert_eq!(result.model.parameters(), start.parameters());
}

/// Stops after the first epoch.
#[derive(Clone)]
struct AtOnce;

impl EarlyStoppingStrategy for AtOnce {
    fn should_stop(&mut self, _epoch: usize, _store: &EventStoreClient) -> bool {
        true
    }
}

#[test]
fn early_stopping_and_interruption_end_a_training_by_kfac() {
    let folder = tempfile::tempdir().unwrap();
    let strategy = Arc::new(KfacStrategy::new(kfac_config(), Gaussian));
    let stopped = training(folder.path(), cases()).early_stopping(AtOnce);
    let stopped = by_kfac(stopped, &strategy, &plain_model());
    assert!(stopped.error.is_none());
    assert_eq!(strategy.optimizer().unwrap().iteration(), 4);

    let interrupter = Interrupter::new();
    interrupter.stop(Some("enough"));
    let interrupted = training(folder.path(), cases()).with_interrupter(interrupter);
    let interrupted = by_kfac(interrupted, &strategy, &plain_model());
    assert!(interrupted.interrupted.is_some());
    assert!(strategy.optimizer().is_none());
}

/// The steps of a loop behind a preconditioner, each on the gradients of so many batches.
fn loop_behind_preconditioner(start: Model, accumulation: usize) -> Model {
    let mut model = start;
    let mut sgd = SgdConfig::new().init();
    let loader = loader(cases());
    let items: Vec<Item> = loader
        .iter()
        .chain(loader.iter())
        .map(Result::unwrap)
        .collect();
    let config = PreconditionerConfig::new();
    let mut kfac = config.init(&model, Gaussian, &items[0].inputs).unwrap();
    for batches in items.chunks(accumulation) {
        let mut gradients = GradientsAccumulator::new();
        for batch in batches {
            kfac.accumulate(&model, batch).unwrap();
            let loss = model.loss(batch.clone());
            let own = GradientsParams::from_grads(loss.backward(), &model);
            gradients.accumulate(&model, own);
        }
        kfac.observe_accumulated().unwrap();
        let step = kfac.precondition(&model, gradients.grads(), RATE).unwrap();
        model = sgd.step(RATE, model, step.gradients);
    }
    model
}

#[test]
fn a_learner_behind_the_preconditioner_takes_the_steps_of_a_loop() {
    for (accumulation, steps) in [
        (1, "5,1\n6,1\n7,1\n8,1\n6.5,final\n"),
        // The first item of each step has no report yet.
        (2, "3,1\n4,1\n3.5,final\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let interrupter = Interrupter::new();
        let start = model(PreconditionerConfig::new(), &interrupter);
        let training = training(folder.path(), cases()).with_interrupter(interrupter);
        let training = match accumulation {
            1 => training,
            more => training.grads_accumulation(more),
        };
        let result = training.launch(learner(&start));
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!(logged_steps(folder.path()), steps);
        let expected = loop_behind_preconditioner(start, accumulation);
        assert_eq!(result.model.parameters(), expected.parameters());
    }
}

#[test]
fn a_batch_that_a_preconditioner_refuses_ends_the_training_with_the_model_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let interrupter = Interrupter::new();
    let start = model(PreconditionerConfig::new(), &interrupter);
    let broken = training(folder.path(), broken()).with_interrupter(interrupter.clone());
    let result = broken.launch(learner(&start));
    let error = learner_error(&result);
    assert!(matches!(error, LearnerError::Step(_)), "{error}");

    // One step from the same parameters.
    interrupter.reset();
    let again = model(PreconditionerConfig::new(), &interrupter);
    let again = Model {
        kfac: again.kfac,
        ..start
    };
    let one = training(folder.path(), 0..BATCH as u64).num_epochs(1);
    let one = one.with_interrupter(interrupter).launch(learner(&again));
    assert!(one.error.is_none(), "{:?}", one.error);
    assert_eq!(result.model.parameters(), one.model.parameters());
}

#[test]
fn a_metric_is_the_mean_of_the_reports_that_have_its_number() {
    let mut metric = ReportMetric::new("Own", Some("s"), |report: &Option<f64>| *report);
    let metadata = MetricMetadata {
        progress: burn::data::dataloader::Progress::new(1, 1, None),
        iteration: None,
        lr: None,
    };
    assert!(metric.running_value().is_none());
    for (report, value, mean) in [
        (Some(Some(1.0)), Some(1.0), 1.0),
        (Some(None), None, 1.0),
        (None, None, 1.0),
        (Some(Some(4.0)), Some(4.0), 2.5),
    ] {
        let entry = metric.update(&report, &metadata).unwrap();
        assert_eq!(entry.is_not_available(), value.is_none(), "{entry:?}");
        assert_eq!(metric.value().map(|value| value.current()), value);
        assert_eq!(
            metric.running_value().map(|mean| mean.current()),
            Some(mean)
        );
    }
    assert_eq!(metric.compute().unwrap().serialized, "2.5,final");
    metric.clear();
    assert!(metric.value().is_none() && metric.compute().unwrap().is_not_available());
}
