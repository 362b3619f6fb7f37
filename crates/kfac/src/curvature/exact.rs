//! The exact Fisher matrix, formed densely: the slow oracle.

use burn::tensor::Tensor;
use faer::Mat;

use crate::{
    capture::{Layers, Tape},
    cases::{Batch, Cases},
    linalg::host,
    loss::PredictiveDistribution,
    network::Network,
};

/// The exact Fisher matrix of the layers' parameters on a batch, equal to the generalised
/// Gauss-Newton matrix.
///
/// # Definition
///
/// ```text
/// F = mean over cases of Jᵀ F_R J
/// ```
///
/// with the parameters in the order of [`Layers`], each layer's matrix `[d_in + 1, d_out]` read row
/// by row.
///
/// # Cost
///
/// One backward pass a case and output, and a dense matrix in `f64`: for small networks.
pub fn fisher<M: Network, L: PredictiveDistribution>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input>,
) -> Mat<f64> {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for case in 0..batch.len() {
        let input = batch.inputs.slice(case..case + 1);
        let d_out = model
            .valid()
            .forward(input.clone(), &mut Tape::evaluating())
            .dims()[1];
        for output in 0..d_out {
            let unit = |outputs: Tensor<2>| {
                let unit = outputs
                    .zeros_like()
                    .slice_fill([0..1, output..output + 1], 1.0);
                loss.fisher_factor_product(outputs, unit)
            };
            columns.push(seeded_gradient((model, layers), input.clone(), unit));
        }
    }
    mean_outer_product(&columns, batch.len())
}

/// The empirical Fisher matrix of the layers' parameters on a batch: the mean of the outer products of
/// the gradients of each case's loss at its target, in the same order.
///
/// # Cost
///
/// One backward pass a case, and a dense matrix in `f64`: for small networks.
pub fn empirical_fisher<M: Network, L: PredictiveDistribution>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input>,
) -> Mat<f64> {
    let columns = (0..batch.len()).map(|case| {
        let one = batch.slice(case..case + 1);
        let seed = |outputs: Tensor<2>| loss.output_gradient(outputs, one.targets.clone().inner());
        seeded_gradient((model, layers), one.inputs.clone(), seed)
    });
    mean_outer_product(&columns.collect::<Vec<_>>(), batch.len())
}

/// The gradient of the outputs of some cases, weighted by what `seed` makes of them.
fn seeded_gradient<M: Network>(
    (model, layers): (&M, &Layers),
    inputs: M::Input,
    seed: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Vec<f64> {
    let outputs = model.forward(inputs, &mut Tape::evaluating());
    let seed = seed(outputs.clone().inner());
    let mut gradients = (outputs * seed.autodiff()).sum().backward();
    let gradient = layers.gradients(model, &mut gradients);
    let blocks = gradient.blocks().iter();
    blocks.flat_map(host::to_vec::<f64, 2>).collect()
}

fn mean_outer_product(columns: &[Vec<f64>], cases: usize) -> Mat<f64> {
    let parameters = columns.first().map_or(0, Vec::len);
    let scaled = Mat::from_fn(parameters, columns.len(), |i, j| {
        columns[j][i] / (cases as f64).sqrt()
    });
    &scaled * scaled.transpose()
}
