//! The one training loop.

mod augment;
mod batches;
mod best;
mod evaluate;
mod progress;
mod record;
mod seeds;
mod summary;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Result, bail};
use burn::tensor::Device;
use kfac::{BatchSchedule, StepError};
use serde::Serialize;

use crate::{
    methods::{Method, MethodConfig},
    network::Model,
    precision::Precision,
    task::{Task, TaskData},
};
pub use augment::Augmentation;
pub(crate) use batches::{Batches, batches_of_epoch};
use best::Best;
pub use evaluate::Evaluation;
use progress::Progress;
pub use record::{RunFolder, StepRecord, output_folder};
pub use seeds::Seeds;
pub use summary::Summary;

/// A training run to be made.
#[derive(Clone, Debug)]
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
    pub limit: Limit,
    /// How often to evaluate on all cases.
    pub evaluate: EvaluateEvery,
    /// Seed of data, initial weights, batches and sampled targets.
    pub seed: u64,
    /// Precision of the tensors.
    pub precision: Precision,
    /// Initial weights from a file.
    pub init: Option<PathBuf>,
}

/// Which cases the batches of a run have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseOrder {
    /// Each a fresh sample of all.
    #[default]
    Samples,
    /// All cases once, in a random order, before any comes again.
    Epochs,
}

/// When a run ends: at the first limit reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// Number of iterations.
    pub iterations: Option<u64>,
    /// Seconds of training, evaluations not counted.
    pub seconds: Option<f64>,
}

/// How often a run evaluates on all cases; the first and last iterate always are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EvaluateEvery {
    /// After every so many iterations.
    Iterations(u64),
    /// After every so many seconds of training.
    Seconds(f64),
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
}

/// Consecutive refused steps after which a run gives up: one bad batch is bad luck, ten are not.
const MAX_REFUSED: u32 = 10;

/// Set by Ctrl-C; the run then ends after the current step.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Trains, and writes each step to the run folder as it is made.
///
/// # Errors
/// Where data or initial weights cannot be loaded, the method refuses its settings, a file cannot
/// be written, or ten steps in a row are refused.
pub fn train(options: &TrainOptions, data: &TaskData, folder: &mut RunFolder) -> Result<Outcome> {
    Run::new(options, data)?.until_done(folder)
}

struct Run<'a> {
    options: &'a TrainOptions,
    data: &'a TaskData,
    batches: Batches<'a>,
    model: Model,
    method: Method,
    device: Device,
    seconds: f64,
    iteration: u64,
    refused: u32,
    best: Best,
}

impl<'a> Run<'a> {
    fn new(options: &'a TrainOptions, data: &'a TaskData) -> Result<Self> {
        let device = Device::flex();
        let task = &options.task;
        let autodiff = device.clone().autodiff();
        let start = (options.init.as_deref(), options.seed);
        let place = (&autodiff, options.precision);
        let model = task.architecture.build(start, place)?;
        let batches = Batches::new(
            &data.train,
            options.seed,
            (device.clone(), options.precision),
        )
        .with_augmentation(options.augmentation);
        let example = batches.rows(&[0]);
        let method = options.method.start(&model, task.loss, &example.inputs)?;
        let run = Self {
            options,
            data,
            batches,
            model,
            method,
            device,
            seconds: 0.0,
            iteration: 0,
            refused: 0,
            best: Best::default(),
        };
        Ok(run)
    }

