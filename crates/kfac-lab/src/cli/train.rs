//! `kfac train`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kfac::BatchSchedule;

use super::{
    optimizer::{Circumstances, Optimizer},
    options::{CheckpointArguments, KfacArguments, RunArguments, ScheduleArgument},
    values::{at_least_zero, count, fraction, momentum, positive},
};
use crate::{
    charts::{self, Captions, Plotted},
    initialise,
    methods::{MethodConfig, RateForm, RateSchedule},
    plot::Emphasis,
    say::say,
    task::{Task, TaskData},
    train::{
        Augmentation, CaseOrder, DataSource, EvaluateEvery, EvaluationCases, Limit, Outcome,
        RunConfig, RunFolder, Seeds, TrainOptions, batches_of_epoch, output_folder, train,
    },
};

/// Train a network and write a run folder.
///
/// The folder gets config.json (all that is needed to repeat the run), steps.jsonl (every quantity
/// of every step), error and objective against iterations and seconds as SVG, the final weights, and a
/// checkpoint, from which `kfac resume` goes on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac train                                  K-FAC on CURVES, nothing to set
  kfac train mnist --iterations 300           after `data/fetch mnist`
  kfac train fashion --optimizer adam --seconds 60
  kfac train curves --batch 1000:500          1000 cases first, all of them in iteration 500
  kfac train digits --lambda 1 --inverse-method eigen
  kfac train fashion-lenet --optimizer preconditioned-sgd --epochs 10 --seeds 3")]
pub(super) struct TrainArguments {
    #[command(flatten)]
    run: RunArguments,
    /// The optimizer
    #[arg(long, value_enum, default_value_t = Optimizer::Kfac)]
    optimizer: Optimizer,
    /// Stop after so many iterations [default for kfac: the task's]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    iterations: Option<u64>,
    /// Train for so many epochs, with batches of one size and a schedule of the learning rate
    #[arg(long, value_name = "N", value_parser = count::<u64>(), conflicts_with_all = ["iterations", "seconds"])]
    epochs: Option<u64>,
    /// Train with so many seeds, one after another
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count::<u16>())]
    seeds: u16,
    /// Stop after so many seconds of training [default for the others: 60]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Batch size, FIRST:ITERATION to grow from FIRST to all cases at ITERATION, or auto: as many cases as the noise of
    /// the gradient is worth [default: the task's]
    #[arg(long, value_name = "M|FIRST:ITERATION|auto")]
    batch: Option<ScheduleArgument>,
    /// Evaluate on all cases every so many iterations [default: kfac 10, others 100 times a run]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    evaluate_every: Option<u64>,
    #[command(flatten)]
    checkpoints: CheckpointArguments,
    #[command(flatten)]
    kfac: KfacArguments,
    /// What is done to the images of each batch
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    augment: Augmentation,
    /// Part of the training cases to hold out: the model that is best on them is kept, as best.bpk and best.safetensors
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    hold_out: Option<f64>,
    /// Stop after so many evaluations that are no better on the cases held out
    #[arg(long, value_name = "N", value_parser = count::<u32>(), requires = "hold_out")]
    patience: Option<u32>,
    /// How the learning rate goes on over the epochs
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value_t,
        help_heading = "First-order methods"
    )]
    schedule: RateForm,
    /// Part of the run in which the learning rate rises
    #[arg(long, value_name = "FRACTION", value_parser = fraction, help_heading = "First-order methods")]
    warm_up: Option<f64>,
    /// Weight decay: of adamw and muon decoupled, of the others a penalty [default: that of the task]
    #[arg(long, value_name = "DECAY", value_parser = at_least_zero, help_heading = "First-order methods")]
    weight_decay: Option<f64>,
    /// Learning rate [default: sgd 0.05, nag 0.01, adam, adamw and preconditioned-adamw 0.001, muon 0.02,
    /// preconditioned-sgd 0.1]
    #[arg(long, value_name = "RATE", value_parser = positive, help_heading = "First-order methods")]
    learning_rate: Option<f64>,
    /// Momentum of sgd, and the largest of nag [default: 0.9, 0.99]
    #[arg(long, value_name = "MU", value_parser = momentum, help_heading = "First-order methods")]
    momentum: Option<f64>,
}

