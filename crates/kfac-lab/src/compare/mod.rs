//! K-FAC and its rivals on the same problem for the same seconds.

mod countdown;
mod entry;
mod peers;
mod plan;
mod rivals;
mod sweep;
mod table;

pub use countdown::Countdown;
pub use entry::Entry;
pub use peers::{Peer, PeerLimits, PeerPrograms, initial_weights};
pub use plan::EvaluationPlan;
pub use rivals::{Contender, RivalChoice};
pub use sweep::{Setting, Sweep};
pub use table::Comparison;
