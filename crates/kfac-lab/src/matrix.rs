//! Matrices between tensors and the host, and dense Kronecker products.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;

/// The elements of a tensor in row-major order, in double precision.
pub(crate) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// A tensor as a matrix in double precision.
pub(crate) fn of_tensor(tensor: &Tensor<2>) -> Mat<f64> {
    let [rows, columns] = tensor.dims();
    let values = values(tensor);
    Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
}

/// A matrix as a tensor in double precision on the CPU.
pub(crate) fn tensor(matrix: &Mat<f64>) -> Tensor<2> {
    let shape @ [rows, columns] = [matrix.nrows(), matrix.ncols()];
    let elements = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
    let values: Vec<f64> = elements.map(|at| matrix[at]).collect();
    Tensor::from_data(
        TensorData::new(values, shape),
        (&Device::flex(), DType::F64),
    )
}

/// The sum of all elements: along the last axis in the tensor's precision, over the rest in double
/// precision.
pub(crate) fn sum<const D: usize>(tensor: Tensor<D>) -> f64 {
    values(&tensor.sum_dim(D - 1))
        .iter()
        .fold(0.0, |sum, row| sum + row)
}

/// The Kronecker product `A ⊗ B`, `[p, q] ⊗ [r, s] -> [pr, qs]`.
pub(crate) fn kronecker(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let (rows, columns) = (b.nrows(), b.ncols());
    Mat::from_fn(a.nrows() * rows, a.ncols() * columns, |i, j| {
        a[(i / rows, j / columns)] * b[(i % rows, j % columns)]
    })
}
