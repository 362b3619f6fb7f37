//! Symmetric eigendecompositions, and the pseudo-inverse of the tiny systems of section 7.

use faer::{Mat, Side};

use super::{faults, host::Scalar};

/// Eigenvalues (ascending) and orthonormal eigenvectors (columns) of a symmetric matrix.
#[derive(Clone, Debug)]
pub(crate) struct Eigendecomposition<E> {
    /// The eigenvalues, in ascending order.
    pub values: Vec<f64>,
    /// The eigenvectors as columns, `[d, d]`.
    pub vectors: Mat<E>,
    /// Whether the matrix's own precision failed and double precision was used.
    pub double_precision: bool,
}

/// The eigendecomposition `M = Q diag(d) Qᵀ` of a symmetric matrix, or `None` where the
/// iteration does not converge or the matrix is not finite.
///
/// The matrix's own precision is tried first, then `f64`.
///
/// # Shapes
///
/// `matrix` is `[d, d]`; only its lower triangle is read.
///
/// # Cost
///
/// About 9 d³ multiply-adds.
pub(crate) fn symmetric_eigen<E: Scalar>(matrix: &Mat<E>) -> Option<Eigendecomposition<E>> {
    if !matrix.is_all_finite() {
        return None;
    }
    faults::begin();
    attempt(matrix).or_else(|| {
        let wide = Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
            matrix[(i, j)].to_f64()
        });
        let Eigendecomposition {
            values, vectors, ..
        } = attempt(&wide)?;
        let narrow = |i, j| E::from_f64(vectors[(i, j)]);
        Some(Eigendecomposition {
            values,
            vectors: Mat::from_fn(vectors.nrows(), vectors.ncols(), narrow),
            double_precision: true,
        })
    })
}

/// One decomposition.
fn attempt<E: Scalar>(matrix: &Mat<E>) -> Option<Eigendecomposition<E>> {
    if faults::fails() {
        return None;
    }
    let eigen = matrix.self_adjoint_eigen(Side::Lower).ok()?;
    let diagonal = eigen.S().column_vector();
    let values = (0..matrix.nrows()).map(|i| diagonal[i].to_f64()).collect();
    let vectors = eigen.U().to_owned();
    vectors.is_all_finite().then_some(Eigendecomposition {
        values,
        vectors,
        double_precision: false,
    })
}

/// Solves `M x = b` for a small symmetric `M` by the pseudo-inverse, or `None` where `M` is not
/// finite.
///
/// Eigenvalues of magnitude at most `d · ε · max|eigenvalue|` count as zero, so nearly parallel
/// directions do not blow up the coefficients.
pub(crate) fn pseudo_inverse_solve(matrix: &Mat<f64>, right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    let eigen = symmetric_eigen(matrix)?;
    let largest = eigen.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let tolerance = n as f64 * f64::EPSILON * largest;
    let mut solution = vec![0.0; n];
    for (k, &value) in eigen.values.iter().enumerate() {
        if value.abs() > tolerance {
            let projection: f64 = (0..n).map(|i| eigen.vectors[(i, k)] * right[i]).sum();
            for (i, x) in solution.iter_mut().enumerate() {
                *x += eigen.vectors[(i, k)] * projection / value;
            }
        }
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_regular_system() {
        let m = Mat::from_fn(2, 2, |i, j| [[2.0, 1.0], [1.0, 3.0]][i][j]);
        let x = pseudo_inverse_solve(&m, &[3.0, 4.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-14 && (x[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn parallel_directions_share_the_coefficient() {
        let m = Mat::from_fn(2, 2, |_, _| 1.0);
        let x = pseudo_inverse_solve(&m, &[2.0, 2.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-14 && (x[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_system_that_is_not_finite_has_no_solution() {
        let m = Mat::from_fn(2, 2, |_, _| f64::NAN);
        assert!(pseudo_inverse_solve(&m, &[1.0, 1.0]).is_none());
    }
}
