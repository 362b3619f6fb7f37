//! Differences of Kronecker products (appendix B): `(A ⊗ B ± C ⊗ D) u = v`.
//!
//! In the code's layout (`[d_in + 1, d_out]`, see [`kronecker`](super::kronecker)) this is the
//! generalised Stein equation `A U B ± C U D = V`, all four matrices symmetric.

use faer::{
    Mat,
    linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
};

use super::{host::Scalar, spd, symmetric::symmetric_eigen};

/// The sign between the two Kronecker products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `A ⊗ B + C ⊗ D`.
    Plus,
    /// `A ⊗ B − C ⊗ D`, which must be positive definite.
    Minus,
}

/// One side of the equation: a positive definite matrix, and a positive semi-definite one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pencil<'a> {
    /// `A` or `B`.
    pub definite: &'a Mat<f64>,
    /// `C` or `D`.
    pub semidefinite: &'a Mat<f64>,
}

impl Pencil<'_> {
    /// `K` and `s` with `Kᵀ A K = I` and `Kᵀ C K = diag(s)`.
    fn diagonalise(self) -> Option<(Mat<f64>, Vec<f64>)> {
        let (cholesky, _) = spd::factorise(self.definite, 0.0).ok()?;
        let mut whitened = self.semidefinite.clone();
        solve_lower(&cholesky.lower, &mut whitened);
        let mut whitened = whitened.transpose().to_owned();
        solve_lower(&cholesky.lower, &mut whitened);
        let mut eigen = symmetric_eigen(&whitened)?;
        solve_lower_transposed(&cholesky.lower, &mut eigen.vectors);
        Some((eigen.vectors, eigen.values))
    }

    /// `A⁻¹` and `A⁻¹ C`.
    fn quotient(self) -> Option<(Mat<f64>, Mat<f64>)> {
        let (cholesky, _) = spd::factorise(self.definite, 0.0).ok()?;
        let quotient = &cholesky.inverse * self.semidefinite;
        Some((cholesky.inverse, quotient))
    }
}

/// Solves `A U B ± C U D = V` by two generalised symmetric eigenproblems; `None` where a matrix is
/// not positive definite.
///
/// # Definition
///
/// ```text
/// K₁ᵀ A K₁ = I, K₁ᵀ C K₁ = diag(s₁), the same for B and D:
/// U = K₁ [(K₁ᵀ V K₂) ⊘ (11ᵀ ± s₁ s₂ᵀ)] K₂ᵀ
/// ```
///
/// # References
///
/// Martens and Grosse (2015), appendix B, arXiv 1503.05671.
pub(crate) fn solve_by_eigen(
    left: Pencil<'_>,
    right: Pencil<'_>,
    sign: Sign,
    v: &Mat<f64>,
) -> Option<Mat<f64>> {
    let (k1, s1) = left.diagonalise()?;
    let (k2, s2) = right.diagonalise()?;
    let rotated = k1.transpose() * v * &k2;
    let divided = Mat::from_fn(v.nrows(), v.ncols(), |i, j| {
        let product = match sign {
            Sign::Plus => s1[i] * s2[j],
            Sign::Minus => -s1[i] * s2[j],
        };
        rotated[(i, j)] / (1.0 + product)
    });
    Some(&k1 * divided * k2.transpose())
}

/// Most doublings of the Smith iteration; after 60 the terms' exponent exceeds that of any product
/// of spectral radii below one in `f64`.
const MAX_SMITH_DOUBLINGS: usize = 60;

/// Solves `A U B ± C U D = V` without eigendecompositions, by Smith's iteration with doubling.
///
/// `None` where `A` or `B` is not positive definite, or the iteration does not converge: the
/// spectral radii of `A⁻¹C` and `B⁻¹D` must have a product below one, also for the plus sign.
///
/// # Definition
///
/// ```text
/// X ← X + P X Qᵀ,  P ← P²,  Q ← Q²    from X = A⁻¹ V B⁻¹, P = ∓A⁻¹C, Q = B⁻¹D
/// ```
///
/// # Cost
///
/// Four products a doubling; `2ʲ` terms of the series after `j` of them.
///
/// # References
///
/// R. A. Smith (1968), *Matrix equation XA + BX = C*, SIAM J. Appl. Math. 16; the paper's appendix B
/// names such a solver as the alternative.
pub(crate) fn solve_by_smith(
    left: Pencil<'_>,
    right: Pencil<'_>,
    sign: Sign,
    v: &Mat<f64>,
) -> Option<Mat<f64>> {
    let (a_inverse, mut p) = left.quotient()?;
    let (b_inverse, mut q) = right.quotient()?;
    if sign == Sign::Plus {
        p = -p;
    }
    let mut x = a_inverse * v * b_inverse;
    for _ in 0..MAX_SMITH_DOUBLINGS {
        let term = &p * &x * q.transpose();
        let (size, change) = (x.norm_l2(), term.norm_l2());
        if !change.is_finite() {
            return None;
        }
        x += term;
        if change <= f64::EPSILON * size {
            return Some(x);
        }
        p = &p * &p;
        q = &q * &q;
    }
    None
}

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
}

/// The whitened cross-covariance `N = L⁻¹ X L′⁻ᵀ`.
///
/// # Shapes
///
/// `[d, d], [d, d′], [d′, d′] -> [d, d′]`
pub(crate) fn whitened_cross<E: Scalar>(lower: &Mat<E>, cross: &Mat<E>, other_lower: &Mat<E>) -> Mat<E> {
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
    })
}

/// `X ← L⁻¹ X`.
fn solve_lower<E: Scalar>(lower: &Mat<E>, x: &mut Mat<E>) {
    solve_lower_triangular_in_place(lower.as_ref(), x.as_mut(), faer::get_global_parallelism());
}

/// `X ← L⁻ᵀ X`.
fn solve_lower_transposed<E: Scalar>(lower: &Mat<E>, x: &mut Mat<E>) {
    let upper = lower.transpose();
    solve_upper_triangular_in_place(upper, x.as_mut(), faer::get_global_parallelism());
}
