//! Estimating the Fisher matrix of a network (sections 3 and 5), and exact oracles.

mod estimate;
mod estimator;
pub mod exact;
mod passes;
mod sums;

pub use estimate::FisherEstimate;
pub use estimator::{Correction, FisherEstimator};
pub(crate) use passes::{Passes, TargetGradient};
pub(crate) use sums::Sums;

pub use crate::{
    inverse::{
        ChainLink, ConditionalInverse, DirectionPair, Eigenvalues, ExplainedPart,
        FisherApproximation, FisherInverse, InverseStructure, Regression,
    },
    linalg::NotPositiveDefinite,
};
