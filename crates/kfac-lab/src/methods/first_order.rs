//! Burn's own SGD and Adam.

use burn::{
    optim::{
        AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig,
        momentum::MomentumConfig,
    },
    tensor::Tensor,
};
use kfac::{Batch, Network, PredictiveDistribution, Quantity, StepError, Tape};

use super::StepSummary;
use crate::{loss::Loss, network::Mlp};

/// A first-order optimizer of Burn's.
pub struct FirstOrder {
    optimizer: ModuleOptimizer,
    rate: f64,
    loss: Loss,
}

impl FirstOrder {
    /// Stochastic gradient descent with momentum.
    pub(super) fn sgd((rate, momentum): (f64, f64), l2: f64, loss: Loss) -> Self {
        let momentum = MomentumConfig::new()
            .with_momentum(momentum)
            .with_dampening(0.0);
        let config = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(l2 as f32)));
        Self {
            optimizer: config.init(),
            rate,
            loss,
        }
    }

    /// Adam.
    pub(super) fn adam(rate: f64, l2: f64, loss: Loss) -> Self {
        let config = AdamConfig::new().with_weight_decay(Some(WeightDecayConfig::new(l2 as f32)));
        Self {
            optimizer: config.init(),
            rate,
            loss,
        }
    }

    pub(super) fn step(
        &mut self,
        model: &mut Mlp,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        let (objective, gradients) = mean_gradients(model, self.loss, batch)?;
        *model = self.optimizer.step(self.rate, model.clone(), gradients);
        Ok(StepSummary {
            objective,
            kfac: None,
        })
    }
}

/// The mean loss of a batch and its gradients, without the penalty.
pub(super) fn mean_gradients(
    model: &Mlp,
    loss: Loss,
    batch: &Batch<Tensor<2>>,
) -> Result<(f64, GradientsParams), StepError> {
    let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
    let plain = outputs.clone().inner();
    let targets = batch.targets.clone();
    let cases = batch.len() as f64;
    let seed = loss.output_gradient(plain.clone(), targets.clone()) / cases;
    let mean = kfac::linalg::host::sum(loss.negative_log_likelihood(plain, targets)) / cases;
    if !mean.is_finite() {
        return Err(StepError::NonFinite {
            quantity: Quantity::Objective,
            layer: None,
        });
    }
    let gradients = (outputs * seed.autodiff()).sum().backward();
    Ok((mean, GradientsParams::from_grads(gradients, model)))
}
