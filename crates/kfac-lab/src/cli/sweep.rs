//! `kfac compare --epochs`: optimizers with several settings and seeds.

use std::{path::Path, str::FromStr};

use anyhow::Result;
use clap::ValueEnum;
use kfac::BatchSchedule;

use super::{
    compare::CompareArguments,
    optimizer::{Circumstances, Optimizer},
    train::run,
    values::positive,
};
use crate::{
    charts::{self, Captions, Plotted},
    compare::{Setting, Sweep},
    files,
    methods::{RateForm, RateSchedule},
    plot::Emphasis,
    say::say,
    task::{Task, TaskData},
    train::{
        Augmentation, CaseOrder, EvaluateEvery, EvaluationCases, Limit, RunConfig, RunFolder,
        StepRecord, TrainOptions, batches_of_epoch, output_folder,
    },
};

/// An optimizer with a learning rate and a number of epochs of its own, or with those of all:
/// `NAME[:RATE][@EPOCHS]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OptimizerChoice {
    optimizer: Optimizer,
    rate: Option<f64>,
    epochs: Option<u64>,
}

impl FromStr for OptimizerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, epochs) = with_suffix(text, '@');
        let (name, rate) = with_suffix(text, ':');
        let number = |text: &str| text.parse::<u64>().ok().filter(|epochs| *epochs > 0);
        let epochs = epochs.map(|text| number(text).ok_or("expected a number of epochs behind @"));
        let optimizer = Optimizer::from_str(name, true);
        if rate.is_some() && optimizer.as_ref().is_ok_and(|o| o.rates().is_empty()) {
            return Err(format!(
                "{name} chooses its own steps, and takes no learning rate"
            ));
        }
        Ok(Self {
            optimizer: optimizer.map_err(|_| {
                let variants = Optimizer::value_variants().iter();
                let names =
                    variants.filter_map(|o| Some(o.to_possible_value()?.get_name().to_owned()));
                let names: Vec<_> = names.collect();
                format!(
                    "expected one of {}, also with a learning rate and epochs, as sgd:0.1@10",
                    names.join(", ")
                )
            })?,
            rate: rate.map(positive).transpose()?,
            epochs: epochs.transpose()?,
        })
    }
}

/// What stands before a sign, and what behind it.
fn with_suffix(text: &str, sign: char) -> (&str, Option<&str>) {
    match text.split_once(sign) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// How the sweep is made.
#[derive(Debug, clap::Args)]
pub(super) struct SweepArguments {
    /// Compare optimizers over so many epochs, with settings and seeds, instead of K-FAC with rivals over seconds
    #[arg(long, value_name = "N", value_parser = super::values::count::<u64>(), help_heading = "By epochs")]
    pub(super) epochs: Option<u64>,
    /// The optimizers, any of those of `train`; NAME:RATE has one learning rate, NAME@N trains for N epochs instead
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sgd,adamw,muon,preconditioned-sgd",
        requires = "epochs",
        help_heading = "By epochs"
    )]
    optimizers: Vec<OptimizerChoice>,
    /// Learning rates of each, the likeliest first; at most 4
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=4), help_heading = "By epochs")]
    settings: u8,
    /// Seeds of each setting, from --seed on; table and pictures have their means
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::values::count::<u16>())]
    pub(super) seeds: u16,
    /// Cases of a batch
    #[arg(long, value_name = "M", default_value_t = 128, value_parser = super::values::count::<usize>(), help_heading = "By epochs")]
    batch: usize,
    /// How the learning rate goes on over the epochs
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value_t,
        help_heading = "By epochs"
    )]
    schedule: RateForm,
    /// Part of the run in which the learning rate rises
    #[arg(long, value_name = "FRACTION", value_parser = super::values::fraction, requires = "epochs", help_heading = "By epochs")]
    warm_up: Option<f64>,
    /// Weight decay [default: that of the task]
    #[arg(long, value_name = "DECAY", value_parser = super::values::at_least_zero, help_heading = "By epochs")]
    weight_decay: Option<f64>,
    /// What is done to the images of each batch
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value_t,
        help_heading = "By epochs"
    )]
    augment: Augmentation,
}

/// A sweep that is being made.
struct Runs<'a> {
    arguments: &'a CompareArguments,
    task: Task,
    data: TaskData,
    epochs: u64,
}

impl CompareArguments {
    /// All settings of all optimizers over epochs.
    pub(super) fn run_sweep(&self, epochs: u64) -> Result<()> {
        let task = self.kfac.task(self.run.task());
        let data = self.run.load(&task)?;
        let name = format!("{}-compare", task.label());
        let runs = Runs {
            arguments: self,
            task,
            data,
            epochs,
        };
        runs.check()?;
        let folder = output_folder(self.run.out.as_deref(), &name)?;
        let mut sweep = Sweep {
            settings: Vec::new(),
        };
        for choice in &self.sweep.optimizers {
            for rate in runs.rates(*choice) {
                sweep.settings.push(runs.setting(*choice, rate, &folder)?);
                files::write_json(&folder.join("sweep.json"), &sweep)?;
            }
        }
        runs.draw(&sweep, &folder)?;
        say(format_args!("\n{sweep}"));
        say(format_args!("run folder: {}", folder.display()));
        Ok(())
    }
}

