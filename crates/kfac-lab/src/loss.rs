//! The losses by name, and the errors that are reported beside them.

use burn::tensor::Tensor;
use kfac::{
    Bernoulli, Categorical, CategoricalSequence, Gaussian, PredictiveDistribution, RandomStream,
};
use serde::{Deserialize, Serialize};

/// The predictive distribution of a task's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Logistic outputs, cross-entropy.
    Bernoulli,
    /// Softmax, cross-entropy.
    Categorical,
    /// Linear outputs, half the squared error.
    Gaussian,
    /// Softmax at each position of a sequence, cross-entropy.
    CategoricalSequence {
        /// The number of classes.
        classes: usize,
    },
}

impl Loss {
    /// The summed error of some cases as people read it: the squared error of the predictions, or
    /// the number of misclassified cases.
    pub fn error(self, outputs: Tensor<2>, targets: Tensor<2>) -> f64 {
        let squared = |predictions: Tensor<2>| {
            let residual = predictions - targets.clone();
            kfac::linalg::host::sum(residual.clone() * residual)
        };
        match self {
            Self::Bernoulli => squared(burn::tensor::activation::sigmoid(outputs)),
            Self::Gaussian => squared(outputs),
            Self::Categorical => misclassified(&outputs, &targets),
            Self::CategoricalSequence { classes } => {
                let rows = |tensor: Tensor<2>| {
                    let [n, all] = tensor.dims();
                    tensor.reshape([n * all / classes, classes])
                };
                misclassified(&rows(outputs), &rows(targets))
            }
        }
    }

    /// What [`error`](Self::error) measures.
    pub fn error_name(self) -> &'static str {
        match self {
            Self::Bernoulli | Self::Gaussian => "squared error",
            Self::Categorical | Self::CategoricalSequence { .. } => "misclassified",
        }
    }
}

/// A case counts where the output of its target class is not the largest.
fn misclassified(outputs: &Tensor<2>, targets: &Tensor<2>) -> f64 {
    let best = outputs.clone().max_dim(1);
    let of_target = (outputs.clone() * targets.clone()).sum_dim(1);
    let wrong = of_target.lower(best).float();
    kfac::linalg::host::sum(wrong)
}

impl PredictiveDistribution for Loss {
    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Bernoulli => Bernoulli.negative_log_likelihood(outputs, targets),
            Self::Categorical => Categorical.negative_log_likelihood(outputs, targets),
            Self::Gaussian => Gaussian.negative_log_likelihood(outputs, targets),
            &Self::CategoricalSequence { classes } => {
                CategoricalSequence { classes }.negative_log_likelihood(outputs, targets)
            }
        }
    }

    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Bernoulli => Bernoulli.output_gradient(outputs, targets),
            Self::Categorical => Categorical.output_gradient(outputs, targets),
            Self::Gaussian => Gaussian.output_gradient(outputs, targets),
            &Self::CategoricalSequence { classes } => {
                CategoricalSequence { classes }.output_gradient(outputs, targets)
            }
        }
    }

    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        match self {
            Self::Bernoulli => Bernoulli.sample(outputs, random),
            Self::Categorical => Categorical.sample(outputs, random),
            Self::Gaussian => Gaussian.sample(outputs, random),
            &Self::CategoricalSequence { classes } => {
                CategoricalSequence { classes }.sample(outputs, random)
            }
        }
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Bernoulli => Bernoulli.fisher_factor_product(outputs, vectors),
            Self::Categorical => Categorical.fisher_factor_product(outputs, vectors),
            Self::Gaussian => Gaussian.fisher_factor_product(outputs, vectors),
            &Self::CategoricalSequence { classes } => {
                CategoricalSequence { classes }.fisher_factor_product(outputs, vectors)
            }
        }
    }

    fn fisher_factor_transpose_product(&self, outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Bernoulli => Bernoulli.fisher_factor_transpose_product(outputs, vectors),
            Self::Categorical => Categorical.fisher_factor_transpose_product(outputs, vectors),
            Self::Gaussian => Gaussian.fisher_factor_transpose_product(outputs, vectors),
            &Self::CategoricalSequence { classes } => {
                CategoricalSequence { classes }.fisher_factor_transpose_product(outputs, vectors)
            }
        }
    }
}
