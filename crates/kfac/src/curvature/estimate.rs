//! Where the gradients of the Fisher come from (section 5).

use serde::{Deserialize, Serialize};

/// Where the output gradients of the factors `G` come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum FisherEstimate {
    /// One target a case, sampled from the model's predictive distribution: unbiased, one backward
    /// pass. The paper's choice.
    #[default]
    MonteCarlo,
    /// All columns of the factor `B` of the output Fisher `F_R = B Bᵀ`: no sampling noise, one
    /// forward and backward pass an output.
    Exact,
    /// The training targets. Not the Fisher: it vanishes where the fit is perfect, and the equality
    /// with the Gauss-Newton matrix is lost. For comparisons.
    Empirical,
}
