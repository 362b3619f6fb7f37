//! The gradients of the first-order methods: those of K-FAC, in the form that Burn's optimizers take.

use std::collections::HashSet;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};
use kfac::{
    Batch, Layers, MeanLoss, ParameterVector, StepError,
    blocks::{BlockOptions, Blocks},
};

use crate::{
    loss::{Distribution, Loss},
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
