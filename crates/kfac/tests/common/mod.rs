//! Data and dense conversions for the tests.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;
use kfac::linalg::host;

/// Numbers that look random, in (-1, 1).
pub(crate) fn values(n: usize, seed: f64) -> Vec<f64> {
    (0..n)
        .map(|i| (((i + 1) as f64) * 12.9898 + seed * 78.233).sin() * 43_758.545_3 % 1.0)
        .collect()
}

/// A matrix of such numbers, in double precision on the plain device.
pub(crate) fn matrix(rows: usize, columns: usize, seed: f64) -> Tensor<2> {
    let data = TensorData::new(values(rows * columns, seed), [rows, columns]);
    Tensor::from_data(data, (&Device::flex(), DType::F64))
}

/// A tensor as a dense matrix.
pub(crate) fn dense(tensor: &Tensor<2>) -> Mat<f64> {
    host::to_host(tensor)
}

/// The largest difference relative to the largest expected element.
pub(crate) fn deviation(found: &Mat<f64>, expected: &Mat<f64>) -> f64 {
    (found - expected).norm_max() / expected.norm_max()
}
