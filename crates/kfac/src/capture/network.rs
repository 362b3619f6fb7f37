//! What the optimizer needs to know of a model.

use burn::{module::Module, tensor::Tensor};

use super::tape::Tape;
use crate::network::{Cases, Outputs};

/// A network whose layers K-FAC can see: a Burn module with a forward pass over a [`Tape`].
///
/// The layers stay Burn's own; only their calls go through the tape.
///
/// # Example
///
/// ```
/// use burn::{module::Module, nn::Linear, tensor::{Tensor, activation::sigmoid}};
/// use kfac::{Network, Tape};
///
/// #[derive(Module, Debug)]
/// struct Autoencoder {
///     encoder: Linear,
///     decoder: Linear,
/// }
///
/// impl Network for Autoencoder {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///
///     fn forward(&self, images: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
///         let hidden = sigmoid(tape.linear(&self.encoder, images));
///         tape.linear(&self.decoder, hidden)
///     }
/// }
/// ```
pub trait Network: Module {
    /// What the forward pass takes: the inputs of a run of cases.
    type Input: Cases;

    /// What the forward pass returns: a tensor whose first axis counts the cases, or a tuple of such,
    /// one for each head.
    type Output: Outputs;

    /// The natural parameters of the predictive distribution of each case, or of each head's.
    ///
    /// `[n, d_out]`, or, with axes of positions between, `[n, R, d_out]`: the distribution is then that
    /// of each position, independent given the inputs. No output nonlinearity: the logistic function or
    /// softmax belongs to the loss. Pass every layer that is to be trained through `tape`; use
    /// [`Tape::off`] for a plain forward pass.
    fn forward(&self, inputs: Self::Input, tape: &mut Tape) -> Self::Output;

    /// Exact directional derivatives of the outputs along each of the tangents (forward mode,
    /// appendix C), or `None` where the network has none, as is the default.
    ///
    /// A tangent is a model whose parameters hold the direction. Without this method the
    /// derivatives are central differences of two forward passes each: about the same cost, with a
    /// relative error near 1e-4 in `f32` and 1e-9 in `f64`.
    fn jvp(&self, inputs: Self::Input, tangents: &[Self]) -> Option<Jvp<Self::Output>> {
        let _ = (inputs, tangents);
        None
    }
}

/// Outputs and their directional derivatives.
#[derive(Clone, Debug)]
pub struct Jvp<O = Tensor<2>> {
    /// The network's outputs `z`.
    pub outputs: O,
    /// `J v` for each tangent `v`, shaped like the outputs.
    pub derivatives: Vec<O>,
}
