//! The gradients that Burn's optimizers take.

use burn::{
    module::{Module, ModuleVisitor, Param},
    nn::Linear,
    optim::GradientsParams,
    tensor::Tensor,
};
use faer::Mat;
use kfac::{Batch, Network, Tape};

use super::dense;
use super::host;

/// Gradients of half the mean squared error, as a user gets them.
pub(crate) fn gradients<M: Network<Output = Tensor<2>>>(
    model: &M,
    batch: &Batch<M::Input>,
) -> GradientsParams {
    let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
    let residual = outputs - batch.targets.clone().autodiff();
    let cases = batch.len() as f64;
    let loss = (residual.clone() * residual).sum() / (2.0 * cases);
    GradientsParams::from_grads(loss.backward(), model)
}

/// A dense layer's gradients as one matrix, the bias last.
pub(crate) fn matrix(layer: &Linear, gradients: &GradientsParams) -> Mat<f64> {
    let weight = dense(&gradients.get::<2>(layer.weight.id).unwrap());
    let bias = layer.bias.as_ref().unwrap().id;
    let bias: Vec<f64> = host::to_vec(&gradients.get::<1>(bias).unwrap());
    let inputs = weight.nrows();
    Mat::from_fn(inputs + 1, weight.ncols(), |i, j| {
        if i < inputs { weight[(i, j)] } else { bias[j] }
    })
}

/// Gradients of all trained parameters: the values of another model with the same parameters.
pub(crate) fn of_values<M: Module>(values: &M) -> GradientsParams {
    struct Registered(GradientsParams);
    impl ModuleVisitor for Registered {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                self.0.register(param.id, value.inner());
            }
        }
    }
    let mut registered = Registered(GradientsParams::new());
    values.visit(&mut registered);
    registered.0
}
