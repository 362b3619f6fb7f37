//! What a preconditioner carries from call to call.

use crate::{
    blocks::FactorRepair,
    damping::LambdaState,
    engine::{EngineState, Gathering},
};

/// What the calls of a preconditioner change.
#[derive(Clone, Debug)]
pub(in crate::optim) struct PreconditionerState {
    pub(super) engine: EngineState,
    /// Of the last refresh.
    pub(super) repairs: Vec<FactorRepair>,
    /// The observations so far.
    pub(super) observations: u64,
    /// The layers that the last batch did not reach.
    pub(super) unreached: Vec<String>,
    /// The batches of the observation under way; `None` where there are none, or where no statistics are due.
    pub(super) gathering: Option<Gathering>,
    /// λ for the observation under way, or the next one.
    pub(super) lambda: LambdaState,
    /// The cases of the last batch that statistics were taken from, whole.
    pub(super) cases: usize,
    /// The largest learning rate so far.
    pub(super) largest_rate: f64,
    /// The observation after which λ was last worked out.
    pub(super) judged: u64,
}

impl PreconditionerState {
    /// The state before the first observation.
    pub(in crate::optim) fn new(lambda: LambdaState) -> Self {
        Self {
            engine: EngineState::default(),
            repairs: Vec::new(),
            observations: 0,
            unreached: Vec::new(),
            gathering: None,
            lambda,
            cases: 0,
            largest_rate: 0.0,
            judged: 0,
        }
    }
}
