//! Numbers between tensors and the host.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;

/// The elements of a tensor in row-major order.
pub(crate) fn to_vec<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// The dense matrix of a tensor.
pub(crate) fn to_host(tensor: &Tensor<2>) -> Mat<f64> {
    let [rows, columns] = tensor.dims();
    let values = to_vec(tensor);
    Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
}

/// A tensor of a matrix.
pub(crate) fn to_device(matrix: &Mat<f64>, device: &Device, dtype: DType) -> Tensor<2> {
    let shape = [matrix.nrows(), matrix.ncols()];
    let elements = (0..shape[0]).flat_map(|i| (0..shape[1]).map(move |j| (i, j)));
    let values: Vec<f64> = elements.map(|at| matrix[at]).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// The sum of all elements.
pub(crate) fn sum<const D: usize>(tensor: Tensor<D>) -> f64 {
    to_vec(&tensor).iter().fold(0.0, |sum, value| sum + value)
}
