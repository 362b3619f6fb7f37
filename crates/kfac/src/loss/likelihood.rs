//! A loss of outputs of any shape, and of targets of several forms.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::distribution::PredictiveDistribution;
use crate::{error::StepError, network::Outputs, random::RandomStream};

/// The predictive distribution of outputs of type `O`: what the curvature needs of a loss.
///
/// Implemented for every [`PredictiveDistribution`] on tensors, whose last axis holds the parameters of
/// one distribution and whose axes between the cases and it are positions; and for tuples of
/// [`Head`](super::Head)s on tuples of outputs.
pub trait Likelihood<O: Outputs>: Debug + Send + Sync {
    /// Refuses outputs that the distribution cannot have. By default none are.
    ///
    /// # Errors
    ///
    /// [`StepError`] that names what is wrong with them.
    fn check_outputs(&self, outputs: &O) -> Result<(), StepError> {
        let _ = outputs;
        Ok(())
    }

    /// Whether the targets weigh the cases, so that the curvature cannot do without them. By default they do not.
    fn weighs_cases(&self) -> bool {
        false
    }

    /// The gradient in the outputs of each case's loss at targets drawn from the model's predictive
    /// distribution: its second moment is the output Fisher matrix.
    fn sampled_gradient(&self, outputs: O, random: &mut RandomStream) -> O;

    /// `B v` for each case, where the output Fisher matrix is `F_R = B Bᵀ`.
    fn factor_product(&self, outputs: O, vectors: O) -> O;

    /// `Bᵀ v` for each case.
    fn factor_transpose_product(&self, outputs: O, vectors: O) -> O;
}

/// A likelihood with targets of type `T`: what the objective needs of a loss.
///
/// Implemented for every [`PredictiveDistribution`] with targets shaped like the outputs, for
/// [`Categorical`](super::Categorical) with class indices, and for tuples of [`Head`](super::Head)s
/// with tuples of targets.
pub trait Loss<O: Outputs, T>: Likelihood<O> {
    /// Refuses targets that do not go with the outputs, which [`check_outputs`](Likelihood::check_outputs) has
    /// accepted.
    ///
    /// # Errors
    ///
    /// [`StepError`] that names both.
    fn check(&self, outputs: &O, targets: &T) -> Result<(), StepError>;

    /// The loss of each case, `[n]`, summed over outputs, positions and heads. Another number of losses is
    /// refused.
    fn value(&self, outputs: O, targets: T) -> Tensor<1>;

    /// The gradient of each case's loss with respect to its outputs.
    fn gradient(&self, outputs: O, targets: T) -> O;

    /// The gradient of each case's loss, whose second moment over the cases is the empirical Fisher: that of a case of
    /// weight `w` is `√w` times the one without a weight. By default all weights are one.
    fn empirical_gradient(&self, outputs: O, targets: T) -> O {
        self.gradient(outputs, targets)
    }

    /// Vectors in the space of the outputs, each times the root of the weight that the targets give to its
    /// case: the output Fisher matrix of a case of weight `w` is `(√w B) (√w B)ᵀ`. By default all weights
    /// are one.
    fn root_weighted(&self, vectors: O, targets: &T) -> O {
        let _ = targets;
        vectors
    }
}

impl<P: PredictiveDistribution, const D: usize> Likelihood<Tensor<D>> for P {
    fn check_outputs(&self, outputs: &Tensor<D>) -> Result<(), StepError> {
        if outputs.dims().contains(&0) {
            let outputs = outputs.dims().to_vec();
            return Err(StepError::NoOutputs { outputs });
        }
        PredictiveDistribution::check_outputs(self, &rows(outputs.clone()))
    }

    fn sampled_gradient(&self, outputs: Tensor<D>, random: &mut RandomStream) -> Tensor<D> {
        let dims = outputs.dims();
        let rows = rows(outputs);
        let targets = self.sample(rows.clone(), random);
        self.output_gradient(rows, targets).reshape(dims)
    }

    fn factor_product(&self, outputs: Tensor<D>, vectors: Tensor<D>) -> Tensor<D> {
        let dims = outputs.dims();
        let product = self.fisher_factor_product(rows(outputs), rows(vectors));
        product.reshape(dims)
    }

    fn factor_transpose_product(&self, outputs: Tensor<D>, vectors: Tensor<D>) -> Tensor<D> {
        let dims = outputs.dims();
        let product = self.fisher_factor_transpose_product(rows(outputs), rows(vectors));
        product.reshape(dims)
    }
}

impl<P: PredictiveDistribution, const D: usize> Loss<Tensor<D>, Tensor<D>> for P {
    fn check(&self, outputs: &Tensor<D>, targets: &Tensor<D>) -> Result<(), StepError> {
        let (shape, of_targets) = (outputs.dims(), targets.dims());
        if shape != of_targets {
            return Err(StepError::OutputShape {
                outputs: shape.to_vec(),
                targets: of_targets.to_vec(),
            });
        }
        let targets = rows_like(targets.clone(), outputs);
        self.check_targets(&rows(outputs.clone()), &targets)
    }

    fn value(&self, outputs: Tensor<D>, targets: Tensor<D>) -> Tensor<1> {
        let cases = outputs.dims()[0];
        let targets = rows_like(targets, &outputs);
        let losses = self.negative_log_likelihood(rows(outputs), targets);
        let [rows] = losses.dims();
        if rows == cases || !rows.is_multiple_of(cases.max(1)) {
            return losses;
        }
        let by_case = losses.reshape([cases, rows / cases]);
        by_case.sum_dim(1).squeeze_dim(1)
    }

    fn gradient(&self, outputs: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
        let dims = outputs.dims();
        let targets = rows_like(targets, &outputs);
        self.output_gradient(rows(outputs), targets).reshape(dims)
    }

    fn empirical_gradient(&self, outputs: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
        let weights = self.target_weights(&rows_like(targets.clone(), &outputs));
        let gradient = Loss::gradient(self, outputs, targets);
        match weights {
            None => gradient,
            Some(weights) => {
                let dims = gradient.dims();
                let ignored = weights.clone().equal_elem(0.0);
                // The gradient of a case of weight zero is zero.
                let roots = weights.sqrt().mask_fill(ignored, 1.0);
                (rows(gradient) / roots).reshape(dims)
            }
        }
    }

    fn root_weighted(&self, vectors: Tensor<D>, targets: &Tensor<D>) -> Tensor<D> {
        let targets = rows_like(targets.clone(), &vectors);
        match self.target_weights(&targets) {
            None => vectors,
            Some(weights) => {
                let dims = vectors.dims();
                (rows(vectors) * weights.sqrt()).reshape(dims)
            }
        }
    }
}

/// The rows of targets without autodiff, in the precision of the outputs.
fn rows_like<const D: usize>(targets: Tensor<D>, outputs: &Tensor<D>) -> Tensor<2> {
    rows(targets.inner()).cast(outputs.dtype())
}

/// A row for each case and position.
fn rows<const D: usize>(outputs: Tensor<D>) -> Tensor<2> {
    let dims = outputs.dims();
    let features = if D == 1 { 1 } else { dims[D - 1] };
    outputs.reshape([dims.iter().product::<usize>() / features.max(1), features])
}
