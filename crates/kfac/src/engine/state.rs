//! What the engine carries from batch to batch.

use super::refresh::RefreshAhead;
use crate::{
    blocks::{FactorSet, RunningFactors},
    inverse::FisherInverse,
};

/// All that the engine's next call starts from.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineState {
    /// The running estimates.
    pub(crate) statistics: RunningFactors,
    /// The inverse in use; `None` before the first.
    pub(crate) inverse: Option<FisherInverse>,
    /// The next inverse under way.
    pub(crate) ahead: Option<RefreshAhead>,
}

impl EngineState {
    /// The running estimates of the layers' blocks; empty before the first batch.
    pub(crate) fn factors(&self) -> &FactorSet {
        &self.statistics.factors
    }
}
