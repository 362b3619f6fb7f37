//! One of several classes at each position of a sequence.

use burn::tensor::Tensor;

use super::{categorical::Categorical, distribution::PredictiveDistribution};
use crate::{error::StepError, random::RandomStream};

/// A categorical output at each of `R` positions, as of a language model: independent given the inputs.
///
/// A network's outputs are its logits `[n, R, classes]`, flattened to `[n, R · classes]`; the targets are
/// one-hot rows, flattened in the same way. A padded position has a target of zeros, and so no loss and
/// no curvature.
///
/// # Definition
///
/// ```text
/// L = Σ_r L_r   with the categorical loss L_r of each position
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CategoricalSequence {
    /// The number of classes.
    pub classes: usize,
}

impl CategoricalSequence {
    /// A row for each position.
    fn rows(self, outputs: Tensor<2>) -> Tensor<2> {
        let [n, all] = outputs.dims();
        outputs.reshape([n * all / self.classes, self.classes])
    }

    /// What a function of positions makes of outputs and something beside them.
    fn by_position(
        self,
        [outputs, other]: [Tensor<2>; 2],
        f: impl FnOnce(Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let dims = outputs.dims();
        f(self.rows(outputs), self.rows(other)).reshape(dims)
    }
}

impl PredictiveDistribution for CategoricalSequence {
    fn check_outputs(&self, outputs: &Tensor<2>) -> Result<(), StepError> {
        let [_, all] = outputs.dims();
        if self.classes == 0 || !all.is_multiple_of(self.classes) {
            return Err(StepError::ClassesPerPosition {
                outputs: all,
                classes: self.classes,
            });
        }
        PredictiveDistribution::check_outputs(&Categorical, &self.rows(outputs.clone()))
    }

    fn check_targets(&self, outputs: &Tensor<2>, targets: &Tensor<2>) -> Result<(), StepError> {
        Categorical.check_targets(outputs, targets)
    }

    fn target_weights(&self, targets: &Tensor<2>) -> Option<Tensor<2>> {
        let dims = targets.dims();
        let weights = self.rows(targets.clone()).sum_dim(1);
        Some(weights.repeat_dim(1, self.classes).reshape(dims))
    }

    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let [n, all] = outputs.dims();
        let (outputs, targets) = (self.rows(outputs), self.rows(targets));
        let losses = Categorical.negative_log_likelihood(outputs, targets);
        losses
            .reshape([n, all / self.classes])
            .sum_dim(1)
            .squeeze_dim(1)
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        self.by_position([outputs, targets], |outputs, targets| {
            Categorical.output_gradient(outputs, targets)
        })
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        let dims = outputs.dims();
        Categorical.sample(self.rows(outputs), random).reshape(dims)
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        self.by_position([outputs, vectors], |outputs, vectors| {
            Categorical.fisher_factor_product(outputs, vectors)
        })
    }

    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        self.by_position([outputs, vectors], |outputs, vectors| {
            Categorical.fisher_factor_transpose_product(outputs, vectors)
        })
    }
}
