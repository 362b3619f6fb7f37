//! A Gaussian whose loss is changed, and nothing else of it.

use std::fmt::Debug;

use burn::tensor::Tensor;
use kfac::{Gaussian, PredictiveDistribution, RandomStream};

/// What becomes of the losses of the cases.
pub(crate) trait Change: Debug + Send + Sync {
    fn change(&self, losses: Tensor<1>, outputs: &Tensor<2>, targets: &Tensor<2>) -> Tensor<1>;
}

/// The Gaussian with a change of its loss; its derivatives stay as they are.
#[derive(Clone, Debug)]
pub(crate) struct GaussianWith<C>(pub(crate) C);

impl<C: Change> PredictiveDistribution for GaussianWith<C> {
    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let losses = Gaussian.negative_log_likelihood(outputs.clone(), targets.clone());
        self.0.change(losses, &outputs, &targets)
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        Gaussian.output_gradient(outputs, targets)
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        Gaussian.sample(outputs, random)
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        Gaussian.fisher_factor_product(outputs, vectors)
    }

    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        Gaussian.fisher_factor_transpose_product(outputs, vectors)
    }
}
