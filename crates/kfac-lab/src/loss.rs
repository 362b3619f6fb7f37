//! The losses by name, and the errors that are reported beside them.

use std::sync::Arc;

use burn::tensor::Tensor;
use kfac::{Bernoulli, Categorical, CategoricalSequence, Gaussian, PredictiveDistribution};
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

/// A loss as K-FAC takes it, chosen at run time.
pub type Distribution = Arc<dyn PredictiveDistribution>;

impl Loss {
    /// The predictive distribution.
    pub fn distribution(self) -> Distribution {
        match self {
            Self::Bernoulli => Arc::new(Bernoulli),
            Self::Categorical => Arc::new(Categorical),
            Self::Gaussian => Arc::new(Gaussian),
            Self::CategoricalSequence { classes } => Arc::new(CategoricalSequence { classes }),
        }
    }

    /// The summed error of some cases as people read it: the squared error of the predictions, or
    /// the number of misclassified cases.
    pub fn error(self, outputs: Tensor<2>, targets: Tensor<2>) -> f64 {
        let squared = |predictions: Tensor<2>| {
            let residual = predictions - targets.clone();
            crate::matrix::sum(residual.clone() * residual)
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
    crate::matrix::sum(wrong)
}
