//! The exact Fisher matrices as dense matrices.

use burn::tensor::{Tensor, TensorData};
use faer::Mat;
use kfac::{Batch, Layers, Network, PredictiveDistribution, curvature::exact};

/// The exact Fisher matrix on the inputs of a batch.
pub(crate) fn fisher<M, L>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input>,
) -> Mat<f64>
where
    M: Network<Output = Tensor<2>>,
    L: PredictiveDistribution,
{
    matrix(&exact::fisher(model, layers, loss, &batch.inputs))
}

/// The empirical Fisher matrix on a batch.
pub(crate) fn empirical_fisher<M, L>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input>,
) -> Mat<f64>
where
    M: Network<Output = Tensor<2>>,
    L: PredictiveDistribution,
{
    matrix(&exact::empirical_fisher(model, layers, loss, batch))
}

fn matrix(data: &TensorData) -> Mat<f64> {
    let size = data.shape()[0];
    let values: Vec<f64> = data.iter::<f64>().collect();
    Mat::from_fn(size, size, |i, j| values[i * size + j])
}