    fn until_done(mut self, folder: &mut RunFolder) -> Result<Outcome> {
        let size = self.batch_size();
        let mut steps = vec![StepRecord {
            epoch: self.epoch(size),
            evaluation: Some(self.evaluate()),
            ..StepRecord::default()
        }];
        folder.append(&steps[0])?;
        let progress = Progress::new(self.options);
        let mut next_evaluation = self.options.evaluate.first();
        while !self.finished() {
            let Some(mut record) = self.step()? else {
                continue;
            };
            let due = self
                .options
                .evaluate
                .due(&mut next_evaluation, self.iteration, self.seconds);
            if due || self.finished() {
                let evaluation = self.evaluate();
                record.evaluation = Some(evaluation);
                if self.best.improves(&evaluation) {
                    folder.keep_best(&self.method.iterate(&self.model))?;
                }
            }
            progress.update(&record, self.seconds);
            folder.append(&record)?;
            steps.push(record);
        }
        progress.finish();
        if let Some(last) = steps.last_mut()
            && last.evaluation.is_none()
        {
            last.evaluation = Some(self.evaluate()); // interrupted between evaluations
        }
        let iterate = self.method.iterate(&self.model);
        let average = self
            .method
            .average(&self.model)
            .map(|model| self.evaluation_of(&model));
        let summary = Summary::new(self.options, self.data, &steps, average);
        Ok(Outcome {
            summary,
            steps,
            weights: iterate.values(),
        })
    }

    fn finished(&self) -> bool {
        let Limit {
            iterations,
            seconds,
        } = self.options.limit;
        iterations.is_some_and(|limit| self.iteration >= limit)
            || seconds.is_some_and(|limit| self.seconds >= limit)
            || self
                .options
                .patience
                .is_some_and(|most| self.best.since() >= most)
            || INTERRUPTED.load(Ordering::Relaxed)
    }

    /// One step; `None` where it was refused.
    fn step(&mut self) -> Result<Option<StepRecord>> {
        let start = Instant::now();
        let size = self.batch_size();
        let batch = match self.options.order {
            CaseOrder::Samples => self.batches.next(size),
            CaseOrder::Epochs => self.batches.next_of_epoch(size),
        };
        let step = self.method.step(&mut self.model, &batch);
        self.seconds += start.elapsed().as_secs_f64();
        match step {
            Ok(step) => {
                self.iteration += 1;
                self.refused = 0;
                let record = StepRecord::new(self.iteration, size, self.seconds, step);
                Ok(Some(StepRecord {
                    epoch: self.epoch(size),
                    ..record
                }))
            }
            Err(error) => self.refuse(&error).map(|()| None),
        }
    }

    /// The cases of the next batch.
    fn batch_size(&self) -> usize {
        let schedule = self.options.schedule;
        schedule.batch_size(self.iteration + 1, self.data.train.len())
    }

    /// The epochs so far.
    fn epoch(&self, size: usize) -> Option<f64> {
        let of_epoch = batches_of_epoch(self.data.train.len(), size);
        let in_epochs = self.options.order == CaseOrder::Epochs;
        in_epochs.then(|| self.iteration as f64 / of_epoch as f64)
    }

    fn refuse(&mut self, error: &StepError) -> Result<()> {
        self.refused += 1;
        eprintln!("iteration {}: {error}", self.iteration + 1);
        if self.refused >= MAX_REFUSED {
            bail!("{MAX_REFUSED} steps in a row were refused, the last one because: {error}");
        }
        Ok(())
    }

    fn evaluate(&self) -> Evaluation {
        self.evaluation_of(&self.method.iterate(&self.model))
    }

    fn evaluation_of(&self, model: &Model) -> Evaluation {
        let (task, precision) = (&self.options.task, self.options.precision);
        let l2 = self.options.method.l2();
        Evaluation::new(model, (task.loss, l2), self.data, (&self.device, precision))
    }
}

impl EvaluateEvery {
    fn first(self) -> f64 {
        match self {
            Self::Iterations(n) => n as f64,
            Self::Seconds(s) => s,
        }
    }

    /// Whether an evaluation is due; moves `next` on if so.
    fn due(self, next: &mut f64, iteration: u64, seconds: f64) -> bool {
        let now = match self {
            Self::Iterations(_) => iteration as f64,
            Self::Seconds(_) => seconds,
        };
        let due = now >= *next;
        while now >= *next {
            *next += self.first();
        }
        due
    }
}
