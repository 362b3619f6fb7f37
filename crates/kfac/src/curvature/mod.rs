//! The Fisher matrix and its approximations (sections 3 and 4).

mod approximation;
mod block;
mod block_diagonal;
mod block_tridiagonal;
mod correction;
mod estimate;
pub mod exact;
mod moments;
mod structure;
mod sums;

pub use approximation::FisherApproximation;
pub use block::{BlockInverse, EigenInverse, KroneckerInverse};
pub use block_diagonal::BlockDiagonalInverse;
pub use block_tridiagonal::{BlockTridiagonalInverse, Regression};
pub(crate) use correction::CorrectionSums;
pub use correction::Eigenvalues;
pub use estimate::{FisherEstimate, FisherEstimator};
pub use structure::{FisherInverse, InverseStructure};
pub(crate) use sums::Sums;
