//! Estimating the Fisher matrix of a network (sections 3 and 5), and exact oracles.

mod batch_sums;
mod case_axis;
mod estimate;
mod estimator;
pub mod exact;
mod passes;

pub(crate) use batch_sums::BatchSums;
pub(crate) use case_axis::check_case_axis;
pub use estimate::FisherEstimate;
pub use estimator::{Correction, FisherEstimator};
pub(crate) use passes::Passes;

pub use crate::{
    inverse::{
        ChainLink, ConditionalInverse, DirectionPair, Eigenvalues, ExplainedPart,
        FisherApproximation, FisherInverse, InverseStructure, Regression,
    },
    linalg::NotPositiveDefinite,
};