impl Runs<'_> {
    /// The learning rates of an optimizer; one that is none for those that choose themselves.
    fn rates(&self, choice: OptimizerChoice) -> Vec<Option<f64>> {
        let settings = usize::from(self.arguments.sweep.settings);
        let rates = choice.optimizer.rates().iter().take(settings).copied();
        let rates: Vec<_> = rates.map(Some).collect();
        if choice.rate.is_some() || rates.is_empty() {
            vec![choice.rate]
        } else {
            rates
        }
    }

    /// Refuses settings that no run can have, before the first one.
    fn check(&self) -> Result<()> {
        for choice in &self.arguments.sweep.optimizers {
            let epochs = choice.epochs.unwrap_or(self.epochs);
            for rate in self.rates(*choice) {
                let options = self.options(choice.optimizer, rate, (0, epochs));
                options.method.check()?;
            }
        }
        Ok(())
    }

    fn setting(
        &self,
        choice: OptimizerChoice,
        rate: Option<f64>,
        folder: &Path,
    ) -> Result<Setting> {
        let sweep = &self.arguments.sweep;
        let first = self.arguments.run.seed;
        let mut setting = Setting {
            optimizer: String::new(),
            label: String::new(),
            own: choice.optimizer.is_own(),
            epochs: choice.epochs.unwrap_or(self.epochs),
            runs: Vec::new(),
        };
        for seed in first..first + u64::from(sweep.seeds) {
            let options = self.options(choice.optimizer, rate, (seed, setting.epochs));
            setting.optimizer = options.method.name();
            setting.label = options.method.label();
            let name = format!("{}-{}-{seed}", setting.optimizer, rate.unwrap_or_default());
            let name = format!("{name}-{}", setting.epochs);
            let mut run_folder = RunFolder::create(Some(&folder.join(name)), "")?;
            let config = RunConfig::new(options, self.arguments.run.source(), &self.data)?;
            let steps = match run(&config, &self.data, &mut run_folder) {
                Ok(outcome) => evaluated(outcome.steps),
                Err(error) => {
                    eprintln!("{}, seed {seed}: {error:#}", setting.label);
                    Vec::new()
                }
            };
            let last = steps.last().and_then(|step| step.evaluation);
            say(format_args!(
                "{}, seed {seed}: test accuracy {:.4}",
                setting.label,
                last.map_or(f64::NAN, |last| 1.0 - last.test_error)
            ));
            setting.runs.push(steps);
        }
        Ok(setting)
    }

    fn options(
        &self,
        optimizer: Optimizer,
        rate: Option<f64>,
        (seed, epochs): (u64, u64),
    ) -> TrainOptions {
        let sweep = &self.arguments.sweep;
        let cases = self.data.train.len();
        let batch = sweep.batch.min(cases);
        let of_epoch = batches_of_epoch(cases, batch);
        let iterations = epochs * of_epoch;
        let circumstances = Circumstances {
            kfac: &self.arguments.kfac,
            task: &self.task,
            schedule: RateSchedule::over(
                sweep.schedule,
                iterations,
                sweep.warm_up.unwrap_or_default(),
            ),
            decay: sweep.weight_decay,
            momentum: None,
            seed,
        };
        TrainOptions {
            method: optimizer.method(rate, &circumstances),
            task: self.task.clone(),
            schedule: BatchSchedule::Fixed { cases: batch },
            order: CaseOrder::Epochs,
            augmentation: sweep.augment,
            patience: None,
            limit: Limit {
                iterations: Some(iterations),
                seconds: None,
            },
            evaluate: EvaluateEvery::Iterations(of_epoch),
            evaluate_on: EvaluationCases::All,
            seed,
            precision: self.arguments.run.precision,
            init: self.arguments.run.init.clone(),
        }
    }

    /// The pictures of the best setting of each optimizer.
    fn draw(&self, sweep: &Sweep, folder: &Path) -> Result<()> {
        let best = sweep.best();
        let steps: Vec<Vec<StepRecord>> = best.iter().map(|setting| setting.steps()).collect();
        let plotted = best.iter().zip(&steps).map(|(setting, steps)| Plotted {
            label: setting.label.clone(),
            emphasis: if setting.own {
                Emphasis::Main
            } else {
                Emphasis::Baseline
            },
            runs: std::slice::from_ref(steps),
        });
        let plotted: Vec<Plotted<'_>> = plotted.collect();
        let captions = Captions {
            title: format!("{}: the best setting of each optimizer", self.task.label()),
            subtitle: format!(
                "{}, means of {} seeds",
                self.data.description, self.arguments.sweep.seeds
            ),
            error_name: self.task.loss.error_name(),
        };
        charts::write(folder, &captions, &plotted)
    }
}

/// The steps with an evaluation.
fn evaluated(steps: Vec<StepRecord>) -> Vec<StepRecord> {
    steps
        .into_iter()
        .filter(|step| step.evaluation.is_some())
        .map(|step| StepRecord {
            kfac: None,
            preconditioned: None,
            ..step
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optimizers_come_with_rate_and_epochs_or_without() {
        let choice = |text: &str| text.parse::<OptimizerChoice>();
        let of = |optimizer, rate, epochs| {
            Ok(OptimizerChoice {
                optimizer,
                rate,
                epochs,
            })
        };
        assert_eq!(choice("muon"), of(Optimizer::Muon, None, None));
        assert_eq!(choice("sgd:0.1"), of(Optimizer::Sgd, Some(0.1), None));
        let front = of(Optimizer::PreconditionedSgd, Some(0.3), Some(6));
        assert_eq!(choice("preconditioned-sgd:0.3@6"), front);
        for text in ["", "sgd@", "sgd@0", "sgd@x", "sgd:0", "sgd:x@3", "adagrad"] {
            assert!(choice(text).is_err(), "{text}");
        }
    }
}
