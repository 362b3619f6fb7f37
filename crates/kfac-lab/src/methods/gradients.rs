//! The gradients of the first-order methods: those of K-FAC, in the form that Burn's optimizers take.

use std::collections::HashSet;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};
use kfac::{
    Batch, Layers, MeanLoss, Network, ParameterVector, PredictiveDistribution, Quantity, StepError,
    Tape,
    blocks::{BlockOptions, Blocks},
};

use crate::{
    loss::{Distribution, Loss},
    matrix,
    network::Model,
};

/// At most so many cases are evaluated at once.
const CHUNK_SIZE: usize = 5_000;

/// The gradients of the mean loss, without the penalty.
pub(super) struct MeanGradients {
    layers: Layers,
    loss: Distribution,
}

impl MeanGradients {
    pub(super) fn new(model: &Model, loss: Loss, example: &Tensor<2>) -> Self {
        let (blocks, _) = Blocks::discover(model, example, &BlockOptions::default());
        Self {
            layers: blocks.layers().clone(),
            loss: loss.distribution(),
        }
    }

    /// The mean loss of a batch and its gradients.
    pub(super) fn of(
        &self,
        model: &Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), StepError> {
        if model.normalises_by_batch() {
            return self.in_training_mode(model, batch);
        }
        let objective = MeanLoss {
            layers: &self.layers,
            loss: &self.loss,
            l2: 0.0,
            chunk_size: CHUNK_SIZE,
        };
        let parameters = self.layers.parameters(model);
        let (mean, gradient) = objective.gradient(model, &parameters, batch)?;
        Ok((mean, self.by_parameter(model, &gradient)))
    }

    /// The same by a plain forward pass over the whole batch, as in any training loop.
    fn in_training_mode(
        &self,
        model: &Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), StepError> {
        let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
        let plain = outputs.clone().inner();
        let losses = self
            .loss
            .negative_log_likelihood(plain, batch.targets.clone());
        let mean = matrix::sum(losses) / batch.len() as f64;
        if !mean.is_finite() {
            return Err(StepError::NonFinite {
                quantity: Quantity::Objective,
                layer: None,
            });
        }
        Ok((mean, mean_gradients(model, &self.loss, (outputs, batch))))
    }

    /// Each parameter's own part of a gradient.
    fn by_parameter(&self, model: &Model, gradient: &ParameterVector) -> GradientsParams {
        let layers = self.layers.iter();
        let trained = layers.flat_map(|layer| std::iter::once(layer.weight).chain(layer.bias));
        let mut registered = Registered {
            gradients: GradientsParams::new(),
            trained: trained.collect(),
        };
        let holder = self.layers.with_parameters(model.clone(), gradient);
        holder.visit(&mut registered);
        registered.gradients
    }
}

/// The gradients of the mean loss of a batch, by the backward pass from a model's outputs.
pub(crate) fn mean_gradients(
    model: &Model,
    loss: &Distribution,
    (outputs, batch): (Tensor<2>, &Batch<Tensor<2>>),
) -> GradientsParams {
    let plain = outputs.clone().inner();
    let seed = loss.output_gradient(plain, batch.targets.clone()) / batch.len() as f64;
    let gradients = (outputs * seed.autodiff()).sum().backward();
    GradientsParams::from_grads(gradients, model)
}

/// Takes the values of a model's trained parameters for their gradients.
struct Registered {
    gradients: GradientsParams,
    trained: HashSet<ParamId>,
}

impl ModuleVisitor for Registered {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.trained.contains(&param.id) {
            self.gradients.register(param.id, param.val().inner());
        }
    }
}
