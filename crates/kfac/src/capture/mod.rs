//! Seeing a network's layers at work: their inputs and the gradients at their outputs.

mod attention;
mod capture;
mod convolution;
mod entries;
mod layer;
mod layers;
mod normalisation;
mod patches;
mod table;
mod tape;

pub use attention::AttentionMasks;
pub(crate) use capture::{CapturedPass, LayerUses, pieces, sum_by_token};
pub use layer::{
    BlockStructure, Layer, LayerKind, LayerOptions, ScaleShiftBlock, WeightSharing,
};
pub use layers::Layers;
pub(crate) use normalisation::FormerStatistics;
pub use table::{Block, Coverage, ParameterRow, ParameterTable};
pub use tape::Tape;
