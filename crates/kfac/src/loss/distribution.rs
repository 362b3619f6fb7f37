//! What a loss has to tell: a predictive distribution.

use std::{fmt::Debug, sync::Arc};

use burn::tensor::Tensor;

use crate::{error::StepError, random::RandomStream};

/// A loss `-log r(y | z)` whose outputs `z` are the natural parameters of `r`.
///
/// For such a loss the Fisher matrix equals the generalised Gauss-Newton matrix, and the gradient
/// with respect to the outputs has a closed form, which seeds the backward pass. All methods act
/// on tensors without autodiff, one row a case, or, where the network's outputs have axes of positions,
/// one row a position.
///
/// A distribution that is chosen at run time is a `Box<dyn PredictiveDistribution>`, or an `Arc` of one.
///
/// # Shapes
///
/// `outputs`, `targets` and `vectors` are `[n, d_out]`; so is every result but the loss, `[n]`.
///
/// # Example
///
/// ```
/// use kfac::{Bernoulli, Gaussian, PredictiveDistribution};
///
/// let binary = std::env::args().count() > 1;
/// let loss: Box<dyn PredictiveDistribution> = if binary {
///     Box::new(Bernoulli)
/// } else {
///     Box::new(Gaussian)
/// };
/// ```
///
/// # References
///
/// Martens and Grosse (2015), section 2, arXiv 1503.05671.
pub trait PredictiveDistribution: Debug + Send + Sync {
    /// Refuses outputs that the distribution cannot have. By default none are.
    ///
    /// # Errors
    ///
    /// [`StepError`] that names what is wrong with their shape.
    fn check_outputs(&self, outputs: &Tensor<2>) -> Result<(), StepError> {
        let _ = outputs;
        Ok(())
    }

    /// Refuses targets of the outputs' shape that the distribution cannot have. By default none are.
    ///
    /// # Errors
    ///
    /// [`StepError`] that names the offending value.
    fn check_targets(&self, outputs: &Tensor<2>, targets: &Tensor<2>) -> Result<(), StepError> {
        let _ = (outputs, targets);
        Ok(())
    }

    /// The weights that the targets give to their cases: the Fisher matrix of a case is so many times that
    /// of the distribution. Of a shape that broadcasts over the outputs; by default `None`, all are one.
    fn target_weights(&self, targets: &Tensor<2>) -> Option<Tensor<2>> {
        let _ = targets;
        None
    }

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

macro_rules! behind_a_pointer {
    ($pointer:ty) => {
        impl<P: PredictiveDistribution + ?Sized> PredictiveDistribution for $pointer {
            fn check_outputs(&self, outputs: &Tensor<2>) -> Result<(), StepError> {
                P::check_outputs(self, outputs)
            }

            fn check_targets(
                &self,
                outputs: &Tensor<2>,
                targets: &Tensor<2>,
            ) -> Result<(), StepError> {
                P::check_targets(self, outputs, targets)
            }

            fn target_weights(&self, targets: &Tensor<2>) -> Option<Tensor<2>> {
                P::target_weights(self, targets)
            }

            fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
                P::negative_log_likelihood(self, outputs, targets)
            }

            fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
                P::output_gradient(self, outputs, targets)
            }

            fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
                P::sample(self, outputs, random)
            }

            fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
                P::fisher_factor_product(self, outputs, vectors)
            }

            fn fisher_factor_transpose_product(
                &self,
                outputs: Tensor<2>,
                vectors: Tensor<2>,
            ) -> Tensor<2> {
                P::fisher_factor_transpose_product(self, outputs, vectors)
            }
        }
    };
}

behind_a_pointer!(Box<P>);
behind_a_pointer!(Arc<P>);
behind_a_pointer!(&P);
