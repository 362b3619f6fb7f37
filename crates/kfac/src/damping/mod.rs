//! Damping (section 6): the rules that keep the approximate inverse and the quadratic model in check.

mod calibrated;
mod fixed;
mod gamma;
mod lambda;
mod levenberg_marquardt;
mod rule;
mod scheduled;
mod tikhonov;

pub use calibrated::Calibrated;
pub use fixed::FixedLambda;
pub use gamma::{GammaBounds, gamma_candidates};
pub(crate) use lambda::check_lambda;
pub use lambda::{Evidence, LambdaAction, LambdaRule, LambdaState, LambdaUpdate};
pub use levenberg_marquardt::LevenbergMarquardt;
pub(crate) use rule::check_damping;
pub use rule::{DampingRule, FactorNorms, ProductDamping};
pub use scheduled::ScheduledLambda;
pub use tikhonov::{DampingScheme, ExactTikhonov, FactoredTikhonov, PiNorm, factored_pi};
