//! Cholesky factors and inverses of damped symmetric positive semi-definite matrices.

use faer::{Mat, Side, linalg::solvers::DenseSolveCore};

use super::{faults, host::Scalar};

/// How often the damping is doubled before an inverse is given up.
const MAX_DOUBLINGS: u32 = 10;

/// The Cholesky factor and the inverse of a damped matrix.
#[derive(Clone, Debug)]
pub(crate) struct DampedCholesky<E> {
    /// `L` with `L Lᵀ = M + damping I`, lower triangular.
    pub lower: Mat<E>,
    /// `(M + damping I)⁻¹`.
    pub inverse: Mat<E>,
}

/// How the factorisation of a damped matrix came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attempt {
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

/// Factorises and inverts a symmetric matrix plus a multiple of the identity.
///
/// The matrix's own precision is tried first, then `f64`, then `f64` with the damping doubled up
/// to ten times.
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
pub(crate) fn factorise<E: Scalar>(
    matrix: &Mat<E>,
    damping: f64,
) -> Result<(DampedCholesky<E>, Attempt), NotPositiveDefinite> {
    faults::begin();
    if let Ok((cholesky, smallest_pivot)) = attempt(matrix, damping) {
        let attempt = Attempt {
            damping,
            doublings: 0,
            double_precision: false,
            smallest_pivot,
        };
        return Ok((cholesky, attempt));
    }
    let wide = convert(matrix, |value: E| Scalar::to_f64(value));
    let mut damping = damping;
    let mut doublings = 0;
    loop {
        match attempt(&wide, damping) {
            Ok((cholesky, smallest_pivot)) => {
                let cholesky = DampedCholesky {
                    lower: convert(&cholesky.lower, <E as Scalar>::from_f64),
                    inverse: convert(&cholesky.inverse, <E as Scalar>::from_f64),
                };
                let attempt = Attempt {
                    damping,
                    doublings,
                    double_precision: true,
                    smallest_pivot,
                };
                return Ok((cholesky, attempt));
            }
            Err(error) if doublings == MAX_DOUBLINGS => return Err(error),
            Err(_) => {
                damping *= 2.0;
                doublings += 1;
            }
        }
    }
}

fn convert<A: Copy, B>(matrix: &Mat<A>, f: impl Fn(A) -> B) -> Mat<B> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| f(matrix[(i, j)]))
}

/// One factorisation, with its smallest pivot.
fn attempt<E: Scalar>(
    matrix: &Mat<E>,
    damping: f64,
) -> Result<(DampedCholesky<E>, f64), NotPositiveDefinite> {
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
    if faults::fails() {
        return Err(not_definite(0));
    }
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
    let cholesky = DampedCholesky {
        inverse: factor.inverse(),
        lower: lower.to_owned(),
    };
    Ok((cholesky, smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_of_a_good_matrix_takes_one_attempt() {
        let matrix = Mat::from_fn(3, 3, |i, j| if i == j { 3.0 } else { 1.0 });
        let (DampedCholesky { lower, inverse }, attempt) = factorise::<f64>(&matrix, 1.0).unwrap();
        let damped = Mat::from_fn(3, 3, |i, j| if i == j { 4.0 } else { 1.0 });
        let product = &damped * &inverse;
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product[(i, j)] - expected).abs() < 1e-14);
            }
        }
        assert!((&lower * lower.transpose() - &damped).norm_max() < 1e-14);
        assert_eq!((attempt.doublings, attempt.double_precision), (0, false));
    }

    #[test]
    fn single_precision_that_cancels_is_repeated_in_double_precision() {
        // 1 + 1e-9 is 1 in f32, so the matrix of ones stays singular there.
        let ones = Mat::from_fn(2, 2, |_, _| 1.0f32);
        let (_, attempt) = factorise(&ones, 1e-9).unwrap();
        assert!(attempt.double_precision);
        assert_eq!(attempt.doublings, 0);
        assert!(attempt.smallest_pivot > 0.0 && attempt.smallest_pivot < 1e-8);
    }

    #[test]
    fn an_indefinite_matrix_gets_more_damping_and_says_so() {
        let matrix = Mat::from_fn(2, 2, |i, j| if i == j { 0.0 } else { 1.0 });
        let (_, attempt) = factorise::<f64>(&matrix, 0.3).unwrap();
        assert_eq!(attempt.doublings, 2);
        assert!((attempt.damping - 1.2).abs() < 1e-15);
    }

    #[test]
    fn a_matrix_of_nan_is_given_up_with_its_pivot() {
        let matrix = Mat::from_fn(2, 2, |_, _| f64::NAN);
        let error = factorise(&matrix, 1.0).unwrap_err();
        assert_eq!(error.pivot, 0);
        assert!((error.damping - 1024.0).abs() < 1e-9);
    }
}
