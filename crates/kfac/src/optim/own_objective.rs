//! Objectives of the user's own.

use std::error::Error;

use burn::optim::GradientsParams;

use crate::{capture::Network, network::Batch};

/// What an objective of your own says when it fails.
pub type ObjectiveError = Box<dyn Error + Send + Sync>;

/// An objective of your own: its value and gradient are yours, the curvature is that of the predictive
/// distribution that the optimizer was made with.
///
/// For surrogates of reinforcement learning, energies, residuals of physics, regularisers: whatever has
/// a gradient, where the Fisher of a distribution of the network's outputs is the metric. The penalty
/// `½ η ‖θ‖²` is the optimizer's, and is added to it.
///
/// # Example
///
/// The loss of the distribution with a regulariser on the outputs:
///
/// ```
/// use burn::{optim::GradientsParams, tensor::Tensor};
/// use kfac::{Batch, Network, Objective, ObjectiveError, Tape};
///
/// struct SmallOutputs;
///
/// impl<M> Objective<M, Tensor<2>> for SmallOutputs
/// where
///     M: Network<Input = Tensor<2>, Output = Tensor<2>>,
/// {
///     fn value(&self, model: &M, batch: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
///         Ok(self.of(model, batch).into_scalar::<f64>())
///     }
///
///     fn value_and_gradients(
///         &self,
///         model: &M,
///         batch: &Batch<Tensor<2>>,
///     ) -> Result<(f64, GradientsParams), ObjectiveError> {
///         let value = self.of(model, batch);
///         let gradients = GradientsParams::from_grads(value.backward(), model);
///         Ok((value.into_scalar::<f64>(), gradients))
///     }
/// }
///
/// impl SmallOutputs {
///     fn of<M>(&self, model: &M, batch: &Batch<Tensor<2>>) -> Tensor<1>
///     where
///         M: Network<Input = Tensor<2>, Output = Tensor<2>>,
///     {
///         let outputs = model.forward(batch.inputs.clone(), &mut Tape::evaluating());
///         let residual = outputs.clone() - batch.targets.clone();
///         (residual.square().sum_dim(1) * 0.5 + outputs.abs().sum_dim(1) * 0.01).mean()
///     }
/// }
/// ```
///
/// A batch with as many cases as the objective is a mean over; call the model with
/// [`Tape::evaluating`](crate::Tape::evaluating), so that batch normalisations and dropout do what they
/// do in the optimizer's other passes.
pub trait Objective<M: Network, T> {
    /// The value on a batch, at the model's parameters.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being evaluated; the step is refused then. Where only the parameters that a step leads to
    /// are to blame, return infinity: the step is not taken, λ grows, and training goes on.
    fn value(&self, model: &M, batch: &Batch<M::Input, T>) -> Result<f64, ObjectiveError>;

    /// The value, and its gradient in the model's parameters.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value).
    fn value_and_gradients(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, GradientsParams), ObjectiveError>;
}
