//! A weight for each case.

use burn::tensor::Tensor;

use super::{
    likelihood::{Likelihood, Loss},
    numbers::check_range,
};
use crate::{
    error::StepError,
    linalg::host,
    network::{Cases, Outputs, map_rows},
    random::RandomStream,
};

/// A loss whose targets are pairs: those of the loss, and a weight for each case, `[n]`. The weight
/// multiplies the case's loss, its gradient and its Fisher matrix; a case of weight zero is ignored.
///
/// # Definition
///
/// ```text
/// h(θ) = 1/n Σ_i w_i L(y_i, z_i),   F = 1/n Σ_i w_i J_iᵀ F_R(z_i) J_i
/// ```
///
/// over all `n` cases, those of weight zero too. In a Kronecker product the factor of the output gradients carries
/// the weights; that of the inputs is over all cases alike.
///
/// # Errors
///
/// A step refuses weights that are negative or not finite, and another number of them than of cases.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kfac::{Batch, Categorical, Weighted};
///
/// let loss = Weighted(Categorical);
/// let device = Device::default();
/// let classes = Tensor::<1, Int>::from_data([2, 0, 1], &device);
/// let weights = Tensor::<1>::from_data([1.0, 0.0, 2.0], &device);
/// let batch = Batch::new(Tensor::<2>::zeros([3, 4], &device), (classes, weights));
/// assert_eq!(batch.slice(1..3).len(), 2);
/// # let _ = loss;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighted<L>(pub L);

impl<O: Outputs, L: Likelihood<O>> Likelihood<O> for Weighted<L> {
    fn check_outputs(&self, outputs: &O) -> Result<(), StepError> {
        self.0.check_outputs(outputs)
    }

    fn weighs_cases(&self) -> bool {
        true
    }

    fn sampled_gradient(&self, outputs: O, random: &mut RandomStream) -> O {
        self.0.sampled_gradient(outputs, random)
    }

    fn factor_product(&self, outputs: O, vectors: O) -> O {
        self.0.factor_product(outputs, vectors)
    }

    fn factor_transpose_product(&self, outputs: O, vectors: O) -> O {
        self.0.factor_transpose_product(outputs, vectors)
    }
}

impl<O: Outputs, T: Cases, L: Loss<O, T>> Loss<O, (T, Tensor<1>)> for Weighted<L> {
    fn check(&self, outputs: &O, targets: &(T, Tensor<1>)) -> Result<(), StepError> {
        let (targets, weights) = targets;
        let column: Tensor<2> = weights.clone().inner().unsqueeze_dim(1);
        let outside = check_range(&column, 0.0..=f64::MAX);
        outside.map_err(|value| StepError::CaseWeight { value })?;
        if host::sum(column).is_nan() {
            return Err(StepError::CaseWeight { value: f64::NAN });
        }
        self.0.check(outputs, targets)
    }

    fn value(&self, outputs: O, targets: (T, Tensor<1>)) -> Tensor<1> {
        let (targets, weights) = targets;
        let losses = self.0.value(outputs, targets);
        let weights = weights.inner().cast(losses.dtype());
        if losses.dims() != weights.dims() {
            return losses; // refused: it is not one of each case
        }
        // An ignored case may have an infinite loss.
        let losses = losses.mask_fill(weights.clone().equal_elem(0.0), 0.0);
        losses * weights
    }

    fn gradient(&self, outputs: O, targets: (T, Tensor<1>)) -> O {
        let (targets, weights) = targets;
        scaled_by_case(self.0.gradient(outputs, targets), weights)
    }

    fn empirical_gradient(&self, outputs: O, targets: (T, Tensor<1>)) -> O {
        let (targets, weights) = targets;
        scaled_by_case(self.0.empirical_gradient(outputs, targets), weights.sqrt())
    }

    fn root_weighted(&self, vectors: O, targets: &(T, Tensor<1>)) -> O {
        let (targets, weights) = targets;
        let vectors = self.0.root_weighted(vectors, targets);
        scaled_by_case(vectors, weights.clone().sqrt())
    }
}

/// The rows of outputs, each times its case's number.
fn scaled_by_case<O: Outputs>(outputs: O, numbers: Tensor<1>) -> O {
    map_rows(outputs, |rows| {
        let numbers: Tensor<2> = numbers.inner().cast(rows.dtype()).unsqueeze_dim(1);
        let [_, width] = rows.dims();
        let ignored = numbers.clone().equal_elem(0.0).repeat_dim(1, width);
        rows.mask_fill(ignored, 0.0) * numbers
    })
}
