//! How λ and γ start.

use serde::{Deserialize, Serialize};

/// How λ finds the order of magnitude that suits the problem.
///
/// The paper starts from a large λ, and its rule (section 6.5) brings it down by a factor of 0.95 an
/// iteration at most: a hundred iterations and more where the problem wants a small one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DampingStart {
    /// λ starts at `initial_lambda` and only the rule changes it; γ starts at `√(λ + η)` and only the
    /// search changes it. The paper's way.
    Fixed,
    /// From `initial_lambda`, λ falls to a quarter an iteration, and γ follows as `√(λ + η)`, as long as
    /// the reduction ratio ρ is above one. Once it is not, or λ is below η, or after 20 iterations, λ and
    /// γ go on as with `Fixed`.
    ///
    /// With too much damping the quadratic model is little but damping, and predicts half the decrease
    /// that comes: ρ is nearly two, and a large step down risks nothing. Each of these iterations costs a
    /// forward pass and a refresh of the inverse more than usual.
    #[default]
    Calibrated,
}

/// Factor of λ in an iteration of the calibration.
const FACTOR: f64 = 0.25;

/// Iterations after which the calibration ends in any case: λ is then 10⁻¹² of what it was.
const MAX_ITERATIONS: u64 = 20;

/// λ after an iteration of the calibration, or `None` where that ends.
pub(crate) fn calibrated_lambda(
    lambda: f64,
    reduction_ratio: f64,
    (iteration, l2): (u64, f64),
) -> Option<f64> {
    let too_large = reduction_ratio > 1.0 && lambda > l2;
    (too_large && iteration < MAX_ITERATIONS).then_some(lambda * FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambda_falls_while_the_model_is_little_but_damping() {
        let after = |lambda, ratio, iteration| calibrated_lambda(lambda, ratio, (iteration, 1e-5));
        assert!(after(8.0, 1.8, 1).is_some_and(|lambda| (lambda - 2.0).abs() < 1e-15));
        for (lambda, ratio, iteration) in [
            (8.0, 1.0, 1),      // the model is right
            (8.0, -3.0, 1),     // the objective rose
            (8.0, f64::NAN, 1), // or is not finite
            (1e-5, 1.8, 1),     // the penalty damps as much
            (8.0, 1.8, 20),     // long enough
        ] {
            assert_eq!(after(lambda, ratio, iteration), None);
        }
    }
}
