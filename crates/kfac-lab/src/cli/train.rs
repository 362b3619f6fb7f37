//! `kfac train`.

use anyhow::Result;
use clap::ValueEnum;
use kfac::BatchSchedule;
use serde::Serialize;

use super::{
    options::{KfacArguments, RunArguments, ScheduleArgument},
    values::{count, momentum, positive},
};
use crate::{
    charts::{self, Captions, Plotted},
    initialise,
    methods::MethodConfig,
    plot::Emphasis,
    precision::Precision,
    say::say,
    task::{Task, TaskData},
    train::{EvaluateEvery, Limit, Outcome, RunFolder, TrainOptions, train},
    version::{VERSIONS, Versions},
};

/// Train a network and write a run folder.
///
/// The folder gets config.json (all that is needed to repeat the run), steps.jsonl (every quantity
/// of every step), error and objective against iterations and seconds as SVG, and the final weights.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac train                                  K-FAC on CURVES, nothing to set
  kfac train mnist --iterations 300           after `data/fetch mnist`
  kfac train fashion --optimizer adam --seconds 60
  kfac train curves --batch 1000:500          1000 cases first, all of them in iteration 500
  kfac train digits --lambda 1 --inverse-method eigen")]
pub(super) struct TrainArguments {
    #[command(flatten)]
    run: RunArguments,
    /// The optimizer
    #[arg(long, value_enum, default_value_t = Optimizer::Kfac)]
    optimizer: Optimizer,
    /// Stop after so many iterations [default for kfac: the task's]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    iterations: Option<u64>,
    /// Stop after so many seconds of training [default for the others: 60]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Batch size, or FIRST:ITERATION to grow from FIRST to all cases at ITERATION
    /// [default: the task's]
    #[arg(long, value_name = "M|FIRST:ITERATION")]
    batch: Option<ScheduleArgument>,
    /// Evaluate on all cases every so many iterations [default: kfac 10, others 100 times a run]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    evaluate_every: Option<u64>,
    #[command(flatten)]
    kfac: KfacArguments,
    /// Learning rate of sgd, nag, adam [default: 0.05, 0.01, 0.001]
    #[arg(long, value_name = "RATE", value_parser = positive, help_heading = "First-order methods")]
    learning_rate: Option<f64>,
    /// Momentum of sgd, and the largest of nag [default: 0.9, 0.99]
    #[arg(long, value_name = "MU", value_parser = momentum, help_heading = "First-order methods")]
    momentum: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Optimizer {
    /// K-FAC
    Kfac,
    /// Stochastic gradient descent with momentum
    Sgd,
    /// Nesterov's accelerated gradient with Sutskever's schedule, the paper's baseline
    Nag,
    /// Adam
    Adam,
}

/// Seconds of a first-order run without a limit.
const DEFAULT_SECONDS: f64 = 60.0;

/// Evaluations of a run that is limited by time.
const EVALUATIONS: f64 = 100.0;

/// What `config.json` holds: enough to repeat the run.
#[derive(Debug, Serialize)]
struct RunConfig<'a> {
    version: Versions,
    command: Vec<String>,
    device: &'static str,
    threads: usize,
    data: &'a str,
    task: &'a Task,
    method: &'a MethodConfig,
    schedule: BatchSchedule,
    iterations: Option<u64>,
    seconds: Option<f64>,
    seed: u64,
    precision: Precision,
    init: Option<String>,
}

impl<'a> RunConfig<'a> {
    fn new(options: &'a TrainOptions, data: &'a str) -> Self {
        Self {
            version: VERSIONS,
            command: arguments(),
            device: "flex (CPU)",
            threads: rayon::current_num_threads(),
            data,
            task: &options.task,
            method: &options.method,
            schedule: options.schedule,
            iterations: options.limit.iterations,
            seconds: options.limit.seconds,
            seed: options.seed,
            precision: options.precision,
            init: options.init.as_ref().map(|path| path.display().to_string()),
        }
    }
}

