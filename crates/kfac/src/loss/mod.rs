//! Losses as predictive distributions (section 2): the network's outputs are natural parameters.

mod bernoulli;
mod categorical;
mod gaussian;
mod sequence;

pub use bernoulli::Bernoulli;
pub use categorical::Categorical;
pub use gaussian::Gaussian;
pub use sequence::CategoricalSequence;

use burn::tensor::Tensor;

use crate::random::RandomStream;

/// A loss `-log r(y | z)` whose outputs `z` are the natural parameters of `r`.
///
/// For such a loss the Fisher matrix equals the generalised Gauss-Newton matrix, and the gradient
/// with respect to the outputs has a closed form, which seeds every backward pass. All methods act
/// on tensors without autodiff, one row a case.
///
/// # Shapes
///
/// `outputs`, `targets` and `vectors` are `[n, d_out]`; so is every result but the loss, `[n]`.
///
/// # References
///
/// Martens and Grosse (2015), section 2, arXiv 1503.05671.
pub trait PredictiveDistribution: Clone + std::fmt::Debug + Sync {
    /// The loss of each case, summed over the outputs.
    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1>;

    /// The gradient of each case's loss with respect to its outputs.
    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2>;

    /// Targets drawn from the model's own predictive distribution.
    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2>;

    /// `B v` for each case, where the output Fisher matrix is `F_R = B Bᵀ`.
    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2>;

    /// `Bᵀ v` for each case.
    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2>;
}
