//! What is trained: cases, layers with their parameters, vectors of parameters, outputs.

mod cases;
mod layer;
mod layers;
mod layout;
mod outputs;
mod parts;
mod running_statistics;
mod table;
mod values;
mod vector;

pub(crate) use cases::check_batch;
pub use cases::{Batch, Cases};
pub use layer::{Layer, ParameterAction, WeightSharing};
pub use layers::Layers;
pub(crate) use layers::device_of;
pub use layout::WeightLayout;
pub use outputs::Outputs;
pub(crate) use outputs::{detached, map_rows};
pub(crate) use parts::Parts;
pub(crate) use running_statistics::RunningStatistics;
pub use table::{Block, BlockDescription, Coverage, ParameterRow, ParameterTable};
pub(crate) use table::{FrozenLater, Misshapen};
pub(crate) use values::{Value, values_of};
pub use vector::ParameterVector;
