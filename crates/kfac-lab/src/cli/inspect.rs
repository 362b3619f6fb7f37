//! `kfac inspect`.

use std::path::PathBuf;

use anyhow::Result;

use super::resume::newest_checkpoint;
use crate::{inspect::Inspection, say::say, train::read_steps};

/// Tell what the newest checkpoint of a run holds: how far it came, its damping, and how well conditioned the factors
/// of each layer are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InspectArguments {
    /// The folder of the run
    folder: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl InspectArguments {
    pub(super) fn run(&self) -> Result<()> {
        let files = newest_checkpoint(&self.folder)?;
        let steps = read_steps(&self.folder).unwrap_or_default();
        let inspection = Inspection::new(&files, &steps)?;
        if self.json {
            say(serde_json::to_string_pretty(&inspection)?);
        } else {
            say(&inspection);
        }
        Ok(())
    }
}
