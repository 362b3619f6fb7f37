//! The exact Fisher matrices as dense matrices.

use burn::tensor::TensorData;
use faer::Mat;
use kfac::{Batch, Cases, Layers, Likelihood, Loss, Network, curvature::exact};

/// The exact Fisher matrix on the inputs of a batch.
pub(crate) fn fisher<M: Network, T, L: Likelihood<M::Output>>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input, T>,
) -> Mat<f64> {
    matrix(&exact::fisher(model, layers, loss, &batch.inputs))
}

/// The empirical Fisher matrix on a batch.
pub(crate) fn empirical_fisher<M: Network, T: Cases, L: Loss<M::Output, T>>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input, T>,
) -> Mat<f64> {
    matrix(&exact::empirical_fisher(model, layers, loss, batch))
}

fn matrix(data: &TensorData) -> Mat<f64> {
    let size = data.shape()[0];
    let values: Vec<f64> = data.iter::<f64>().collect();
    Mat::from_fn(size, size, |i, j| values[i * size + j])
}
