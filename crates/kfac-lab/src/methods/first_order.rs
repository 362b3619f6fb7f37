//! Burn's own SGD and Adam.

use burn::{
    optim::{
        AdamConfig, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig, momentum::MomentumConfig,
    },
    tensor::Tensor,
};
use kfac::{Batch, StepError};

use super::{StepSummary, gradients::MeanGradients};
use crate::network::Model;

/// A first-order optimizer of Burn's.
pub struct FirstOrder {
    optimizer: ModuleOptimizer,
    rate: f64,
    gradients: MeanGradients,
}

impl FirstOrder {
    /// Stochastic gradient descent with momentum.
    pub(super) fn sgd((rate, momentum): (f64, f64), l2: f64, gradients: MeanGradients) -> Self {
        let momentum = MomentumConfig::new()
            .with_momentum(momentum)
            .with_dampening(0.0);
        let config = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(l2 as f32)));
        Self {
            optimizer: config.init(),
            rate,
            gradients,
        }
    }

    /// Adam.
    pub(super) fn adam(rate: f64, l2: f64, gradients: MeanGradients) -> Self {
        let config = AdamConfig::new().with_weight_decay(Some(WeightDecayConfig::new(l2 as f32)));
        Self {
            optimizer: config.init(),
            rate,
            gradients,
        }
    }

    pub(super) fn step(
        &mut self,
        model: &mut Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        let (objective, gradients) = self.gradients.of(model, batch)?;
        *model = self.optimizer.step(self.rate, model.clone(), gradients);
        Ok(StepSummary {
            objective,
            kfac: None,
        })
    }
}
