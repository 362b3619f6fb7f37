//! Damping (section 6): how the approximate inverse and the quadratic model are kept in check.

mod conditional;
mod gamma;
mod host_factors;
mod host_layer;
mod inverse;
mod lambda;
mod repair;
mod start;
mod tikhonov;

pub use gamma::{GammaBounds, gamma_candidates};
pub use inverse::InverseMethod;
pub(crate) use inverse::{DampedInverse, InverseKind, PreparedFactors};
pub use lambda::{LambdaAction, LevenbergMarquardt};
pub use repair::{FactorAction, FactorRepair};
pub use start::DampingStart;
pub(crate) use start::calibrated_lambda;
pub use tikhonov::{DampingScheme, PiNorm, factored_pi};
