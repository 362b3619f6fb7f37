//! Seeing a network's layers at work: their inputs and the gradients at their outputs.

mod layers;
mod table;
mod tape;

pub use layers::{DenseLayer, Layers};
pub use table::{Coverage, ParameterRow, ParameterTable};
pub use tape::{CapturedPass, LayerCapture, Tape};
