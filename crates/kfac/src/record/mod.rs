//! What is written down of an optimizer, so that training goes on where it stopped.

mod error;
mod kind;
mod optimizer;
mod pack;
mod place;
mod tree;

pub use error::LoadError;
pub use kind::OptimizerKind;
pub use optimizer::OptimizerRecord;
pub(crate) use optimizer::Recorded;
pub(crate) use place::Place;
pub use tree::{Record, RecordError};
