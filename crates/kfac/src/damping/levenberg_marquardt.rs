//! The Levenberg-Marquardt rule for λ (section 6.5).

use super::lambda::{Evidence, LambdaAction, LambdaRule, LambdaState, LambdaUpdate};

/// Adapts λ to how well the quadratic model predicted the change of the objective.
///
/// # Definition
///
/// Every `period` iterations
///
/// ```text
/// ρ = (h(θ + δ) − h(θ)) / (M(δ) − M(0))
/// ρ > ¾: λ ← ω₁ λ     ρ < ¼, or h rose, or ρ is NaN: λ ← λ / ω₁
/// ```
///
/// λ stays as it is where both changes are smaller than the rounding error of the objective, and within the
/// bounds.
///
/// # References
///
/// Martens and Grosse (2015), section 6.5, arXiv 1503.05671.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevenbergMarquardt {
    /// λ before the first step.
    pub initial: f64,
    /// `ω₁`, the factor of one update, in `(0, 1)`.
    pub omega: f64,
    /// `T₁`, iterations between updates, at least one.
    pub period: u64,
    /// The least and the largest value of λ. A λ beyond them stays until the rule moves it back.
    pub bounds: [f64; 2],
}

impl LevenbergMarquardt {
    /// How a step is judged.
    pub fn judge(evidence: Evidence) -> LambdaAction {
        if !evidence.tells() {
            return LambdaAction::Keep;
        }
        let ratio = evidence.reduction_ratio();
        // A model change of zero or above is no prediction; a rise of the loss is a failure of the
        // model whatever the sign of the ratio.
        if evidence.after > evidence.before || !ratio.is_finite() || ratio < 0.25 {
            LambdaAction::Increase
        } else if ratio > 0.75 {
            LambdaAction::Decrease
        } else {
            LambdaAction::Keep
        }
    }

    /// λ after an action.
    pub fn apply(self, lambda: f64, action: LambdaAction) -> f64 {
        let [least, most] = self.bounds;
        match action {
            LambdaAction::Increase => (lambda / self.omega).min(lambda.max(most)),
            LambdaAction::Keep => lambda,
            LambdaAction::Decrease => (lambda * self.omega).max(lambda.min(least)),
        }
    }
}

impl LambdaRule for LevenbergMarquardt {
    fn start(&self) -> LambdaState {
        LambdaState {
            lambda: self.initial,
            starting: false,
        }
    }

    fn wants_evidence(&self, _state: LambdaState, iteration: u64) -> bool {
        iteration.is_multiple_of(self.period)
    }

    fn update(
        &self,
        state: LambdaState,
        _iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        let action = evidence.map(Self::judge);
        let lambda = action.map_or(state.lambda, |action| self.apply(state.lambda, action));
        LambdaUpdate {
            state: LambdaState { lambda, ..state },
            action,
        }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        let lambda = self.apply(state.lambda, LambdaAction::Increase);
        LambdaState { lambda, ..state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripted_ratios() {
        use LambdaAction::{Decrease, Increase, Keep};
        let script = [
            (10.0, 9.0, -1.0, Decrease),      // ρ = 1
            (10.0, 9.25, -1.0, Keep),         // ρ = 0.75 exactly: strict comparison
            (10.0, 9.5, -1.0, Keep),          // ρ = 0.5
            (10.0, 9.75, -1.0, Keep),         // ρ = 0.25 exactly
            (10.0, 9.9, -1.0, Increase),      // ρ = 0.1
            (10.0, 11.0, -1.0, Increase),     // the loss rose
            (10.0, 11.0, 1.0, Increase),      // ... although the ratio is one
            (10.0, f64::NAN, -1.0, Increase), // not a number
            (10.0, f64::INFINITY, -1.0, Increase),
            (10.0, 8.0, -1.0, Decrease), // ρ = 2, the regime of large damping
            (10.0, 10.0, -1.0, Increase), // equal, where a decrease was predicted
            (10.0, 10.0, 0.0, Keep),     // 0/0: an optimum
            (10.0, 10.0 + 1e-7, -1e-7, Keep), // below rounding
            (10.0, 10.0 + 1e-5, -1e-7, Increase),
            (0.0, 0.0, 0.0, Keep),
            (0.0, 1e-30, -1e-30, Increase),
        ];
        for (before, after, model_change, expected) in script {
            let action = LevenbergMarquardt::judge(Evidence {
                before,
                after,
                model_change,
                l2: 0.0,
                precision: 1e-7,
            });
            assert_eq!(
                action, expected,
                "{before} -> {after}, predicted {model_change}"
            );
        }
    }

    #[test]
    fn updates_of_lambda() {
        let rule = LevenbergMarquardt {
            initial: 150.0,
            omega: 0.5,
            period: 5,
            bounds: [1.0, 16.0],
        };
        assert!((rule.apply(8.0, LambdaAction::Decrease) - 4.0).abs() < 1e-15);
        assert!((rule.apply(8.0, LambdaAction::Increase) - 16.0).abs() < 1e-15);
        assert!((rule.apply(8.0, LambdaAction::Keep) - 8.0).abs() < 1e-15);
        for (from, action, to) in [
            (10.0, LambdaAction::Increase, 16.0),
            (16.0, LambdaAction::Increase, 16.0),
            (20.0, LambdaAction::Increase, 20.0),
            (20.0, LambdaAction::Decrease, 10.0),
            (1.5, LambdaAction::Decrease, 1.0),
            (0.5, LambdaAction::Decrease, 0.5),
            (0.5, LambdaAction::Increase, 1.0),
        ] {
            assert!(
                (rule.apply(from, action) - to).abs() < 1e-15,
                "{from} {action:?}"
            );
        }
        let wanted = (1..=10).filter(|k| rule.wants_evidence(rule.start(), *k));
        assert_eq!(wanted.collect::<Vec<_>>(), [5, 10]);
    }
}
