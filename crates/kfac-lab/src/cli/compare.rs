//! `kfac compare`.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    options::{KfacArguments, RunArguments},
    sweep::SweepArguments,
    values::{count, positive},
};
use crate::compare::RivalChoice;

/// Train with K-FAC and its rivals from the same start for the same seconds.
///
/// Each rival runs with several settings; the pictures and the table have all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac compare curves --seconds 120           K-FAC against four settings each of NAG, SGD and Adam
  kfac compare digits --seconds 5 --rivals nag,adam:0.001 --seeds 3
  kfac compare mnist --rivals kfac-jax,torch-nag,torch-adam
  kfac compare fashion-lenet --full --epochs 10 --settings 4 --seeds 3
  kfac compare mnist --seconds 600 --rivals kfac-jax:500,torch-nag:0.02

kfac-jax and PyTorch run in Python: `peers/install` installs them in peers/.venv.")]
pub(super) struct CompareArguments {
    #[command(flatten)]
    pub(super) run: RunArguments,
    /// Seconds of training for each run, evaluations not counted
    #[arg(long, value_name = "S", default_value_t = 120.0, value_parser = positive, conflicts_with = "epochs")]
    pub(super) seconds: f64,
    /// Evaluations of each run after its start; those before its end are on a fixed sample of the cases where all
    /// would take longer than a tenth of the training
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = count::<u16>(), conflicts_with = "epochs")]
    pub(super) evaluations: u16,
    /// What to compare K-FAC with: any of nag, sgd, adam, kfac-jax, torch-nag, torch-adam
    ///
    /// Each runs with several learning rates (nag 0.05, 0.02, 0.01, 0.005; sgd 0.2, 0.1, 0.05, 0.02, all with
    /// momentum 0.9; adam 0.003, 0.001, 0.0003, 0.0001), kfac-jax, with the settings of its autoencoder example, with
    /// batches of 500, 1000 and 4000 cases. NAME:SETTING runs it with one.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nag,sgd,adam",
        conflicts_with = "epochs"
    )]
    pub(super) rivals: Vec<RivalChoice>,
    /// Folder of the Python programs
    #[arg(long, value_name = "FOLDER", default_value = "peers")]
    pub(super) peers: PathBuf,
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    #[command(flatten)]
    pub(super) kfac: KfacArguments,
}

impl CompareArguments {
    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        match self.sweep.epochs {
            Some(epochs) => self.run_sweep(epochs),
            None => self.run_contest(),
        }
    }
}
