//! Seeing a network's layers at work: their inputs and the gradients at their outputs.

mod attention;
mod convolution;
mod entries;
mod gradients;
mod layer;
mod layers;
mod normalisation;
mod patches;
mod table;
mod tape;
mod uses;

pub use attention::AttentionMasks;
pub use layer::{BlockStructure, Layer, LayerKind, LayerOptions, ScaleShiftBlock, WeightSharing};
pub use layers::Layers;
pub(crate) use normalisation::{BatchStatistics, FormerStatistics};
pub use table::{Block, Coverage, ParameterRow, ParameterTable};
pub use tape::Tape;
pub(crate) use uses::{CapturedPass, LayerUses, pieces, sum_by_token};
