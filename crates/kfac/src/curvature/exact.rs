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
    let cases = batch.len();
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for case in 0..cases {
        let input = batch.inputs.slice(case..case + 1);
        let d_out = model
            .valid()
            .forward(input.clone(), &mut Tape::off())
            .dims()[1];
        for output in 0..d_out {
            let outputs = model.forward(input.clone(), &mut Tape::off());
            let plain = outputs.clone().inner();
            let unit: Tensor<2> = plain
                .zeros_like()
                .slice_fill([0..1, output..output + 1], 1.0);
            let seed = loss.fisher_factor_product(plain, unit);
            let mut gradients = (outputs * seed.autodiff()).sum().backward();
            let gradient = layers.gradients(model, &mut gradients);
            columns.push(
                gradient
                    .blocks()
                    .iter()
                    .flat_map(host::to_vec::<f64, 2>)
                    .collect(),
            );
        }
    }
    let parameters = columns.first().map_or(0, Vec::len);
    let scaled = Mat::from_fn(parameters, columns.len(), |i, j| {
        columns[j][i] / (cases as f64).sqrt()
    });
    &scaled * scaled.transpose()
}
