//! Real outputs with unit variance: half the squared error.

use burn::tensor::Tensor;

use super::distribution::PredictiveDistribution;
use crate::random::RandomStream;

/// Independent Gaussian outputs with mean `z` and unit variance; the targets are real.
///
/// # Definition
///
/// ```text
/// L = ½ ‖y − z‖²  (the constant left out),   F_R = I,   B = I
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaussian;

impl PredictiveDistribution for Gaussian {
    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let residual = outputs - targets;
        ((residual.clone() * residual).sum_dim(1) * 0.5).squeeze_dim(1)
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        outputs - targets
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        let noise = random.normal_like(&outputs);
        outputs + noise
    }

    fn fisher_factor_product(&self, _outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        vectors
    }

    fn fisher_factor_transpose_product(
        &self,
        _outputs: Tensor<2>,
        vectors: Tensor<2>,
    ) -> Tensor<2> {
        vectors
    }
}
