//! What a rule for λ decides.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::error::StepError;

/// How λ, the damping of the quadratic model, goes on from step to step.
///
/// The built-in rules are [`LevenbergMarquardt`](super::LevenbergMarquardt) (the paper's),
/// [`Calibrated`](super::Calibrated) (how another rule starts), [`FixedLambda`](super::FixedLambda) and
/// [`ScheduledLambda`](super::ScheduledLambda). A rule holds settings only; what changes is in
/// [`LambdaState`], so that a step can be refused and a run resumed.
pub trait LambdaRule: Debug + Send + Sync {
    /// λ before the first step.
    fn start(&self) -> LambdaState;

    /// Whether [`update`](Self::update) wants evidence in an iteration, counted from one: the objective
    /// is then evaluated once more, after the step.
    fn wants_evidence(&self, state: LambdaState, iteration: u64) -> bool;

    /// λ after an iteration, with evidence where it was wanted, and of a long step that is not taken because it
    /// would lead astray.
    fn update(
        &self,
        state: LambdaState,
        iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate;

    /// λ after a step that led to where the objective is not finite, and that was taken back.
    fn taken_back(&self, state: LambdaState) -> LambdaState;
}

/// Refuses what a rule of the user's own may have made of λ.
pub(crate) fn check_lambda(lambda: f64) -> Result<(), StepError> {
    if lambda.is_finite() && lambda >= 0.0 {
        Ok(())
    } else {
        Err(StepError::Lambda { lambda })
    }
}

/// λ, and whether it has settled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LambdaState {
    /// λ.
    pub lambda: f64,
    /// Whether λ is still on its way from a first guess. As long as it is, the inverse is refreshed in
    /// every iteration, and γ follows λ as `√(λ + η)`.
    pub starting: bool,
}

/// What a step tells about the quadratic model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The objective before the step.
    pub before: f64,
    /// The objective after it.
    pub after: f64,
    /// What the quadratic model predicted of their difference.
    pub model_change: f64,
    /// η, the weight of the penalty, which damps like λ.
    pub l2: f64,
    /// The relative error to which the objective is known, that of the parameters' precision.
    pub precision: f64,
}

impl Evidence {
    /// Whether the step can tell anything: a change that is smaller than the error of the objective says
    /// nothing about the model that predicted it, which is so at an optimum.
    pub fn tells(&self) -> bool {
        let error = self.precision * self.before.abs();
        let within = |change: f64| change.abs() <= error;
        !(within(self.model_change) && within(self.after - self.before))
    }

    /// The reduction ratio `ρ = (h(θ + δ) − h(θ)) / (M(δ) − M(0))`.
    pub fn reduction_ratio(&self) -> f64 {
        (self.after - self.before) / self.model_change
    }
}

/// λ after an iteration, and what the rule did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LambdaUpdate {
    /// λ from now on.
    pub state: LambdaState,
    /// How the step was judged, where it was.
    pub action: Option<LambdaAction>,
}

/// What a rule did to λ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LambdaAction {
    /// The model was poor, or the loss rose: λ grew.
    Increase,
    /// The model was neither good nor poor.
    Keep,
    /// The model was good: λ shrank.
    Decrease,
}
