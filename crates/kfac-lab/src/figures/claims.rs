//! The numbers, and what they say of the paper's qualitative claims.

use std::fmt;

use faer::Mat;
use serde::Serialize;

use super::{approximations::Approximations, moments::Moments};
use crate::text_table::NumberTable;

/// A claim of sections 3 and 4, and whether the numbers support it.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// The claim.
    pub text: &'static str,
    /// What it is judged by.
    pub numbers: String,
    /// Whether it holds.
    pub holds: bool,
}

/// How many claims there are; in the type, where none of them can get lost unnoticed.
pub const CLAIMS: usize = 6;

/// Relative errors by the distance of the two layers: `‖X − Y‖ / ‖Y‖` (Frobenius) over the blocks at
/// that distance, the diagonal blocks first.
pub type Bands = Vec<f64>;

/// How well the approximations approximate.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// `Σ |F − F̃|` over all pairs of weights.
    pub total_error: f64,
    /// `Σ` of the absolute cumulants that bound it.
    pub cumulant_bound: f64,
    /// `F̃` against `F`.
    pub factored_against_exact: Bands,
    /// The same over all blocks.
    pub factored_against_exact_total: f64,
    /// How much of `F̃` lies at each distance: `‖band‖² / ‖F̃‖²`.
    pub factored_by_distance: Bands,
    /// The same of its inverse.
    pub inverse_by_distance: Bands,
    /// `F̂` against `F̃`.
    pub tridiagonal_against_factored: Bands,
    /// `F̌⁻¹` against `F̃⁻¹`.
    pub diagonal_inverse: Bands,
    /// The same over all blocks.
    pub diagonal_inverse_total: f64,
    /// `F̂⁻¹` against `F̃⁻¹`.
    pub tridiagonal_inverse: Bands,
    /// The same over all blocks.
    pub tridiagonal_inverse_total: f64,
}

impl Evidence {
    pub(super) fn new(moments: &Moments, matrices: &Approximations) -> Self {
        let size = matrices.layer_size;
        let Approximations {
            exact,
            factored,
            damped,
            inverse,
            diagonal_inverse,
            tridiagonal_inverse,
            ..
        } = matrices;
        let bands = |found, expected| relative_bands(found, expected, size);
        Self {
            total_error: (exact - factored).norm_l1(),
            cumulant_bound: moments.cumulants().iter().map(Mat::norm_l1).sum(),
            factored_against_exact: bands(factored, exact),
            factored_against_exact_total: relative(factored, exact),
            factored_by_distance: shares(damped, size),
            inverse_by_distance: shares(inverse, size),
            tridiagonal_against_factored: bands(&matrices.tridiagonal, damped),
            diagonal_inverse: bands(diagonal_inverse, inverse),
            diagonal_inverse_total: relative(diagonal_inverse, inverse),
            tridiagonal_inverse: bands(tridiagonal_inverse, inverse),
            tridiagonal_inverse_total: relative(tridiagonal_inverse, inverse),
        }
    }

