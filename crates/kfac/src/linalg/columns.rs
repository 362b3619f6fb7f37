//! Columns of a matrix side by side.

use burn::tensor::Tensor;

/// The columns of one of several groups of as many columns each.
pub(crate) fn columns(matrix: &Tensor<2>, groups: usize, group: usize) -> Tensor<2> {
    if groups == 1 {
        return matrix.clone();
    }
    let width = matrix.dims()[1] / groups;
    matrix
        .clone()
        .slice_dim(1, group * width..(group + 1) * width)
}
