//! The slow oracle of differences of Kronecker products (appendix B): `(A ⊗ B ± C ⊗ D) u = v`.
//!
//! In the code's layout (`[d_in + 1, d_out]`, see [`kronecker`](super::kronecker)) this is the
//! generalised Stein equation `A U B ± C U D = V`, all four matrices symmetric.

use faer::{Mat, linalg::solvers::Solve};
use proptest::prelude::*;

use super::{
    canonical::{solve_lower, solve_lower_transposed},
    spd,
    symmetric::symmetric_eigen,
};

/// The sign between the two Kronecker products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// `A ⊗ B + C ⊗ D`.
    Plus,
    /// `A ⊗ B − C ⊗ D`, which must be positive definite.
    Minus,
}

/// One side of the equation: a positive definite matrix, and a positive semi-definite one.
#[derive(Clone, Copy, Debug)]
struct Pencil<'a> {
    /// `A` or `B`.
    definite: &'a Mat<f64>,
    /// `C` or `D`.
    semidefinite: &'a Mat<f64>,
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
fn solve_by_eigen(
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
fn solve_by_smith(
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

/// `A ⊗ B`.
fn product(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let (rows, columns) = (b.nrows(), b.ncols());
    Mat::from_fn(a.nrows() * rows, a.ncols() * columns, |i, j| {
        a[(i / rows, j / columns)] * b[(i % rows, j % columns)]
    })
}

/// The rows of a matrix one after another, as a column.
fn vec_of_rows(matrix: &Mat<f64>) -> Mat<f64> {
    let columns = matrix.ncols();
    Mat::from_fn(matrix.nrows() * columns, 1, |i, _| {
        matrix[(i / columns, i % columns)]
    })
}

/// Numbers in (-1, 1) that depend on nothing but the seed.
pub(super) fn random(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    use rand::{RngExt, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Mat::from_fn(rows, columns, |_, _| 2.0 * random.random::<f64>() - 1.0)
}

/// A second moment of so many random rows.
pub(super) fn moment(d: usize, rows: usize, seed: u64) -> Mat<f64> {
    let rows = random(rows, d, seed);
    rows.transpose() * &rows * faer::Scale(1.0 / rows.nrows() as f64)
}

/// Products and solves of matrices with condition numbers to 1e5.
const TOLERANCE: f64 = 1e-9;

fn close(what: &str, found: &Mat<f64>, expected: &Mat<f64>) {
    let error = (found - expected).norm_l2() / expected.norm_l2();
    assert!(error <= TOLERANCE, "{what}: {error:e}");
}

proptest! {
    #![proptest_config(super::properties::cases(64))]

    /// (A ⊗ B ± C ⊗ D) u = v by a dense solve, by eigenvectors, and by doubling.
    #[test]
    fn differences_and_sums_of_kronecker_products_are_solved(
        p in 1usize..7,
        q in 1usize..7,
        shrink in 0.05..0.95f64,
        seed in 0u64..200,
    ) {
        let definite = |d: usize, seed: u64| {
            moment(d, d + 2, seed) + Mat::<f64>::identity(d, d) * faer::Scale(0.3)
        };
        // C = R R' with the square root of A: A⁻¹C has the eigenvalues of shrink × a projection's.
        let below = |a: &Mat<f64>, seed: u64| {
            let r = definite(a.nrows(), seed);
            let whitened = a.partial_piv_lu().solve(&r);
            let radius = (0..60).fold(Mat::<f64>::full(a.nrows(), 1, 1.0), |v, _| {
                let w = &whitened * v;
                let norm = w.norm_l2();
                w * faer::Scale(1.0 / norm)
            });
            let radius = (&whitened * &radius).norm_l2();
            r * faer::Scale(shrink / radius)
        };
        let (a, b) = (definite(p, seed), definite(q, seed + 1));
        let (c, d) = (below(&a, seed + 2), below(&b, seed + 3));
        let v = random(p, q, seed + 4);
        let pencil = |definite, semidefinite| Pencil { definite, semidefinite };
        for (sign, factor) in [(Sign::Plus, 1.0), (Sign::Minus, -1.0)] {
            let matrix = product(&a, &b) + product(&c, &d) * faer::Scale(factor);
            let expected = matrix.partial_piv_lu().solve(&vec_of_rows(&v));
            let eigen = solve_by_eigen(pencil(&a, &c), pencil(&b, &d), sign, &v).unwrap();
            close("eigen", &vec_of_rows(&eigen), &expected);
            let smith = solve_by_smith(pencil(&a, &c), pencil(&b, &d), sign, &v).unwrap();
            close("Smith", &smith, &eigen);
        }
    }
}
