//! The Levenberg-Marquardt rule for λ (section 6.5).

use serde::{Deserialize, Serialize};

/// What the rule did to λ.
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

/// Adapts λ to how well the quadratic model predicted the change of the objective.
///
/// # Definition
///
/// ```text
/// ρ = (h(θ + δ) − h(θ)) / (M(δ) − M(0))
/// ρ > ¾: λ ← ω₁ λ     ρ < ¼, or h rose, or ρ is NaN: λ ← λ / ω₁
/// ```
///
/// # References
///
/// Martens and Grosse (2015), section 6.5, arXiv 1503.05671.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevenbergMarquardt {
    /// `ω₁`, the factor of one update, in `(0, 1)`.
    pub omega: f64,
}

impl LevenbergMarquardt {
    /// The action for an objective that went from `before` to `after` where the model predicted
    /// `model_change`, and the reduction ratio ρ.
    pub fn judge(before: f64, after: f64, model_change: f64) -> (f64, LambdaAction) {
        let ratio = (after - before) / model_change;
        // A model change of zero or above is no prediction; a rise of the loss is a failure of the
        // model whatever the sign of the ratio.
        let action = if after > before || !ratio.is_finite() || ratio < 0.25 {
            LambdaAction::Increase
        } else if ratio > 0.75 {
            LambdaAction::Decrease
        } else {
            LambdaAction::Keep
        };
        (ratio, action)
    }

    /// λ after an action.
    pub fn apply(self, lambda: f64, action: LambdaAction) -> f64 {
        match action {
            LambdaAction::Increase => (lambda / self.omega).min(f64::MAX),
            LambdaAction::Keep => lambda,
            LambdaAction::Decrease => lambda * self.omega,
        }
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
            (10.0, 10.0, 0.0, Increase), // 0/0
        ];
        for (before, after, change, expected) in script {
            let (_, action) = LevenbergMarquardt::judge(before, after, change);
            assert_eq!(action, expected, "{before} -> {after}, predicted {change}");
        }
    }

    #[test]
    fn updates_of_lambda() {
        let rule = LevenbergMarquardt { omega: 0.5 };
        assert!((rule.apply(8.0, LambdaAction::Decrease) - 4.0).abs() < 1e-15);
        assert!((rule.apply(8.0, LambdaAction::Increase) - 16.0).abs() < 1e-15);
        assert!((rule.apply(8.0, LambdaAction::Keep) - 8.0).abs() < 1e-15);
        assert!(rule.apply(f64::MAX, LambdaAction::Increase).is_finite());
    }
}
