//! A small transformer encoder for images of 28 × 28 pixels, read row by row.

use burn::{
    module::{Module, Param},
    nn::{
        Initializer, Linear, LinearConfig,
        transformer::{TransformerEncoder, TransformerEncoderConfig},
    },
    tensor::{Device, Tensor},
};
use kfac::{AttentionMasks, Network, Tape};

use super::initialised;
use crate::precision::Precision;

/// Rows of an image, and pixels of a row.
const SIDE: usize = 28;

/// Features of a position.
const WIDTH: usize = 32;

/// The rows of an image as a sequence: a dense layer and a learned vector for each position, two encoder
/// layers of 32 features with 4 heads, the mean over positions, and a dense layer of classes.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    rows: Linear,
    /// Added to each position, `[1, positions, features]`.
    positions: Param<Tensor<3>>,
    encoder: TransformerEncoder,
    output: Linear,
}

impl ImageEncoder {
    /// A network with Burn's initialisation.
    pub fn new(seed: u64, place: (&Device, Precision)) -> Self {
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        initialised(seed, place, |device| Self {
            rows: LinearConfig::new(SIDE, WIDTH).init(device),
            positions: small.init([1, SIDE, WIDTH], device),
            encoder: TransformerEncoderConfig::new(WIDTH, 64, 4, 2)
                .with_dropout(0.0)
                .with_norm_first(true)
                .init(device),
            output: LinearConfig::new(WIDTH, 10).init(device),
        })
    }
}

impl Network for ImageEncoder {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let rows = inputs.clone().reshape([inputs.dims()[0], SIDE, SIDE]);
        let x = tape.linear(&self.rows, rows) + tape.parameter(&self.positions);
        let x = tape.transformer_encoder(&self.encoder, x, &AttentionMasks::none());
        tape.linear(&self.output, x.mean_dim(1).squeeze_dim(1))
    }
}
