//! The exact Fisher matrix, formed densely: the slow oracle.

use burn::tensor::{Tensor, TensorData};
use faer::Mat;

use crate::{
    capture::{Network, Tape},
    linalg::host,
    loss::{Likelihood, Loss},
    network::{Batch, Cases, Layers, Outputs, detached},
};

/// The exact Fisher matrix of the layers' parameters on some inputs, equal to the generalised
/// Gauss-Newton matrix, as a square matrix in `f64` on the host.
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
/// One backward pass a case and output, and a dense matrix: for small networks.
pub fn fisher<M: Network, L: Likelihood<M::Output>>(
    model: &M,
    layers: &Layers,
    loss: &L,
    inputs: &M::Input,
) -> TensorData {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for case in 0..inputs.len() {
        let input = inputs.slice(case..case + 1);
        let outputs = model
            .valid()
            .forward(input.clone(), &mut Tape::evaluating());
        let d_out = outputs.into_rows().dims()[1];
        for output in 0..d_out {
            let unit = |outputs: M::Output| {
                let rows = outputs.clone().into_rows().zeros_like();
                let unit = rows.slice_fill([0..1, output..output + 1], 1.0);
                let unit = outputs.with_rows(unit);
                loss.factor_product(outputs, unit)
            };
            columns.push(seeded_gradient(model, layers, input.clone(), unit));
        }
    }
    mean_outer_product(&columns, inputs.len())
}

/// The empirical Fisher matrix of the layers' parameters on a batch: the mean of the outer products of
/// the gradients of each case's loss at its target, in the same order and form.
///
/// # Cost
///
/// One backward pass a case, and a dense matrix: for small networks.
pub fn empirical_fisher<M: Network, T: Cases, L: Loss<M::Output, T>>(
    model: &M,
    layers: &Layers,
    loss: &L,
    batch: &Batch<M::Input, T>,
) -> TensorData {
    let columns = (0..batch.len()).map(|case| {
        let one = batch.slice(case..case + 1);
        let seed = |outputs| loss.gradient(outputs, one.targets.clone());
        seeded_gradient(model, layers, one.inputs.clone(), seed)
    });
    mean_outer_product(&columns.collect::<Vec<_>>(), batch.len())
}

/// The gradient of the outputs of some cases, weighted by what `seed` makes of them.
fn seeded_gradient<M: Network>(
    model: &M,
    layers: &Layers,
    inputs: M::Input,
    seed: impl FnOnce(M::Output) -> M::Output,
) -> Vec<f64> {
    let outputs = model.forward(inputs, &mut Tape::evaluating());
    let (rows, plain) = detached(outputs);
    let seed: Tensor<2> = seed(plain).into_rows();
    let mut gradients = (rows * seed.autodiff()).sum().backward();
    let gradient = layers.gradients(model, &mut gradients);
    let blocks = gradient.blocks().iter();
    blocks.flat_map(host::to_vec::<f64, 2>).collect()
}

fn mean_outer_product(columns: &[Vec<f64>], cases: usize) -> TensorData {
    let parameters = columns.first().map_or(0, Vec::len);
    let scaled = Mat::from_fn(parameters, columns.len(), |i, j| {
        columns[j][i] / (cases as f64).sqrt()
    });
    let fisher = &scaled * scaled.transpose();
    let elements = (0..parameters).flat_map(|i| (0..parameters).map(move |j| (i, j)));
    let values: Vec<f64> = elements.map(|at| fisher[at]).collect();
    TensorData::new(values, [parameters, parameters])
}
