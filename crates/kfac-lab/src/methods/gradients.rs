//! The gradients of the first-order methods: those of K-FAC, in the form that Burn's optimizers take.

use burn::{optim::GradientsParams, tensor::Tensor};
use kfac::{Batch, LayerOptions, Layers, Objective, ParameterVector, StepError};

use crate::{loss::Loss, network::Mlp};

/// At most so many cases are evaluated at once.
const CHUNK_SIZE: usize = 5_000;

/// The gradients of the mean loss, without the penalty.
pub(super) struct MeanGradients {
    layers: Layers,
    loss: Loss,
}

impl MeanGradients {
    pub(super) fn new(model: &Mlp, loss: Loss, example: &Tensor<2>) -> Self {
        let (layers, _) = Layers::discover(model, example, &LayerOptions::default());
        Self { layers, loss }
    }

    /// The mean loss of a batch and its gradients.
    pub(super) fn of(
        &self,
        model: &Mlp,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), StepError> {
        let objective = Objective {
            layers: &self.layers,
            loss: &self.loss,
            l2: 0.0,
            chunk_size: CHUNK_SIZE,
        };
        let parameters = self.layers.parameters(model);
        let (mean, gradient) = objective.gradient(model, &parameters, batch)?;
        Ok((mean, self.by_parameter(&gradient)))
    }

    fn by_parameter(&self, gradient: &ParameterVector) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        for (layer, block) in self.layers.iter().zip(gradient.blocks()) {
            let weight: Tensor<2> = block.clone().slice_dim(0, 0..layer.d_in);
            gradients.register(layer.weight, weight);
            if let Some(bias) = layer.bias {
                let row: Tensor<2> = block.clone().slice_dim(0, layer.d_in..=layer.d_in);
                gradients.register::<1>(bias, row.squeeze_dim(0));
            }
        }
        gradients
    }
}
