//! What a checkpoint has of a run besides model and method.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{RunConfig, batches::BatchPosition, best::Best};
use crate::{
    checkpoint::{CheckpointFiles, RUN},
    task::{Rows, TaskData},
};

/// The run that a checkpoint is of, and how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunPoint {
    /// The run.
    pub config: RunConfig,
    /// How far it came.
    pub state: RunState,
}

/// How far a run came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunState {
    /// Iterations so far.
    pub iteration: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// When the next evaluation is due.
    pub(super) next_evaluation: f64,
    pub(super) best: Best,
    pub(super) batches: BatchPosition,
    /// Tells the data from others.
    pub(super) data: String,
}

impl RunPoint {
    /// That of a checkpoint.
    ///
    /// # Errors
    /// Where it has none that this version can read.
    pub fn of(files: &CheckpointFiles) -> Result<Self> {
        let file = files.get(RUN)?;
        serde_json::from_slice(file).map_err(|error| {
            anyhow::anyhow!(
                "{}: {RUN} is of another version of the command: {error}",
                files.folder().display()
            )
        })
    }

    /// Refuses data that are not those of the run.
    ///
    /// # Errors
    /// Where they differ.
    pub fn check_data(&self, data: &TaskData) -> Result<()> {
        if data_checksum(data) != self.state.data {
            bail!(
                "the run was made with other data than those in {}, {}: restore them, or give their folder with \
                 --data",
                self.config.source.folder.display(),
                data.description
            );
        }
        Ok(())
    }
}

/// A number that tells the cases that are trained on from others.
pub(super) fn data_checksum(data: &TaskData) -> String {
    let mut hash = Xxh3::new();
    let Rows {
        inputs, targets, ..
    } = &data.train;
    hash.update(bytemuck::cast_slice(inputs));
    hash.update(bytemuck::cast_slice(targets.as_deref().unwrap_or_default()));
    format!("{:032x}", hash.digest128())
}
