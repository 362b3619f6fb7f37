//! What is written down of an optimizer, so that training goes on where it stopped.

mod error;
mod optimizer;
mod pack;
mod place;
mod tree;

pub use error::LoadError;
pub(crate) use optimizer::Recorded;
pub use optimizer::{OptimizerKind, OptimizerRecord};
pub(crate) use place::Place;
pub use tree::{Record, RecordError};
