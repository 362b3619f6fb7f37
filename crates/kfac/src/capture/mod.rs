//! Seeing a network's layers at work: their inputs and the gradients at their outputs.

mod attention;
mod convolution;
mod dense;
mod discover;
mod embedding;
mod gradients;
mod inputs;
mod layer_sums;
mod layer_uses;
mod network;
mod normalisation;
mod normalise;
mod own_statistics;
mod patch_geometry;
mod patch_moments;
mod patch_sums;
mod patches;
mod scale_shift;
mod tape;

pub use attention::AttentionMasks;
pub(crate) use discover::LayerChoice;
pub(crate) use layer_uses::CapturedPass;
pub use layer_uses::LayerUses;
pub use network::{Jvp, Network};
pub(crate) use normalisation::{BatchStatistics, Origin};
pub(crate) use normalise::normalised_by;
pub(crate) use own_statistics::with_own_statistics;
pub use tape::{LayerParameters, Tape};
