//! Damping (section 6): how the approximate inverse and the quadratic model are kept in check.

mod gamma;
mod inverse;
mod lambda;
mod tikhonov;

pub use gamma::{GammaBounds, gamma_candidates};
pub(crate) use inverse::{DampedInverse, PreparedFactors};
pub use inverse::{FactorAction, FactorRepair, InverseMethod};
pub use lambda::{LambdaAction, LevenbergMarquardt};
pub use tikhonov::{DampingScheme, PiNorm, factored_pi};
