//! What the engine carries from batch to batch.

use crate::{
    blocks::{FactorSet, RunningFactors},
    inverse::{DampedInverse, FisherInverse, PreparedFactors},
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

/// A refresh under way: inverses that are made before they take effect.
#[derive(Clone, Debug)]
pub(crate) struct RefreshAhead {
    /// The factors at its beginning.
    pub(super) factors: PreparedFactors,
    /// The candidates.
    pub(super) gammas: Vec<f64>,
    /// The inverses of the first of them.
    pub(super) inverses: Vec<DampedInverse>,
}
