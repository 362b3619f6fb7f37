//! Small networks of Burn's own modules with random parameters in double precision.

use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
        conv::{Conv1d, Conv1dConfig},
    },
    tensor::{DType, Device, Int, Tensor},
};
use kfac::{Network, Tape};

use super::{network, normal, randomised};

/// A random trainable parameter.
pub(crate) fn parameter<const D: usize>(
    shape: [usize; D],
    scale: f64,
    seed: u64,
) -> Param<Tensor<D>> {
    Param::from_tensor((normal(shape, seed) * scale).autodiff())
}

/// A random dense layer with a bias.
pub(crate) fn dense_layer(shape: [usize; 2], seed: u64) -> Linear {
    network::linear(shape, true, (DType::F64, seed))
}

/// Two dense layers with a tanh between, without an exact forward mode.
#[derive(Module, Debug)]
pub(crate) struct TwoLayers {
    pub(crate) hidden: Linear,
    pub(crate) last: Linear,
}

impl TwoLayers {
    pub(crate) fn new([d_in, hidden, d_out]: [usize; 3], seed: u64) -> Self {
        Self {
            hidden: dense_layer([d_in, hidden], 2 * seed),
            last: dense_layer([hidden, d_out], 2 * seed + 1),
        }
    }
}

impl Network for TwoLayers {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.hidden, inputs).tanh();
        tape.linear(&self.last, hidden)
    }
}

/// A batch normalisation between two dense layers.
#[derive(Module, Debug)]
pub(crate) struct Normalised {
    pub(crate) first: Linear,
    pub(crate) normalisation: BatchNorm,
    pub(crate) last: Linear,
}

impl Normalised {
    pub(crate) fn new() -> Self {
        let device = Device::default().autodiff();
        Self {
            first: dense_layer([4, 5], 1),
            normalisation: randomised(BatchNormConfig::new(5).init(&device), DType::F64, 2),
            last: dense_layer([5, 3], 3),
        }
    }
}

impl Network for Normalised {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.first, inputs);
        let hidden = tape.batch_norm(&self.normalisation, hidden).tanh();
        tape.linear(&self.last, hidden)
    }
}

/// The tokens that [`Several`] knows.
pub(crate) const SEVERAL_TOKENS: usize = 5;

/// The positions of a case of [`Several`].
pub(crate) const SEVERAL_POSITIONS: usize = 4;

/// A layer of each kind: looked up, in groups, a scale and shift, dense.
#[derive(Module, Debug)]
pub(crate) struct Several {
    embedding: Embedding,
    grouped: Conv1d,
    normalisation: LayerNorm,
    dense: Linear,
}

impl Several {
    pub(crate) fn new() -> Self {
        let device = Device::default().autodiff();
        let several = Self {
            embedding: EmbeddingConfig::new(SEVERAL_TOKENS, 4).init(&device),
            grouped: Conv1dConfig::new(4, 4, 2).with_groups(2).init(&device),
            normalisation: LayerNormConfig::new(4).init(&device),
            dense: dense_layer([4, 3], 1),
        };
        randomised(several, DType::F64, 3)
    }
}

impl Network for Several {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;

    fn forward(&self, tokens: Tensor<2, Int>, tape: &mut Tape) -> Tensor<3> {
        let embedded = tape.embedding(&self.embedding, tokens); // [n, R, 4]
        let mixed = tape.conv1d(&self.grouped, embedded.swap_dims(1, 2)); // [n, 4, R − 1]
        let features = tape.layer_norm(&self.normalisation, mixed.swap_dims(1, 2).tanh());
        tape.linear(&self.dense, features) // [n, R − 1, 3]
    }
}
