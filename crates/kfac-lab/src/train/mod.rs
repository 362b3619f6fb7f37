//! The one training loop.

mod augment;
mod batches;
mod best;
mod config;
mod evaluate;
mod evaluations;
mod path_text;
mod progress;
mod record;
mod seeds;
mod state;
mod summary;

use std::{
    cell::OnceCell,
    fmt::{self, Display},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Result, anyhow, bail};
use burn::{
    module::Module,
    store::ModuleRecord,
    tensor::{Bytes, Device},
};
use kfac::BatchSchedule;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::{CheckpointFiles, Checkpoints, MODEL, Part, RUN},
    methods::{Method, MethodConfig, model_file},
    network::Model,
    precision::Precision,
    task::{Task, TaskData},
};
pub use augment::Augmentation;
pub(crate) use batches::{Batches, batches_of_epoch};
use best::Best;
pub use config::{DataSource, RunConfig};
pub use evaluate::Evaluation;
pub use evaluations::{EvaluateEvery, EvaluationCases};
use progress::Progress;
pub use record::{RunFolder, StepRecord, output_folder, read_steps};
pub use seeds::Seeds;
pub use state::{RunPoint, RunState};
pub use summary::Summary;

/// A training run to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainOptions {
    /// The task.
    pub task: Task,
    /// The method.
    pub method: MethodConfig,
    /// The sizes of the batches.
    pub schedule: BatchSchedule,
    /// Which cases the batches have.
    pub order: CaseOrder,
    /// What is done to the cases of each batch.
    pub augmentation: Augmentation,
    /// Evaluations without a better error of the held-out cases after which the run ends.
    pub patience: Option<u32>,
    /// When to stop.
    #[serde(flatten)]
    pub limit: Limit,
    /// How often to evaluate.
    pub evaluate: EvaluateEvery,
    /// On which cases, between the start and the end.
    #[serde(default)]
    pub evaluate_on: EvaluationCases,
    /// Seed of data, initial weights, batches and sampled targets.
    pub seed: u64,
    /// Precision of the tensors.
    pub precision: Precision,
    /// Initial weights from a file.
    #[serde(with = "path_text::option")]
    pub init: Option<PathBuf>,
}

/// Which cases the batches of a run have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseOrder {
    /// Each a fresh sample of all.
    #[default]
    Samples,
    /// All cases once, in a random order, before any comes again.
    Epochs,
}

/// When a run ends: at the first limit reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Number of iterations.
    pub iterations: Option<u64>,
    /// Seconds of training, evaluations not counted.
    pub seconds: Option<f64>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the summary prints.
    pub summary: Summary,
    /// One record a step, preceded by the initial point.
    pub steps: Vec<StepRecord>,
    /// The final weights, as a file of initial weights holds them.
    pub weights: Vec<f64>,
    /// Whether it was interrupted before its end.
    pub interrupted: bool,
    /// Why the last checkpoint is not written, where it should be.
    pub unwritten: Option<anyhow::Error>,
}

/// Consecutive refused steps after which a run gives up: one bad batch is bad luck, ten are not.
const MAX_REFUSED: u32 = 10;

/// Set by Ctrl-C and by the request to terminate; the run then ends after the current step.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the process was asked to end.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Trains, and writes each step to the run folder as it is made, and checkpoints where the configuration has some.
///
/// # Errors
/// Where data or initial weights cannot be loaded, the method refuses its settings, a file cannot
/// be written, or ten steps in a row are refused.
pub fn train(config: &RunConfig, data: &TaskData, folder: &mut RunFolder) -> Result<Outcome> {
    let run = Run::new(config, (data, None))?;
    let start = StepRecord {
        epoch: run.epoch(run.batch_size()),
        evaluation: Some(run.evaluate()),
        ..StepRecord::default()
    };
    folder.append(&start)?;
    let checkpoints = config.checkpoints;
    let checkpoints = checkpoints.map(|plan| Checkpoints::new(folder.path(), plan));
    run.until_done((folder, checkpoints), vec![start])
}

