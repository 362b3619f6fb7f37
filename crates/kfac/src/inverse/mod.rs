//! Inverses over all layers: block-diagonal, and block-tridiagonal in chains (section 4).

mod approximation;
mod chain;
mod conditional;
mod correction;
mod fisher_inverse;
mod prepared;
mod regression;
mod restore;

pub use approximation::FisherApproximation;
pub use chain::ChainLink;
pub use conditional::{ConditionalInverse, DirectionPair, ExplainedPart};
pub(crate) use correction::CorrectionSums;
pub use correction::Eigenvalues;
pub use fisher_inverse::{FisherInverse, InverseStructure};
pub(crate) use prepared::{DampedInverse, InverseOf, PreparedFactors};
pub use regression::Regression;
