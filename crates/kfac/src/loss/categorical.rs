//! One of several classes: the softmax cross-entropy.

use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
};

use super::{
    distribution::PredictiveDistribution,
    numbers::{check_range, with_masks},
};
use crate::{error::StepError, linalg::host, random::RandomStream};

/// A categorical output with logits `z`; the targets are classes, one-hot rows, or rows of
/// probabilities. Rows that sum to another number weigh their case by it; a row of zeros is ignored.
/// A logit of minus infinity masks its class.
///
/// # Definition
///
/// ```text
/// L = −Σ_j y_j log p_j,   p = softmax(z),   ∂L/∂z = w p − y,   w = Σ_j y_j,
/// F_R = w (diag(p) − p pᵀ),   B v = √p ⊙ v − p (√pᵀ v),   Bᵀ v = √p ⊙ (v − pᵀ v)
/// ```
///
/// with `B` that of a case of weight one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categorical;

impl PredictiveDistribution for Categorical {
    fn check_outputs(&self, outputs: &Tensor<2>) -> Result<(), StepError> {
        match outputs.dims()[1] {
            1 => Err(StepError::OneClass),
            _ => Ok(()),
        }
    }

    fn check_targets(&self, _outputs: &Tensor<2>, targets: &Tensor<2>) -> Result<(), StepError> {
        check_range(targets, 0.0..=f64::INFINITY).map_err(|value| StepError::TargetOutOfRange {
            value,
            distribution: "a categorical distribution",
            accepted: "rows of numbers of at least 0",
        })
    }

    fn target_weights(&self, targets: &Tensor<2>) -> Option<Tensor<2>> {
        Some(targets.clone().sum_dim(1))
    }

    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        with_masks(targets, log_softmax(outputs, 1), |product| {
            product.sum_dim(1).neg().squeeze_dim(1)
        })
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        softmax(outputs, 1) * targets.clone().sum_dim(1) - targets
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        let dtype = outputs.dtype();
        let classes = outputs.dims()[1];
        let cumulative = softmax(host::at_least_single(outputs), 1).cumsum(1);
        let total = cumulative.clone().slice_dim(1, classes - 1..classes);
        let uniform = random.uniform_like(&total) * total;
        // The class is the number of cumulative probabilities that the draw has passed.
        let passed = cumulative.lower_equal(uniform).float().cast(dtype);
        let first = passed.ones_like().slice_dim(1, 0..1);
        let before = Tensor::cat(vec![first, passed.clone().slice_dim(1, 0..classes - 1)], 1);
        before - passed
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        let p = softmax(outputs, 1);
        let scaled = p.clone().sqrt() * vectors;
        scaled.clone() - p * scaled.sum_dim(1)
    }

    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        let p = softmax(outputs, 1);
        let mean = (p.clone() * vectors.clone()).sum_dim(1);
        p.sqrt() * (vectors - mean)
    }
}
