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

/// The least rows and columns of a matrix whose second moment is formed by halves: below, putting the pieces
/// together takes longer than the products that are spared.
const HALVED: [usize; 2] = [256, 128];

/// The sum of the outer products of the rows, `Xᵀ X`.
///
/// # Shapes
///
/// `[n, d] -> [d, d]`
///
/// # Cost
///
/// n d² multiply-adds; little more than half of them where n and d are in the hundreds, as a half of the
/// columns times the other half is formed once.
pub fn second_moment(rows: Tensor<2>) -> Tensor<2> {
    let [n, d] = rows.dims();
    if n < HALVED[0] || d < HALVED[1] {
        return rows.clone().transpose().matmul(rows);
    }
    let [left, right]: [Tensor<2>; 2] =
        [0..d / 2, d / 2..d].map(|half| rows.clone().slice_dim(1, half));
    let across = cross_moment(left.clone(), right.clone());
    let above = vec![second_moment(left), across.clone()];
    let below = vec![across.transpose(), second_moment(right)];
    Tensor::cat(vec![Tensor::cat(above, 1), Tensor::cat(below, 1)], 0)
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
