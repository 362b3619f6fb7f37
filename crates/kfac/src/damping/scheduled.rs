//! A λ that is given for each iteration.

use std::fmt;

use super::lambda::{Evidence, LambdaRule, LambdaState, LambdaUpdate};

/// λ as a function of the iteration, counted from one.
///
/// # Example
///
/// ```
/// use kfac::damping::ScheduledLambda;
///
/// let rule = ScheduledLambda(|iteration: u64| 0.1 * 0.99f64.powf(iteration as f64));
/// # let _ = rule;
/// ```
#[derive(Clone, Copy)]
pub struct ScheduledLambda<F>(pub F);

impl<F> fmt::Debug for ScheduledLambda<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScheduledLambda")
    }
}

impl<F: Fn(u64) -> f64 + Send + Sync> LambdaRule for ScheduledLambda<F> {
    fn start(&self) -> LambdaState {
        LambdaState {
            lambda: self.0(1),
            starting: false,
        }
    }

    fn wants_evidence(&self, _state: LambdaState, _iteration: u64) -> bool {
        false
    }

    fn update(
        &self,
        state: LambdaState,
        iteration: u64,
        _evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        let lambda = self.0(iteration + 1);
        LambdaUpdate {
            state: LambdaState { lambda, ..state },
            action: None,
        }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_iteration_has_its_own_lambda() {
        let rule = ScheduledLambda(|iteration| 1.0 / iteration as f64);
        let mut state = rule.start();
        for iteration in 1..5 {
            assert!((state.lambda - 1.0 / iteration as f64).abs() < 1e-15);
            state = rule.update(state, iteration, None).state;
        }
    }
}
