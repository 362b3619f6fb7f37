//! Estimating the Kronecker factors (section 5).

mod covariance;
mod factors;
mod moving_average;

pub use covariance::{append_ones, second_moment};
pub use factors::{FactorKind, KroneckerFactors};
pub use moving_average::{RunningFactors, old_weight};
