//! Tikhonov damping of a Kronecker product (section 6.3).

use faer::Mat;
use serde::{Deserialize, Serialize};

use crate::linalg::host::Scalar;

/// How `γ` enters the blocks of the approximate Fisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DampingScheme {
    /// `(Ā + πγI) ⊗ (G + γ/π I)`: the paper's choice, often better than the exact form.
    FactoredTikhonov {
        /// The norm that balances the two factors.
        pi: PiNorm,
    },
    /// `Ā ⊗ G + γ² I`, applied in the eigenbases of the factors.
    ///
    /// Blocks that are no products are damped by `γ² I` in either scheme.
    ExactTikhonov,
}

impl DampingScheme {
    /// The eigenvalues of `Ā ⊗ G` from those of the factors, and the reciprocals of the damped ones.
    pub(super) fn spectra<E: Scalar>(
        self,
        (activation, gradient): (&[f64], &[f64]),
        (gamma, pi): (f64, f64),
    ) -> (Mat<E>, Mat<E>) {
        // Eigenvalues that rounding made negative are zero.
        let of = |i: usize, j: usize| (activation[i].max(0.0), gradient[j].max(0.0));
        let [rows, columns] = [activation.len(), gradient.len()];
        let eigenvalues = Mat::from_fn(rows, columns, |i, j| {
            let (a, g) = of(i, j);
            E::from_f64(a * g)
        });
        let reciprocals = Mat::from_fn(rows, columns, |i, j| {
            let (a, g) = of(i, j);
            E::from_f64(match self {
                Self::FactoredTikhonov { .. } => 1.0 / ((a + pi * gamma) * (g + gamma / pi)),
                Self::ExactTikhonov => 1.0 / (a * g + gamma * gamma),
            })
        });
        (eigenvalues, reciprocals)
    }
}

/// The norm in `π = √(‖Ā ⊗ I‖ / ‖I ⊗ G‖)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PiNorm {
    /// `π² = (tr Ā / dim Ā) / (tr G / dim G)`: the ratio of the mean eigenvalues.
    #[default]
    Trace,
    /// `π² = (‖Ā‖_F / √dim Ā) / (‖G‖_F / √dim G)`: the ratio of the root mean square eigenvalues.
    Frobenius,
    /// `π = 1`.
    One,
}

/// The balance `π` of the damping between two factors, given the size of each in the chosen norm.
///
/// A size that is zero (a dead layer), or not finite, has no balance: `π` is one then, so that a
/// zero factor is damped to `γI`.
///
/// # References
///
/// Martens and Grosse (2015), section 6.3, arXiv 1503.05671.
pub fn factored_pi(activation_size: f64, gradient_size: f64) -> f64 {
    let pi = (activation_size / gradient_size).sqrt();
    if pi.is_finite() && pi > 0.0 { pi } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_the_factors() {
        assert!((factored_pi(8.0, 2.0) - 2.0).abs() < 1e-15);
    }

    #[test]
    fn dead_factors_have_no_balance() {
        for (a, g) in [
            (0.0, 1.0),
            (1.0, 0.0),
            (0.0, 0.0),
            (f64::INFINITY, 1.0),
            (-1.0, 1.0),
        ] {
            assert!(
                (factored_pi(a, g) - 1.0).abs() < f64::EPSILON,
                "sizes {a}, {g}"
            );
        }
    }
}
