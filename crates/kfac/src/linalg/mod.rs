//! Symmetric positive definite algebra on the host.
//!
//! Burn has neither a Cholesky factorisation nor a symmetric eigendecomposition, so both are
//! faer's. Matrices cross between the device and the host in [`host`]; nothing here knows of
//! networks.

mod canonical;
mod columns;
mod faults;
pub(crate) mod host;
#[cfg(test)]
mod properties;
mod second_moment;
mod spd;
#[cfg(test)]
mod stein;
mod symmetric;

pub(crate) use canonical::{CanonicalDirections, canonical_directions, whitened_cross};
pub(crate) use columns::columns;
#[cfg(test)]
pub(crate) use faults::{factorisations, inject};
pub use second_moment::{append_ones, second_moment};
pub(crate) use second_moment::{bordered, cross_moment};
pub use spd::NotPositiveDefinite;
pub(crate) use spd::{Attempt, DampedCholesky, factorise};
pub(crate) use symmetric::{pseudo_inverse_solve, symmetric_eigen};
