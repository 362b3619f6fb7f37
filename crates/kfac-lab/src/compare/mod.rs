//! K-FAC and its rivals on the same problem for the same seconds.

mod peers;
mod rivals;
mod sweep;
mod table;

pub use peers::{Peer, PeerLimits, PeerPrograms};
pub use rivals::{Contender, RivalChoice};
pub use sweep::{Setting, Sweep};
pub use table::Comparison;

use crate::train::StepRecord;

/// A run that takes part.
#[derive(Debug)]
pub struct Entry {
    /// The method.
    pub label: String,
    /// Its steps, the initial point first.
    pub steps: Vec<StepRecord>,
}
