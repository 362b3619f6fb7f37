//! What a step changes besides the model.

use super::{
    averaging::IterateAverage, batch_growth::BatchGrowth, config::KfacConfig,
    model_cases::CaseSpread, refresh_pace::RefreshPace,
};
use crate::{
    capture::Origin,
    damping::LambdaState,
    engine::EngineState,
    network::{Layers, ParameterVector},
};

/// All that the next step starts from.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) engine: EngineState,
    pub(super) iteration: u64,
    pub(super) lambda: LambdaState,
    pub(super) gamma: f64,
    pub(super) previous_step: Option<ParameterVector>,
    /// What the running statistics of each call of a batch normalisation were before the first step.
    pub(super) origins: Vec<Origin>,
    /// The average of the iterates that a step has started from. The last one joins only when its
    /// objective turns out finite.
    pub(super) average: IterateAverage,
    /// The size of the batches.
    pub(super) growth: BatchGrowth,
    /// The cases of the quadratic model.
    pub(super) spread: CaseSpread,
    /// The refreshes of the inverse.
    pub(super) pace: RefreshPace,
    /// The objective before the first step.
    pub(super) first_objective: Option<f64>,
}

impl State {
    /// Before the first step.
    pub(super) fn new(config: &KfacConfig, lambda: LambdaState, layers: &Layers) -> Self {
        Self {
            growth: BatchGrowth::new(layers),
            spread: CaseSpread::default(),
            pace: RefreshPace::default(),
            engine: EngineState::default(),
            iteration: 0,
            lambda,
            gamma: config.gamma_of(lambda.lambda),
            previous_step: None,
            origins: Vec::new(),
            average: IterateAverage::new(config.averaging),
            first_objective: None,
        }
    }
}
