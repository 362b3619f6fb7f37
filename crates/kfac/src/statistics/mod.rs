//! Estimating the Kronecker factors (section 5).

mod covariance;
mod factors;
mod moving_average;

pub use covariance::{append_ones, cross_moment, second_moment};
pub use factors::{CrossFactors, FactorKind, FactorSet, KroneckerFactors, LayerFactors};
pub use moving_average::{RunningFactors, old_weight};
