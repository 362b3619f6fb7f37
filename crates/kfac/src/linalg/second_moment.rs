//! Second moments of rows.

use burn::tensor::Tensor;

/// Appends the homogeneous coordinate, last.
///
/// # Shapes
///
/// `[n, d] -> [n, d + 1]`
pub fn append_ones(rows: Tensor<2>) -> Tensor<2> {
    let [n, _] = rows.dims();
    let ones = Tensor::ones([n, 1], (&rows.device(), rows.dtype()));
    Tensor::cat(vec![rows, ones], 1)
}

/// The sum of the outer products of the rows, `Xᵀ X`.
///
/// # Shapes
///
/// `[n, d] -> [d, d]`
///
/// # Cost
///
/// n d² multiply-adds.
pub fn second_moment(rows: Tensor<2>) -> Tensor<2> {
    rows.clone().transpose().matmul(rows)
}

/// The sum of the outer products of the rows of two matrices, `Xᵀ Y`.
///
/// # Shapes
///
/// `[n, d], [n, d′] -> [d, d′]`
pub(crate) fn cross_moment(rows: Tensor<2>, others: Tensor<2>) -> Tensor<2> {
    rows.transpose().matmul(others)
}
