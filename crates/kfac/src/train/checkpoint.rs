//! Records of the optimizers as checkpoints of burn-train.

use std::path::PathBuf;

use burn::{
    store::RecordError,
    tensor::Bytes,
    train::checkpoint::{Checkpoint, CheckpointerError},
};

use crate::record::{LoadError, OptimizerRecord};

/// The end of a checkpoint's name, as that of Burn's own records.
const EXTENSION: &str = "bpk";

impl Checkpoint for OptimizerRecord {
    fn save(self, path: PathBuf) -> Result<(), CheckpointerError> {
        Self::save(self, named(path)).map_err(unreadable)
    }

    fn load(path: PathBuf) -> Result<Self, CheckpointerError> {
        Self::load(named(path)).map_err(unreadable)
    }

    fn checkpoint_from_bytes(bytes: Bytes) -> Result<Self, RecordError> {
        Self::from_bytes(bytes).map_err(invalid)
    }

    fn checkpoint_into_bytes(self) -> Result<Bytes, RecordError> {
        self.into_bytes().map_err(invalid)
    }
}

fn named(path: PathBuf) -> PathBuf {
    if path.extension().is_some() {
        path
    } else {
        path.with_extension(EXTENSION)
    }
}

fn unreadable(error: LoadError) -> CheckpointerError {
    CheckpointerError::Record(invalid(error))
}

fn invalid(error: LoadError) -> RecordError {
    RecordError::Validation(error.to_string())
}
