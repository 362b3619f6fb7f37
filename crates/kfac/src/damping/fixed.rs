//! A λ that stays.

use super::lambda::{Evidence, LambdaRule, LambdaState, LambdaUpdate};

/// The same λ in every step. It asks for no objective after a step, so a step to where that is not finite, unless
/// it is a long one, is only noticed by the next one, which takes it back. A λ that is too small then does so again and
/// again: the reports say that every other step was taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedLambda(pub f64);

impl LambdaRule for FixedLambda {
    fn start(&self) -> LambdaState {
        LambdaState {
            lambda: self.0,
            starting: false,
        }
    }

    fn wants_evidence(&self, _state: LambdaState, _iteration: u64) -> bool {
        false
    }

    fn update(
        &self,
        state: LambdaState,
        _iteration: u64,
        _evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        LambdaUpdate {
            state,
            action: None,
        }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        state
    }
}