/// Goes on with a run from a checkpoint, and where that says it is, after the steps that it had made by then.
///
/// # Errors
/// As [`train`], and where the checkpoint is of another run.
pub fn resume(
    config: &RunConfig,
    data: &TaskData,
    checkpoint: (&CheckpointFiles, RunState),
    (folder, steps): (&mut RunFolder, Vec<StepRecord>),
) -> Result<Outcome> {
    let run = Run::new(config, (data, Some(checkpoint)))?;
    let checkpoints = config.checkpoints;
    let checkpoints =
        checkpoints.map(|plan| Checkpoints::resumed(folder.path(), plan, run.iteration));
    run.until_done((folder, checkpoints.transpose()?), steps)
}

/// Seconds that an evaluation on all cases takes at the start of a run.
///
/// # Errors
/// As [`train`].
pub fn evaluation_seconds(config: &RunConfig, data: &TaskData) -> Result<f64> {
    let run = Run::new(config, (data, None))?;
    let start = Instant::now();
    run.evaluate();
    Ok(start.elapsed().as_secs_f64())
}

struct Run<'a> {
    config: &'a RunConfig,
    options: &'a TrainOptions,
    data: &'a TaskData,
    /// What is evaluated between start and end, where that is not all.
    sample: Option<TaskData>,
    batches: Batches<'a>,
    model: Model,
    method: Method,
    device: Device,
    seconds: f64,
    iteration: u64,
    refused: u32,
    next_evaluation: f64,
    best: Best,
    data_checksum: OnceCell<String>,
}

