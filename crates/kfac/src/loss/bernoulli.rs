//! Independent binary outputs: the logistic cross-entropy.

use burn::tensor::{
    Tensor,
    activation::{relu, sigmoid},
};

use super::{
    distribution::PredictiveDistribution,
    numbers::{check_range, with_masks},
};
use crate::{error::StepError, linalg::host, random::RandomStream};

/// Independent Bernoulli outputs with logits `z`; the targets may be any numbers in `[0, 1]`. A logit of
/// minus infinity masks an output whose target is zero.
///
/// # Definition
///
/// ```text
/// L = Σ_j softplus(z_j) − y_j z_j,   p = σ(z),   F_R = diag(p (1 − p)),   B = diag(√(p (1 − p)))
/// ```
///
/// The loss is computed as `max(z, 0) − y z + log(1 + e^(−|z|))`, which is exact at any logit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bernoulli;

impl PredictiveDistribution for Bernoulli {
    fn check_targets(&self, _outputs: &Tensor<2>, targets: &Tensor<2>) -> Result<(), StepError> {
        check_range(targets, 0.0..=1.0).map_err(|value| StepError::TargetOutOfRange {
            value,
            distribution: "a Bernoulli distribution",
            accepted: "probabilities from 0 to 1",
        })
    }

    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let softplus = relu(outputs.clone()) + outputs.clone().abs().neg().exp().log1p();
        with_masks(targets, outputs, |product| {
            (softplus.clone() - product).sum_dim(1).squeeze_dim(1)
        })
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        sigmoid(outputs) - targets
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        let dtype = outputs.dtype();
        let outputs = host::at_least_single(outputs);
        let uniform = random.uniform_like(&outputs);
        let ones = uniform.lower(sigmoid(outputs)).float();
        ones.cast(dtype)
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        // h / (1 + h²) with h = e^(−|z|/2), which keeps its digits where p rounds to one.
        let h = outputs.abs().mul_scalar(-0.5).exp();
        let deviation = h.clone() / (h.clone() * h).add_scalar(1.0);
        deviation * vectors
    }

    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        self.fisher_factor_product(outputs, vectors)
    }
}
