//! `kfac bench`.

use anyhow::Result;

use super::{
    options::{KfacArguments, RunArguments},
    values::count,
};
use crate::{
    bench::{self, BenchOptions},
    files,
    say::say,
    task::Task,
    train::output_folder,
};

/// Measure a step of SGD and of K-FAC with both inverses, phase by phase.
///
/// Each phase's time stands beside the arithmetic that it needs (section 8 of the paper) and the rate of
/// a plain matrix product measured in the same run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac bench mnist                      batches of 1000 and 4000
  kfac bench curves --batch 1000 --rounds 3
  kfac bench lenet                      K-FAC in front of another optimizer; also resnet20, encoder

Stop other work first: the figures are those of an idle machine.")]
pub(super) struct BenchArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Cases of a batch, one table each [default: 1000,4000, of convolutional and transformer classifiers 256]
    #[arg(long, value_name = "M", value_delimiter = ',', value_parser = count::<usize>())]
    batch: Vec<usize>,
    /// Rounds of one period, 20 steps, each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count::<u16>())]
    rounds: u16,
    #[command(flatten)]
    kfac: KfacArguments,
}

impl BenchArguments {
    fn batches(&self, task: &Task) -> Vec<usize> {
        match self.batch.as_slice() {
            [] if task.is_classifier() => vec![256],
            [] => vec![1000, 4000],
            asked => asked.to_vec(),
        }
    }

    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        let task = self.kfac.task(self.run.task());
        let data = self.run.load(&task)?;
        let options = BenchOptions {
            batches: self.batches(&task),
            rounds: usize::from(self.rounds),
            kfac: self.kfac.config(&task, self.run.seed),
            seed: self.run.seed,
            precision: self.run.precision,
            task,
        };
        let label = format!("{}-bench", options.task.label());
        let folder = output_folder(self.run.out.as_deref(), &label)?;
        let bench = bench::run(&options, &data)?;
        say(&bench);
        let path = folder.join("bench.json");
        files::write_json(&path, &bench)?;
        say(format_args!("\nthe same as JSON: {}", path.display()));
        Ok(())
    }
}