impl<'a> Run<'a> {
    /// A run at its start, or at a checkpoint.
    fn new(
        config: &'a RunConfig,
        (data, checkpoint): (&'a TaskData, Option<(&CheckpointFiles, RunState)>),
    ) -> Result<Self> {
        let options = &config.options;
        let device = Device::flex();
        let task = &options.task;
        let autodiff = device.clone().autodiff();
        // What it is initialised with is of no use to a model that is loaded.
        let init = options.init.as_deref().filter(|_| checkpoint.is_none());
        let place = (&autodiff, options.precision);
        let mut model = task.architecture.build((init, options.seed), place)?;
        if let Some((files, _)) = &checkpoint {
            model = loaded(model, files)?;
        }
        let place = (device.clone(), options.precision);
        let batches = Batches::new(&data.train, options.seed, place);
        let batches = batches.with_augmentation(options.augmentation);
        let example = batches.rows(&[0]);
        let method = options.method.start(&model, task.loss, &example.inputs)?;
        let mut run = Self {
            config,
            options,
            data,
            sample: options.evaluate_on.sample(data),
            batches,
            model,
            method,
            device,
            seconds: 0.0,
            iteration: 0,
            refused: 0,
            next_evaluation: options.evaluate.first(),
            best: Best::default(),
            data_checksum: OnceCell::new(),
        };
        if let Some((files, state)) = checkpoint {
            run.go_to(files, state)?;
        }
        Ok(run)
    }

    fn until_done(
        mut self,
        (folder, mut checkpoints): (&mut RunFolder, Option<Checkpoints>),
        mut steps: Vec<StepRecord>,
    ) -> Result<Outcome> {
        let done = self.take_steps((folder, checkpoints.as_mut()), &mut steps);
        // A run that ends with an error can go on from there, too.
        let written = checkpoints.map(|checkpoints| self.write_last(checkpoints, folder));
        done?;
        let unwritten = written.transpose().err();
        Ok(self.outcome(steps, unwritten))
    }

    fn take_steps(
        &mut self,
        (folder, mut checkpoints): (&mut RunFolder, Option<&mut Checkpoints>),
        steps: &mut Vec<StepRecord>,
    ) -> Result<()> {
        let progress = Progress::new(self.options);
        while !self.finished() {
            let Some(mut record) = self.step()? else {
                continue;
            };
            let due = self.evaluation_due();
            let at_its_end = self.reached_its_end();
            if due || at_its_end {
                let between = self.sample.as_ref().filter(|_| !at_its_end);
                let evaluation = self.evaluate_on(between.unwrap_or(self.data));
                record.evaluation = Some(evaluation);
                if self.best.improves(&evaluation) {
                    folder.keep_best(&self.method.iterate(&self.model))?;
                }
            }
            progress.update(&record, self.seconds);
            folder.append(&record)?;
            steps.push(record);
            if let Some(checkpoints) = &mut checkpoints
                && checkpoints.due(self.iteration)
            {
                tell(checkpoints.finish());
                tell(self.write_to(checkpoints, folder));
            }
        }
        progress.finish();
        Ok(())
    }

    fn write_last(&self, mut checkpoints: Checkpoints, folder: &RunFolder) -> Result<()> {
        let before = checkpoints.finish();
        if checkpoints.has(self.iteration) {
            return Ok(());
        }
        tell(before);
        self.write_to(&mut checkpoints, folder)?;
        checkpoints.finish()
    }

    fn outcome(self, mut steps: Vec<StepRecord>, unwritten: Option<anyhow::Error>) -> Outcome {
        let on_sample = self.sample.is_some() && !self.reached_its_end();
        if let Some(last) = steps.last_mut()
            && (last.evaluation.is_none() || on_sample)
        {
            last.evaluation = Some(self.evaluate()); // interrupted before the last evaluation
        }
        let iterate = self.method.iterate(&self.model);
        let average = self
            .method
            .average(&self.model)
            .map(|model| self.evaluation_of(&model, self.data));
        let summary = Summary::new(self.options, self.data, &steps, average);
        Outcome {
            summary,
            steps,
            weights: iterate.values(),
            interrupted: !self.reached_its_end(),
            unwritten,
        }
    }

    /// Begins to write a checkpoint; the steps are then on the disk.
    fn write_to(&self, checkpoints: &mut Checkpoints, folder: &RunFolder) -> Result<()> {
        folder.sync()?;
        let point = RunPoint {
            config: self.config.clone(),
            state: RunState {
                iteration: self.iteration,
                seconds: self.seconds,
                next_evaluation: self.next_evaluation,
                best: self.best,
                batches: self.batches.position(),
                data: self.data_checksum().to_owned(),
            },
        };
        let point = Bytes::from_bytes_vec(serde_json::to_vec_pretty(&point)?);
        let mut parts = self.method.record(&self.model)?;
        parts.push((MODEL, model_file(&self.model)?));
        parts.push((RUN, Part::Bytes(point)));
        checkpoints.write(self.iteration, parts);
        Ok(())
    }

    /// That of the cases that are trained on, worked out once.
    fn data_checksum(&self) -> &str {
        let checksum = || state::data_checksum(self.data);
        self.data_checksum.get_or_init(checksum)
    }

    /// Takes up all but the model.
    fn go_to(&mut self, files: &CheckpointFiles, state: RunState) -> Result<()> {
        let RunState {
            iteration,
            seconds,
            next_evaluation,
            best,
            batches,
            ..
        } = state;
        self.method.load(&self.model, (files, iteration))?;
        self.batches.move_to(batches);
        self.iteration = iteration;
        self.seconds = seconds;
        self.next_evaluation = next_evaluation;
        self.best = best;
        Ok(())
    }

    fn finished(&self) -> bool {
        self.reached_its_end() || is_interrupted()
    }

    fn reached_its_end(&self) -> bool {
        let limit = self.options.limit;
        limit.is_reached(self.iteration, self.seconds)
            || self
                .options
                .patience
                .is_some_and(|most| self.best.since() >= most)
    }

    fn evaluation_due(&mut self) -> bool {
        let evaluate = self.options.evaluate;
        evaluate.due(&mut self.next_evaluation, self.iteration, self.seconds)
    }

    /// One step; `None` where it was refused.
    fn step(&mut self) -> Result<Option<StepRecord>> {
        let start = Instant::now();
        let size = self.batch_size();
        let batch = match self.options.order {
            CaseOrder::Samples => self.batches.next(size),
            CaseOrder::Epochs => self.batches.next_of_epoch(size),
        };
        let (method, model) = (&mut self.method, &mut self.model);
        let step = catch_unwind(AssertUnwindSafe(|| method.step(model, &batch)));
        self.seconds += start.elapsed().as_secs_f64();
        match step {
            Ok(Ok(step)) => {
                self.iteration += 1;
                self.refused = 0;
                let record = StepRecord::new(self.iteration, size, self.seconds, step);
                Ok(Some(StepRecord {
                    epoch: self.epoch(size),
                    ..record
                }))
            }
            Ok(Err(error)) => self.refuse(&error).map(|()| None),
            // The panic has told what it is; method and model are as before.
            Err(_) => self.refuse(&"the step panicked").map(|()| None),
        }
    }

    /// The cases of the next batch.
    fn batch_size(&self) -> usize {
        let schedule = self.options.schedule;
        let total = self.data.train.len();
        let planned = schedule.batch_size(self.iteration + 1, total);
        planned.unwrap_or_else(|| self.method.batch_size(total))
    }

    /// The epochs so far.
    fn epoch(&self, size: usize) -> Option<f64> {
        let of_epoch = batches_of_epoch(self.data.train.len(), size);
        let in_epochs = self.options.order == CaseOrder::Epochs;
        in_epochs.then(|| self.iteration as f64 / of_epoch as f64)
    }

    fn refuse(&mut self, error: &dyn Display) -> Result<()> {
        self.refused += 1;
        eprintln!("iteration {}: {error}", self.iteration + 1);
        if self.refused >= MAX_REFUSED {
            bail!("{MAX_REFUSED} steps in a row were refused, the last one because: {error}");
        }
        Ok(())
    }

    /// On all cases.
    fn evaluate(&self) -> Evaluation {
        self.evaluate_on(self.data)
    }

    fn evaluate_on(&self, data: &TaskData) -> Evaluation {
        self.evaluation_of(&self.method.iterate(&self.model), data)
    }

    fn evaluation_of(&self, model: &Model, data: &TaskData) -> Evaluation {
        let (task, precision) = (&self.options.task, self.options.precision);
        let l2 = self.options.method.l2();
        Evaluation::new(model, (task.loss, l2), data, (&self.device, precision))
    }
}

/// Says that a checkpoint could not be written: the run goes on, and the next one may find its place.
fn tell(written: Result<()>) {
    if let Err(error) = written {
        eprintln!("no checkpoint is written: {error:#}");
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.iterations, self.seconds) {
            (Some(iterations), Some(seconds)) => {
                write!(f, "to {iterations} or {seconds} s of training")
            }
            (Some(iterations), None) => write!(f, "to {iterations}"),
            (None, Some(seconds)) => write!(f, "to {seconds} s of training"),
            (None, None) => f.write_str("without an end"),
        }
    }
}

impl Limit {
    /// Whether a run that came so far is at its end.
    pub fn is_reached(self, iteration: u64, seconds: f64) -> bool {
        self.iterations.is_some_and(|limit| iteration >= limit)
            || self.seconds.is_some_and(|limit| seconds >= limit)
    }
}

/// A model with the parameters of a checkpoint.
fn loaded(model: Model, files: &CheckpointFiles) -> Result<Model> {
    let record = ModuleRecord::from_bytes(files.get(MODEL)?.clone());
    let loaded = record.and_then(|record| model.try_load_record(record));
    loaded.map_err(|error| anyhow!("{}: {MODEL}: {error}", files.folder().display()))
}
