//! Inverses of damped symmetric positive semi-definite matrices.

use faer::{Mat, Side, linalg::solvers::DenseSolveCore};

use super::host::Scalar;

/// How often the damping is doubled before an inverse is given up.
const MAX_DOUBLINGS: u32 = 10;

/// How the inverse of a damped matrix came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InverseAttempt {
    /// The damping that was finally added to the diagonal.
    pub damping: f64,
    /// How often the asked-for damping had to be doubled.
    pub doublings: u32,
    /// Whether the matrix's own precision failed and double precision was used.
    pub double_precision: bool,
    /// The smallest pivot of the Cholesky factorisation, `min_i L_ii²`.
    pub smallest_pivot: f64,
}

/// The damped matrix could not be factorised, not even with `MAX_DOUBLINGS` doublings.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "not positive definite: pivot {pivot} of {dimension} is not positive at damping {damping:e}"
)]
pub struct NotPositiveDefinite {
    /// Row of the first pivot that is not positive, in the last attempt.
    pub pivot: usize,
    /// Number of rows of the matrix.
    pub dimension: usize,
    /// The largest damping tried.
    pub damping: f64,
}

/// The inverse of a symmetric matrix plus a multiple of the identity, by Cholesky.
///
/// The matrix's own precision is tried first, then `f64`, then `f64` with the damping doubled up
/// to ten times.
///
/// # Definition
///
/// ```text
/// (M + damping I)⁻¹
/// ```
///
/// # Shapes
///
/// `matrix` is `[d, d]`; only its lower triangle is read.
///
/// # Errors
///
/// [`NotPositiveDefinite`] when every attempt met a pivot that is not positive.
///
/// # Cost
///
/// d³ multiply-adds for factorisation and inverse.
pub fn inverse<E: Scalar>(
    matrix: &Mat<E>,
    damping: f64,
) -> Result<(Mat<E>, InverseAttempt), NotPositiveDefinite> {
    if let Ok((inverse, smallest_pivot)) = damped_inverse(matrix, damping) {
        let attempt = InverseAttempt {
            damping,
            doublings: 0,
            double_precision: false,
            smallest_pivot,
        };
        return Ok((inverse, attempt));
    }
    let wide = Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        matrix[(i, j)].to_f64()
    });
    let mut damping = damping;
    let mut doublings = 0;
    loop {
        match damped_inverse(&wide, damping) {
            Ok((inverse, smallest_pivot)) => {
                let inverse = Mat::from_fn(inverse.nrows(), inverse.ncols(), |i, j| {
                    E::from_f64(inverse[(i, j)])
                });
                let attempt = InverseAttempt {
                    damping,
                    doublings,
                    double_precision: true,
                    smallest_pivot,
                };
                return Ok((inverse, attempt));
            }
            Err(error) if doublings == MAX_DOUBLINGS => return Err(error),
            Err(_) => {
                damping *= 2.0;
                doublings += 1;
            }
        }
    }
}

fn damped_inverse<E: Scalar>(
    matrix: &Mat<E>,
    damping: f64,
) -> Result<(Mat<E>, f64), NotPositiveDefinite> {
    let dimension = matrix.nrows();
    let mut damped = matrix.clone();
    for i in 0..dimension {
        damped[(i, i)] += E::from_f64(damping);
    }
    let not_definite = |pivot| NotPositiveDefinite {
        pivot,
        dimension,
        damping,
    };
    let factor = damped.llt(Side::Lower).map_err(|error| match error {
        faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index } => {
            not_definite(index)
        }
    })?;
    let lower = factor.L();
    let mut smallest = f64::INFINITY;
    for i in 0..dimension {
        let pivot = lower[(i, i)].to_f64().powi(2);
        // A NaN pivot compares as neither smaller nor larger; it must not pass for a good one.
        if !pivot.is_finite() {
            return Err(not_definite(i));
        }
        smallest = smallest.min(pivot);
    }
    Ok((factor.inverse(), smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_of_a_good_matrix_takes_one_attempt() {
        let matrix = Mat::from_fn(3, 3, |i, j| if i == j { 3.0 } else { 1.0 });
        let (inverse, attempt) = inverse::<f64>(&matrix, 1.0).unwrap();
        let damped = Mat::from_fn(3, 3, |i, j| if i == j { 4.0 } else { 1.0 });
        let product = &damped * &inverse;
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product[(i, j)] - expected).abs() < 1e-14);
            }
        }
        assert_eq!((attempt.doublings, attempt.double_precision), (0, false));
    }

    #[test]
    fn single_precision_that_cancels_is_repeated_in_double_precision() {
        // 1 + 1e-9 is 1 in f32, so the matrix of ones stays singular there.
        let ones = Mat::from_fn(2, 2, |_, _| 1.0f32);
        let (_, attempt) = inverse(&ones, 1e-9).unwrap();
        assert!(attempt.double_precision);
        assert_eq!(attempt.doublings, 0);
        assert!(attempt.smallest_pivot > 0.0 && attempt.smallest_pivot < 1e-8);
    }

    #[test]
    fn an_indefinite_matrix_gets_more_damping_and_says_so() {
        let matrix = Mat::from_fn(2, 2, |i, j| if i == j { 0.0 } else { 1.0 });
        let (_, attempt) = inverse::<f64>(&matrix, 0.3).unwrap();
        assert_eq!(attempt.doublings, 2);
        assert!((attempt.damping - 1.2).abs() < 1e-15);
    }

    #[test]
    fn a_matrix_of_nan_is_given_up_with_its_pivot() {
        let matrix = Mat::from_fn(2, 2, |_, _| f64::NAN);
        let error = inverse(&matrix, 1.0).unwrap_err();
        assert_eq!(error.pivot, 0);
        assert!((error.damping - 1024.0).abs() < 1e-9);
    }
}
