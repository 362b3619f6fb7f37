//! What a network returns.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// The outputs of a network for some cases: the natural parameters of one or several predictive
/// distributions.
///
/// Implemented for tensors, whose first axis counts the cases, and for pairs to quadruples of outputs,
/// one for each head of the network. Implement it for a type of your own that names its parts.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kfac::Outputs;
///
/// let device = Device::default();
/// let policy = Tensor::<2>::zeros([8, 4], &device);
/// let value = Tensor::<2>::zeros([8, 1], &device);
/// assert_eq!((policy, value).into_rows().dims(), [8, 5]);
/// ```
pub trait Outputs: Clone + Debug + Send + Sync {
    /// All outputs of a case side by side in a row, `[n, d_out]`.
    fn into_rows(self) -> Tensor<2>;

    /// Outputs of the shape of these, made of rows `[n, d_out]`: the way back from
    /// [`into_rows`](Self::into_rows).
    #[must_use]
    fn with_rows(&self, rows: Tensor<2>) -> Self;

    /// Whether a case has one row of outputs, and none for each of several positions: what
    /// [`WeightSharing::Automatic`](crate::WeightSharing::Automatic) goes by. By default it has not.
    fn pool_positions(&self) -> bool {
        false
    }
}

/// Outputs with autodiff as rows, and without as they are. Nothing else of them stays alive: arithmetic
/// that owns a tensor works in its place.
pub(crate) fn detached<O: Outputs>(outputs: O) -> (Tensor<2>, O) {
    let rows = outputs.clone().into_rows();
    let plain = outputs.with_rows(rows.clone().inner());
    (rows, plain)
}

/// Outputs whose rows are what `f` makes of the rows of others.
pub(crate) fn map_rows<O: Outputs>(outputs: O, f: impl FnOnce(Tensor<2>) -> Tensor<2>) -> O {
    outputs.with_rows(f(outputs.clone().into_rows()))
}

impl<const D: usize> Outputs for Tensor<D> {
    fn into_rows(self) -> Tensor<2> {
        let dims = self.dims();
        self.reshape([dims[0], dims[1..].iter().product()])
    }

    fn with_rows(&self, rows: Tensor<2>) -> Self {
        rows.reshape(self.dims())
    }

    fn pool_positions(&self) -> bool {
        D <= 2
    }
}

macro_rules! outputs_of_heads {
    ($($head:ident $field:tt),+) => {
        impl<$($head: Outputs),+> Outputs for ($($head,)+) {
            fn into_rows(self) -> Tensor<2> {
                Tensor::cat(vec![$(self.$field.into_rows()),+], 1)
            }

            fn with_rows(&self, rows: Tensor<2>) -> Self {
                let mut start = 0;
                ($({
                    let width = self.$field.clone().into_rows().dims()[1];
                    let own = rows.clone().slice_dim(1, start..start + width);
                    start += width;
                    let _ = start; // not read after the last head
                    self.$field.with_rows(own)
                },)+)
            }

            fn pool_positions(&self) -> bool {
                $(self.$field.pool_positions())&&+
            }
        }
    };
}

outputs_of_heads!(A 0, B 1);
outputs_of_heads!(A 0, B 1, C 2);
outputs_of_heads!(A 0, B 1, C 2, D 3);