    /// The claims, one by one.
    pub fn claims(&self) -> [Claim; CLAIMS] {
        let beyond = |shares: &[f64]| shares.iter().skip(2).sum::<f64>();
        let (outside, inverse_outside) = (
            beyond(&self.factored_by_distance),
            beyond(&self.inverse_by_distance),
        );
        let far = self.tridiagonal_against_factored.iter().skip(2);
        let far = far.fold(0.0, |worst: f64, error| worst.max(*error));
        [
            Claim {
                text: "F-tilde is a good approximation of F",
                numbers: format!(
                    "relative error {:.3}, the same within the cumulant bound: {:.1} of {:.1}",
                    self.factored_against_exact_total, self.total_error, self.cumulant_bound
                ),
                holds: self.factored_against_exact_total < 0.5
                    && self.total_error <= self.cumulant_bound,
            },
            Claim {
                text: "the inverse of F-tilde is close to block-tridiagonal, though F-tilde is not",
                numbers: format!(
                    "{:.2} % of the inverse's squared norm lie off the block tridiagonal, {:.2} % of \
                     F-tilde's",
                    100.0 * inverse_outside,
                    100.0 * outside
                ),
                holds: inverse_outside < 0.1 * outside,
            },
            Claim {
                text: "F-hat reproduces the blocks off the tridiagonal well",
                numbers: format!("largest relative error of a distance {far:.3}"),
                holds: far < 0.5,
            },
            Claim {
                text: "the inverse of F-breve is a reasonable approximation of that of F-tilde",
                numbers: format!("relative error {:.3}", self.diagonal_inverse_total),
                holds: self.diagonal_inverse_total < 1.0,
            },
            Claim {
                text: "the inverse of F-hat is clearly better",
                numbers: format!("relative error {:.3}", self.tridiagonal_inverse_total),
                holds: self.tridiagonal_inverse_total < 0.5 * self.diagonal_inverse_total,
            },
            Claim {
                text: "even on the diagonal blocks",
                numbers: format!(
                    "{:.3} against {:.3}",
                    self.tridiagonal_inverse[0], self.diagonal_inverse[0]
                ),
                holds: self.tridiagonal_inverse[0] < self.diagonal_inverse[0],
            },
        ]
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = NumberTable::new(["distance of the layers", "0", "1", "2", "3"]);
        for (name, bands) in [
            ("F-tilde against F", &self.factored_against_exact),
            ("F-hat against F-tilde", &self.tridiagonal_against_factored),
            (
                "inverse of F-breve against F-tilde's",
                &self.diagonal_inverse,
            ),
            (
                "inverse of F-hat against F-tilde's",
                &self.tridiagonal_inverse,
            ),
            ("share of F-tilde", &self.factored_by_distance),
            ("share of its inverse", &self.inverse_by_distance),
        ] {
            let numbers = bands.iter().map(|value| format!("{value:.4}"));
            table.add([name.to_owned()].into_iter().chain(numbers));
        }
        write!(f, "{table}")
    }
}

/// The blocks at each distance, as squared Frobenius norms.
fn squares(matrix: &Mat<f64>, size: usize) -> Vec<f64> {
    let layers = matrix.nrows() / size;
    let mut squares = vec![0.0; layers];
    for i in 0..layers {
        for j in 0..layers {
            let block = matrix.submatrix(i * size, j * size, size, size);
            squares[i.abs_diff(j)] += block.squared_norm_l2();
        }
    }
    squares
}

fn relative_bands(found: &Mat<f64>, expected: &Mat<f64>, size: usize) -> Bands {
    let errors = squares(&(found - expected), size);
    let sizes = squares(expected, size);
    errors
        .iter()
        .zip(sizes)
        .map(|(error, size)| (error / size).sqrt())
        .collect()
}

fn relative(found: &Mat<f64>, expected: &Mat<f64>) -> f64 {
    (found - expected).norm_l2() / expected.norm_l2()
}

fn shares(matrix: &Mat<f64>, size: usize) -> Bands {
    let total = matrix.squared_norm_l2();
    squares(matrix, size)
        .into_iter()
        .map(|square| square / total)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_count_each_block_once() {
        let matrix = Mat::from_fn(6, 6, |i, j| (i * 6 + j) as f64);
        let total: f64 = squares(&matrix, 2).iter().sum();
        assert!((total - matrix.squared_norm_l2()).abs() < 1e-9);
        let tridiagonal = Mat::from_fn(6, 6, |i, j| {
            f64::from(u8::from((i / 2).abs_diff(j / 2) < 2))
        });
        let shares = shares(&tridiagonal, 2);
        assert!((shares[0] - 3.0 / 7.0).abs() < 1e-15 && shares[2].abs() < 1e-15);
    }

    #[test]
    fn errors_are_relative_to_what_is_expected() {
        let expected = Mat::<f64>::full(4, 4, 2.0);
        let bands = relative_bands(&Mat::full(4, 4, 3.0), &expected, 2);
        assert!(bands.iter().all(|error| (error - 0.5).abs() < 1e-15));
    }
}
