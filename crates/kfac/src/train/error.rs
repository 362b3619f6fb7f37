//! What ends a learner's training.

use burn::{data::dataset::DatasetError, train::Interrupter};

use crate::{engine::InitError, error::StepError};

/// Why a training was stopped.
///
/// `LearningResult::error` is [`TrainingError::Dataset`](burn::train::TrainingError::Dataset) then, the one variant
/// that carries any error: this one is the source of its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnerError {
    /// The optimizer could not be made for the model.
    #[error("the K-FAC optimizer was not made: {0}")]
    Init(#[from] InitError),
    /// A batch was refused.
    #[error("K-FAC refused a batch: {0}")]
    Step(#[from] StepError),
    /// The learner accumulates gradients, of which [`KfacStrategy`](super::KfacStrategy) has none.
    #[error("K-FAC does not accumulate gradients: make the batches larger")]
    Accumulation,
}

impl LearnerError {
    /// Stops the training after the item at hand.
    pub(super) fn stop(self, interrupter: &Interrupter) {
        interrupter.fail(DatasetError::new(self));
    }
}
