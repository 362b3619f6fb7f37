//! `kfac export-problem`.

use anyhow::Result;

use super::options::RunArguments;
use crate::say::say;
use crate::{
    export::{self, ExportOptions},
    train::output_folder,
};

/// Write network, loss, data and initial weights to files for other programs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The folder holds problem.json and NumPy files: init.npy (for each layer W, row-major, out x in, then b),
train_inputs.npy and test_inputs.npy, and ..._targets.npy where the targets are not the inputs. The
programs in peers/ read it.")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    run: RunArguments,
}

impl ExportArguments {
    pub(super) fn run(&self) -> Result<()> {
        let options = ExportOptions {
            task: self.run.task(),
            init: self.run.init.clone(),
            seed: self.run.seed,
        };
        let data = self.run.load(&options.task)?;
        let label = format!("{}-problem", options.task.label());
        let folder = output_folder(self.run.out.as_deref(), &label)?;
        export::write(&options, &data, &folder)?;
        say(format_args!("problem: {}", folder.display()));
        Ok(())
    }
}
