//! `kfac compare`.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use super::{
    options::{KfacArguments, RunArguments},
    train::run,
};
use crate::{
    charts::{self, Captions, Plotted},
    methods::MethodConfig,
    plot::Emphasis,
    task::{Task, TaskData},
    train::{EvaluateEvery, Limit, Outcome, RunFolder, TrainOptions, output_folder},
};

/// Train with K-FAC and its rivals from the same start for the same seconds.
///
/// Each rival runs with four settings; the pictures and the table have all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac compare curves --seconds 120           K-FAC against four settings of NAG
  kfac compare digits --seconds 5 --rivals nag,adam,sgd")]
pub(super) struct CompareArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Seconds of training for each method, evaluations not counted
    #[arg(long, value_name = "S", default_value_t = 120.0)]
    seconds: f64,
    /// What to compare K-FAC with
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Rival::Nag])]
    rivals: Vec<Rival>,
    #[command(flatten)]
    kfac: KfacArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rival {
    /// Nesterov's accelerated gradient, rates 0.05, 0.02, 0.01, 0.005
    Nag,
    /// Adam, rates 0.003, 0.001, 0.0003, 0.0001
    Adam,
    /// SGD with momentum 0.9, rates 0.2, 0.1, 0.05, 0.02
    Sgd,
}

impl Rival {
    fn methods(self, l2: f64) -> [MethodConfig; 4] {
        match self {
            Self::Nag => [0.05, 0.02, 0.01, 0.005].map(|rate| MethodConfig::Nag {
                rate,
                max_momentum: 0.99,
                l2,
            }),
            Self::Adam => {
                [0.003, 0.001, 0.0003, 0.0001].map(|rate| MethodConfig::Adam { rate, l2 })
            }
            Self::Sgd => [0.2, 0.1, 0.05, 0.02].map(|rate| MethodConfig::Sgd {
                rate,
                momentum: 0.9,
                l2,
            }),
        }
    }
}

/// Evaluations of each run.
const EVALUATIONS: f64 = 40.0;

impl CompareArguments {
    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        let task = self.run.task();
        let data = self.run.load(&task)?;
        let name = format!("{}-compare", task.label());
        let folder = output_folder(self.run.out.as_deref(), &name)?;
        let kfac = MethodConfig::Kfac(Box::new(self.kfac.config(&task, self.run.seed)));
        let rivals = self.rivals.iter().flat_map(|rival| rival.methods(task.l2));
        let mut outcomes = Vec::new();
        for method in std::iter::once(kfac).chain(rivals) {
            let label = method.label();
            println!("{label}: {} s", self.seconds);
            let outcome = self.train(&task, &data, method, &folder)?;
            outcomes.push((label, outcome));
        }
        self.draw(&task, &outcomes, &folder)?;
        print_table(&outcomes);
        println!("run folder: {}", folder.display());
        Ok(())
    }

    fn train(
        &self,
        task: &Task,
        data: &TaskData,
        method: MethodConfig,
        parent: &Path,
    ) -> Result<Outcome> {
        let options = TrainOptions {
            task: task.clone(),
            schedule: method.schedule(task),
            limit: Limit {
                iterations: None,
                seconds: Some(self.seconds),
            },
            evaluate: EvaluateEvery::Seconds(self.seconds / EVALUATIONS),
            seed: self.run.seed,
            precision: self.run.precision,
            init: self.run.init.clone(),
            method,
        };
        let name = options
            .method
            .label()
            .replace(", ", "-")
            .replace(' ', "-")
            .to_lowercase();
        let mut folder = RunFolder::create(Some(&parent.join(name)), "")?;
        run(&options, data, &mut folder)
    }

    fn draw(&self, task: &Task, outcomes: &[(String, Outcome)], folder: &Path) -> Result<()> {
        let runs: Vec<Plotted<'_>> = outcomes
            .iter()
            .enumerate()
            .map(|(index, (label, outcome))| Plotted {
                label: label.clone(),
                emphasis: if index == 0 {
                    Emphasis::Main
                } else {
                    Emphasis::Baseline
                },
                steps: &outcome.steps,
            })
            .collect();
        let captions = Captions {
            title: format!("{}: training error of K-FAC and its rivals", task.label()),
            subtitle: format!(
                "{} s of training each, {} threads, seed {}",
                self.seconds,
                rayon::current_num_threads(),
                self.run.seed
            ),
            error_name: task.loss.error_name(),
        };
        charts::write(folder, &captions, &runs)
    }
}

fn print_table(outcomes: &[(String, Outcome)]) {
    println!(
        "\n{:28}{:>10}{:>9}{:>12}{:>15}{:>12}",
        "method", "steps", "seconds", "objective", "training error", "test error"
    );
    for (label, outcome) in outcomes {
        let summary = &outcome.summary;
        if let Some(last) = summary.last {
            println!(
                "{label:28}{:>10}{:>9.1}{:>12.4}{:>15.5}{:>12.5}",
                summary.iterations,
                summary.seconds,
                last.train_objective,
                last.train_error,
                last.test_error
            );
        }
    }
}
