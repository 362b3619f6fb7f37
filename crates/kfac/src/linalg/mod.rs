//! Symmetric positive definite algebra on the host, and the small dense oracles of the tests.
//!
//! Burn has neither a Cholesky factorisation nor a symmetric eigendecomposition, so both are
//! faer's. Matrices cross between the device and the host in [`host`]; nothing here knows of
//! networks.

pub mod host;
pub mod kronecker;
mod spd;
mod stein;
mod symmetric;

pub use spd::{Attempt, DampedCholesky, NotPositiveDefinite, factorise};
pub use stein::{
    CanonicalDirections, Pencil, Sign, canonical_directions, solve_by_eigen, solve_by_smith,
    whitened_cross,
};
pub use symmetric::{Eigendecomposition, pseudo_inverse_solve, symmetric_eigen};
