//! The Fisher matrix and its approximations (sections 3 and 4).

mod block_diagonal;
mod estimate;
pub mod exact;

pub use block_diagonal::{BlockDiagonalInverse, BlockInverse};
pub use estimate::FisherEstimate;
pub(crate) use estimate::FisherEstimator;