/// The command line; bytes that are no text are told as such.
fn arguments() -> Vec<String> {
    let arguments = std::env::args_os();
    arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

impl TrainArguments {
    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        let task = self.kfac.task(self.run.task());
        let options = self.options(task);
        let data = self.run.load(&options.task)?;
        let name = format!("{}-{}", options.task.label(), options.method.name());
        let mut folder = RunFolder::create(self.run.out.as_deref(), &name)?;
        let outcome = run(&options, &data, &mut folder)?;
        say(&outcome.summary);
        say(format_args!("run folder: {}", folder.path().display()));
        Ok(())
    }

    fn options(&self, task: Task) -> TrainOptions {
        let second_order = self.optimizer == Optimizer::Kfac;
        let method = self.method(&task);
        let schedule = match self.batch {
            Some(ScheduleArgument(schedule)) => schedule,
            None => method.schedule(&task),
        };
        let mut limit = Limit {
            iterations: self.iterations,
            seconds: self.seconds,
        };
        if limit == Limit::default() {
            if second_order {
                limit.iterations = Some(task.iterations);
            } else {
                limit.seconds = Some(DEFAULT_SECONDS);
            }
        }
        let evaluate = match (self.evaluate_every, second_order, limit) {
            (Some(every), ..) => EvaluateEvery::Iterations(every),
            (None, true, _) => EvaluateEvery::Iterations(10),
            (
                None,
                false,
                Limit {
                    seconds: Some(s), ..
                },
            ) => EvaluateEvery::Seconds(s / EVALUATIONS),
            (None, false, Limit { iterations, .. }) => {
                let n = iterations.unwrap_or(1) as f64;
                EvaluateEvery::Iterations((n / EVALUATIONS).ceil() as u64)
            }
        };
        TrainOptions {
            method,
            schedule,
            limit,
            evaluate,
            seed: self.run.seed,
            precision: self.run.precision,
            init: self.run.init.clone(),
            task,
        }
    }

    fn method(&self, task: &Task) -> MethodConfig {
        let rate = |default: f64| self.learning_rate.unwrap_or(default);
        let l2 = task.l2;
        match self.optimizer {
            Optimizer::Kfac => MethodConfig::Kfac(Box::new(self.kfac.config(task, self.run.seed))),
            Optimizer::Sgd => MethodConfig::Sgd {
                rate: rate(0.05),
                momentum: self.momentum.unwrap_or(0.9),
                l2,
            },
            Optimizer::Nag => MethodConfig::Nag {
                rate: rate(0.01),
                max_momentum: self.momentum.unwrap_or(0.99),
                l2,
            },
            Optimizer::Adam => MethodConfig::Adam {
                rate: rate(0.001),
                l2,
            },
        }
    }
}

/// Trains, and leaves settings, steps, pictures and final weights in the folder.
pub(super) fn run(
    options: &TrainOptions,
    data: &TaskData,
    folder: &mut RunFolder,
) -> Result<Outcome> {
    folder.write_config(&RunConfig::new(options, &data.description))?;
    let outcome = train(options, data, folder)?;
    finish(options, &outcome, folder)?;
    Ok(outcome)
}

fn finish(options: &TrainOptions, outcome: &Outcome, folder: &RunFolder) -> Result<()> {
    let captions = Captions {
        title: format!("{}: {}", options.task.label(), options.method.label()),
        subtitle: format!("{}, seed {}", outcome.summary.data, options.seed),
        error_name: outcome.summary.error_name,
    };
    let label = options.method.label();
    let run = Plotted {
        label,
        emphasis: Emphasis::Main,
        steps: &outcome.steps,
    };
    charts::write(folder.path(), &captions, &[run])?;
    initialise::write(&folder.path().join("weights.npy"), &outcome.weights)?;
    Ok(())
}