/// Seconds of a first-order run without a limit.
const DEFAULT_SECONDS: f64 = 60.0;

/// Cases of the batches of epochs, where nothing is said.
const EPOCH_BATCH: usize = 128;

/// Evaluations of a run that is limited by time.
const EVALUATIONS: f64 = 100.0;

impl TrainArguments {
    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        if self.optimizer.is_second_order() && self.learning_rate.is_some() {
            bail!("this optimizer chooses its own steps: leave --learning-rate out");
        }
        let first = self.run.seed;
        let seeds = first..first + u64::from(self.seeds);
        let name = self.run_name();
        if seeds.clone().count() == 1 {
            let mut folder = RunFolder::create(self.run.out.as_deref(), &name)?;
            let outcome = self.trained(&mut folder)?;
            return told(outcome, folder.path());
        }
        let all = output_folder(self.run.out.as_deref(), &name)?;
        let mut outcomes = Vec::new();
        for seed in seeds {
            let mut folder = RunFolder::create(Some(&all.join(format!("seed-{seed}"))), "")?;
            let outcome = self.with_seed(seed).trained(&mut folder)?;
            if outcome.interrupted {
                eprintln!("the seeds after {seed} have not begun: --seed and --seeds take them up");
                return told(outcome, folder.path());
            }
            outcomes.push(outcome);
        }
        self.draw_seeds(&outcomes, &all)?;
        say(Seeds(&outcomes));
        say(format_args!("run folder: {}", all.display()));
        Ok(())
    }

    fn with_seed(&self, seed: u64) -> Self {
        let mut arguments = self.clone();
        arguments.run.seed = seed;
        arguments
    }

    fn run_name(&self) -> String {
        let task = self.run.task();
        let method = self.method(&task, RateSchedule::CONSTANT);
        format!("{}-{}", task.label(), method.name())
    }

    fn trained(&self, folder: &mut RunFolder) -> Result<Outcome> {
        let task = self.kfac.task(self.run.task());
        let source = DataSource {
            hold_out: self.hold_out,
            ..self.run.source()
        };
        let data = source.load(&task, self.run.seed)?;
        let options = self.options(task, data.train.len());
        let config = RunConfig::new(options, source, &data)?;
        run(
            &config.with_checkpoints(self.checkpoints.plan()),
            &data,
            folder,
        )
    }

    /// The curves of all seeds in one picture of each quantity.
    fn draw_seeds(&self, outcomes: &[Outcome], folder: &Path) -> Result<()> {
        let seeds = self.run.seed..;
        let plotted = outcomes.iter().zip(seeds).map(|(outcome, seed)| Plotted {
            label: format!("seed {seed}"),
            emphasis: Emphasis::Main,
            runs: std::slice::from_ref(&outcome.steps),
        });
        let plotted: Vec<Plotted<'_>> = plotted.collect();
        let Some(Outcome { summary, .. }) = outcomes.first() else {
            return Ok(());
        };
        let captions = Captions {
            title: format!("{}: {}", self.run.task().label(), summary.method),
            subtitle: format!("{}, {} seeds", summary.data, outcomes.len()),
            error_name: summary.error_name,
        };
        charts::write(folder, &captions, &plotted)
    }

    fn options(&self, task: Task, cases: usize) -> TrainOptions {
        let batch = self.batch.map(|ScheduleArgument(schedule)| schedule);
        let schedule = match (batch, self.epochs) {
            (Some(schedule), _) => schedule,
            (None, Some(_)) => BatchSchedule::Fixed { cases: EPOCH_BATCH },
            (None, None) if self.optimizer.is_second_order() => task.schedule,
            (None, None) => BatchSchedule::Fixed {
                cases: task.first_order_batch,
            },
        };
        let first = schedule.batch_size(1, cases).unwrap_or(cases);
        let of_epoch = batches_of_epoch(cases, first);
        let limit = self.limit(&task, of_epoch);
        let rates = match limit.iterations {
            Some(iterations) if self.epochs.is_some() => {
                RateSchedule::over(self.schedule, iterations, self.warm_up.unwrap_or(0.0))
            }
            _ => RateSchedule::CONSTANT,
        };
        TrainOptions {
            method: self.method(&task, rates).with_batches(schedule),
            schedule,
            order: match self.epochs {
                Some(_) => CaseOrder::Epochs,
                None => CaseOrder::Samples,
            },
            augmentation: self.augment,
            patience: self.patience,
            limit,
            evaluate: self.evaluations(limit, of_epoch),
            evaluate_on: EvaluationCases::All,
            seed: self.run.seed,
            precision: self.run.precision,
            init: self.run.init.clone(),
            task,
        }
    }

    fn limit(&self, task: &Task, of_epoch: u64) -> Limit {
        let asked = Limit {
            iterations: self.epochs.map(|n| n * of_epoch).or(self.iterations),
            seconds: self.seconds,
        };
        match self.optimizer {
            _ if asked != Limit::default() => asked,
            _ if self.optimizer.is_second_order() => Limit {
                iterations: Some(task.iterations),
                ..asked
            },
            _ => Limit {
                seconds: Some(DEFAULT_SECONDS),
                ..asked
            },
        }
    }

    fn evaluations(&self, limit: Limit, of_epoch: u64) -> EvaluateEvery {
        let second_order = self.optimizer.is_second_order();
        match (self.evaluate_every, limit) {
            (Some(every), _) => EvaluateEvery::Iterations(every),
            (None, _) if self.epochs.is_some() => EvaluateEvery::Iterations(of_epoch),
            (None, _) if second_order => EvaluateEvery::Iterations(10),
            (
                None,
                Limit {
                    seconds: Some(s), ..
                },
            ) => EvaluateEvery::Seconds(s / EVALUATIONS),
            (None, Limit { iterations, .. }) => {
                let n = iterations.unwrap_or(1) as f64;
                EvaluateEvery::Iterations((n / EVALUATIONS).ceil() as u64)
            }
        }
    }

    fn method(&self, task: &Task, schedule: RateSchedule) -> MethodConfig {
        let circumstances = Circumstances {
            kfac: &self.kfac,
            task,
            schedule,
            decay: self.weight_decay,
            momentum: self.momentum,
            seed: self.run.seed,
        };
        self.optimizer.method(self.learning_rate, &circumstances)
    }
}

