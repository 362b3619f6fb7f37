//! How λ finds its order of magnitude.

use super::lambda::{Evidence, LambdaRule, LambdaState, LambdaUpdate};

/// A rule for λ with a calibration before it: from its first value, λ falls to a quarter an iteration as
/// long as the reduction ratio ρ is above one.
///
/// Once it is not, or λ is below η, or after 20 such iterations, λ goes on by the other rule. Steps that tell
/// nothing, as at an optimum, leave λ and the calibration as they are.
///
/// With too much damping the quadratic model is little but damping, and predicts half the decrease
/// that comes: ρ is nearly two, and a large step down risks nothing. Each of these iterations costs a
/// forward pass and a refresh of the inverse more than usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibrated<R>(pub R);

/// Factor of λ in an iteration of the calibration.
const FACTOR: f64 = 0.25;

/// Iterations after which the calibration ends in any case: λ is then 10⁻¹² of what it was.
const MAX_ITERATIONS: i32 = 20;

impl<R: LambdaRule> LambdaRule for Calibrated<R> {
    fn start(&self) -> LambdaState {
        LambdaState {
            starting: true,
            ..self.0.start()
        }
    }

    fn wants_evidence(&self, state: LambdaState, iteration: u64) -> bool {
        state.starting || self.0.wants_evidence(state, iteration)
    }

    fn update(
        &self,
        state: LambdaState,
        iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        let update = self.0.update(state, iteration, evidence);
        if state.starting && evidence.is_some_and(|evidence| !evidence.tells()) {
            return LambdaUpdate { state, ..update };
        }
        // λ tells how often it has fallen; half a factor keeps rounding out of the comparison.
        let least = self.0.start().lambda * FACTOR.powi(MAX_ITERATIONS - 1) / FACTOR.sqrt();
        let calibrated = evidence
            .filter(|_| state.starting && state.lambda > least)
            .filter(|evidence| evidence.after.is_finite() && state.lambda > evidence.l2)
            .filter(|evidence| evidence.reduction_ratio() > 1.0);
        let state = match calibrated {
            Some(_) => LambdaState {
                lambda: state.lambda * FACTOR,
                starting: true,
            },
            None => LambdaState {
                starting: false,
                ..update.state
            },
        };
        LambdaUpdate { state, ..update }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        self.0.taken_back(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damping::LevenbergMarquardt;

    #[test]
    fn lambda_falls_while_the_model_is_little_but_damping() {
        let rule = Calibrated(LevenbergMarquardt {
            initial: 8.0,
            omega: 0.5,
            period: 5,
            bounds: [1e-9, 1e9],
        });
        let after = |lambda, after, iteration| {
            let state = LambdaState {
                lambda,
                starting: true,
            };
            let evidence = Evidence {
                before: 10.0,
                after,
                model_change: -1.0,
                l2: 1e-5,
                precision: 1e-7,
            };
            rule.update(state, iteration, Some(evidence)).state
        };
        let falls = after(8.0, 8.2, 1); // ρ = 1.8
        assert!((falls.lambda - 2.0).abs() < 1e-15 && falls.starting);
        for (lambda, objective, iteration) in [
            (8.0, 9.0, 1),      // the model is right
            (8.0, 13.0, 1),     // the objective rose
            (8.0, f64::NAN, 1), // or is not finite
            (8.0, f64::NEG_INFINITY, 1),
            (1e-5, 8.2, 1),                    // the penalty damps as much
            (8.0 * 0.25f64.powi(19), 8.2, 20), // long enough
        ] {
            let ends = after(lambda, objective, iteration);
            assert!(!ends.starting, "λ {lambda}, h {objective}, k {iteration}");
        }
    }

    #[test]
    fn a_settled_lambda_follows_the_other_rule() {
        let rule = Calibrated(LevenbergMarquardt {
            initial: 8.0,
            omega: 0.5,
            period: 5,
            bounds: [1e-9, 1e9],
        });
        let settled = LambdaState {
            lambda: 8.0,
            starting: false,
        };
        assert!(rule.wants_evidence(rule.start(), 1));
        assert!(!rule.wants_evidence(settled, 1));
        assert_eq!(rule.update(settled, 1, None).state, settled);
    }
}
