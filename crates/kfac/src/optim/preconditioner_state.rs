//! What a preconditioner carries from call to call.

use crate::{blocks::FactorRepair, engine::EngineState};

/// What a call of `observe` changes.
#[derive(Clone, Debug, Default)]
pub(super) struct PreconditionerState {
    pub(super) engine: EngineState,
    /// Of the last refresh.
    pub(super) repairs: Vec<FactorRepair>,
    /// The calls so far.
    pub(super) observations: u64,
    /// The layers that the last batch did not reach.
    pub(super) unreached: Vec<String>,
}