/// Trains, and leaves settings, steps, pictures and final weights in the folder.
pub(super) fn run(config: &RunConfig, data: &TaskData, folder: &mut RunFolder) -> Result<Outcome> {
    folder.write_config(config)?;
    let outcome = train(config, data, folder)?;
    finish(config, &outcome, folder)?;
    Ok(outcome)
}

/// A run that was asked to end before its end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: `kfac resume {}` goes on from here", folder.display())]
pub(super) struct Interrupted {
    folder: PathBuf,
}

/// Prints what became of a run.
///
/// # Errors
/// Where it was interrupted, or its last checkpoint could not be written.
pub(super) fn told(outcome: Outcome, folder: &Path) -> Result<()> {
    say(&outcome.summary);
    say(format_args!("run folder: {}", folder.display()));
    match outcome.unwritten {
        Some(error) => Err(error),
        None if outcome.interrupted => Err(Interrupted {
            folder: folder.to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

/// Leaves pictures and final weights in the folder.
pub(super) fn finish(config: &RunConfig, outcome: &Outcome, folder: &RunFolder) -> Result<()> {
    folder.complete(config, &outcome.steps)?;
    let options = &config.options;
    let captions = Captions {
        title: format!("{}: {}", options.task.label(), options.method.label()),
        subtitle: format!("{}, seed {}", outcome.summary.data, options.seed),
        error_name: outcome.summary.error_name,
    };
    let label = options.method.label();
    let run = Plotted {
        label,
        emphasis: Emphasis::Main,
        runs: std::slice::from_ref(&outcome.steps),
    };
    charts::write(folder.path(), &captions, &[run])?;
    initialise::write(&folder.path().join("weights.npy"), &outcome.weights)?;
    Ok(())
}
