//! Dense Kronecker algebra: what the fast products are tested against.
//!
//! With `vec` stacking the columns of the paper's `W` (`[d_out, d_in + 1]`),
//! `(A ⊗ B) vec(X) = vec(B X Aᵀ)`. Burn stores `Wᵀ`, and stacking the columns of `W` is reading
//! `Wᵀ` row by row: in the code's layout (`[d_in + 1, d_out]`, row-major) the same product is
//! `A X Bᵀ`, and the order of the factors stays the paper's.

use burn::tensor::Tensor;
use faer::Mat;

/// The Kronecker product `A ⊗ B`, `[p, q] ⊗ [r, s] -> [pr, qs]`.
pub(crate) fn product(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let (rows, columns) = (b.nrows(), b.ncols());
    Mat::from_fn(a.nrows() * rows, a.ncols() * columns, |i, j| {
        a[(i / rows, j / columns)] * b[(i % rows, j % columns)]
    })
}

/// The rows of a matrix one after another, as a column: the paper's `vec(W)` of a stored `Wᵀ`.
pub(crate) fn vec_of_rows(matrix: &Mat<f64>) -> Mat<f64> {
    let columns = matrix.ncols();
    Mat::from_fn(matrix.nrows() * columns, 1, |i, _| {
        matrix[(i / columns, i % columns)]
    })
}

/// Appends the homogeneous coordinate, last.
pub(crate) fn append_ones(rows: Tensor<2>) -> Tensor<2> {
    let [n, _] = rows.dims();
    let ones = Tensor::ones([n, 1], (&rows.device(), rows.dtype()));
    Tensor::cat(vec![rows, ones], 1)
}

/// The sum of the outer products of the rows.
pub(crate) fn second_moment(rows: Tensor<2>) -> Tensor<2> {
    rows.clone().transpose().matmul(rows)
}

mod tests {
    use super::*;

    /// Exact up to the rounding of sums of a dozen products of order one.
    const ROUNDING: f64 = 1e-14;

    fn matrix(rows: usize, columns: usize, seed: f64) -> Mat<f64> {
        Mat::from_fn(rows, columns, |i, j| {
            ((i * 7 + j * 3) as f64 * 0.37 + seed).sin()
        })
    }

    #[test]
    fn row_major_transposed_weights_keep_the_paper_order_of_factors() {
        let (a, g) = (matrix(3, 3, 0.1), matrix(2, 2, 0.7));
        let x = matrix(3, 2, 1.3); // Wᵀ: [d_in + 1, d_out]
        let dense = product(&a, &g) * vec_of_rows(&x);
        let fast = vec_of_rows(&(&a * &x * g.transpose()));
        assert!((dense - fast).norm_max() < ROUNDING);
    }

    #[test]
    fn mixed_product_rule() {
        let (a, b, c, d) = (
            matrix(2, 2, 0.2),
            matrix(3, 3, 0.4),
            matrix(2, 2, 0.6),
            matrix(3, 3, 0.8),
        );
        let left = product(&a, &b) * product(&c, &d);
        let right = product(&(&a * &c), &(&b * &d));
        assert!((left - right).norm_max() < ROUNDING);
    }
}
