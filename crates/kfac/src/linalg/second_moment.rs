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

/// The second moment of rows with a one appended to each, from that of the rows.
///
/// # Shapes
///
/// The moment `[d, d]` and the sum `[1, d]` of so many rows `-> [d + 1, d + 1]`
pub(crate) fn bordered(moment: Tensor<2>, sum: Tensor<2>, rows: f64) -> Tensor<2> {
    let count = Tensor::full([1, 1], rows, (&moment.device(), moment.dtype()));
    let above = Tensor::cat(vec![moment, sum.clone().transpose()], 1);
    Tensor::cat(vec![above, Tensor::cat(vec![sum, count], 1)], 0)
}
