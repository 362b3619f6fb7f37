//! What one variable tells linearly about another, direction by direction (section 4.3, appendix B).

use faer::{
    Mat,
    linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
};

use super::{host::Scalar, symmetric::symmetric_eigen};

/// What one variable tells linearly about another, direction by direction.
///
/// # Definition
///
/// For the cross-covariance `X` of two variables with covariances `A = L Lᵀ` and `A′ = L′ L′ᵀ`, and
/// `C = X A′⁻¹ Xᵀ` the part of `A` that the second variable explains:
///
/// ```text
/// N = L⁻¹ X L′⁻ᵀ = E √s Fᵀ,   directions K = L⁻ᵀ E √s:   K Kᵀ = A⁻¹ C A⁻¹
/// ```
///
/// `s` are the squared canonical correlations, in `[0, 1)`.
#[derive(Clone, Debug)]
pub(crate) struct CanonicalDirections<E> {
    /// `K`, `[d, r]` with `r` the smaller of the two dimensions.
    pub directions: Mat<E>,
    /// `s`, one a direction.
    pub squared_correlations: Vec<f64>,
    /// Whether they took an eigendecomposition in double precision, the own one having failed.
    pub double_precision: bool,
}

/// The whitened cross-covariance `N = L⁻¹ X L′⁻ᵀ`.
///
/// # Shapes
///
/// `[d, d], [d, d′], [d′, d′] -> [d, d′]`
pub(crate) fn whitened_cross<E: Scalar>(
    lower: &Mat<E>,
    cross: &Mat<E>,
    other_lower: &Mat<E>,
) -> Mat<E> {
    let mut half = cross.clone();
    solve_lower(lower, &mut half);
    let mut transposed = half.transpose().to_owned();
    solve_lower(other_lower, &mut transposed);
    transposed.transpose().to_owned()
}

/// The canonical directions from the whitened cross-covariance, `None` where the eigendecomposition
/// fails. Rounding that lifts a squared correlation above `bound` is cut off there.
///
/// # Cost
///
/// An eigendecomposition of the smaller of the two dimensions, and `2 d d′ min(d, d′)`.
pub(crate) fn canonical_directions<E: Scalar>(
    lower: &Mat<E>,
    whitened: &Mat<E>,
    bound: f64,
) -> Option<CanonicalDirections<E>> {
    let (d, other) = (whitened.nrows(), whitened.ncols());
    let gram = if d <= other {
        whitened * whitened.transpose()
    } else {
        whitened.transpose() * whitened
    };
    let eigen = symmetric_eigen(&gram)?;
    let squared_correlations: Vec<f64> = eigen.values.iter().map(|s| s.clamp(0.0, bound)).collect();
    let mut directions = if d <= other {
        let root = |j: usize| E::from_f64(squared_correlations[j].sqrt());
        Mat::from_fn(d, d, |i, j| eigen.vectors[(i, j)] * root(j))
    } else {
        whitened * &eigen.vectors // E √s
    };
    solve_lower_transposed(lower, &mut directions);
    Some(CanonicalDirections {
        directions,
        squared_correlations,
        double_precision: eigen.double_precision,
    })
}

/// `X ← L⁻¹ X`.
pub(super) fn solve_lower<E: Scalar>(lower: &Mat<E>, x: &mut Mat<E>) {
    solve_lower_triangular_in_place(lower.as_ref(), x.as_mut(), faer::get_global_parallelism());
}

/// `X ← L⁻ᵀ X`.
pub(super) fn solve_lower_transposed<E: Scalar>(lower: &Mat<E>, x: &mut Mat<E>) {
    let upper = lower.transpose();
    solve_upper_triangular_in_place(upper, x.as_mut(), faer::get_global_parallelism());
}
