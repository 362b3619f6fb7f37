//! Networks of sequences, some of whose positions are padding.

use burn::{
    module::Module,
    nn::{
        Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
        transformer::{TransformerEncoderConfig, TransformerEncoderLayer},
    },
    tensor::{DType, Device, Tensor},
};
use faer::Mat;
use kfac::{AttentionMasks, Categorical, Network, PredictiveDistribution, RandomStream, Tape};

use super::{normal, randomised, tensor};

/// Tokens that the embeddings know.
pub(crate) const TOKENS: usize = 5;
/// Features at a position.
pub(crate) const WIDTH: usize = 4;
pub(crate) const OUTPUTS: usize = 3;

/// The token at each position, and one where that is padding: `[n, R]` each.
pub(crate) type Sequences = (Tensor<2>, Tensor<2>);

/// Random tokens, and padding where `padded` says so.
pub(crate) fn sequences(
    [n, positions]: [usize; 2],
    seed: u64,
    padded: impl Fn(usize, usize) -> bool,
) -> Sequences {
    let tokens = normal([n, positions], seed).abs() * 2.5;
    let tokens = tokens.clamp_max(TOKENS as f64 - 0.5).floor();
    let padding = Mat::from_fn(n, positions, |i, r| f64::from(u8::from(padded(i, r))));
    (tokens, tensor(&padding))
}

/// Random classes, one-hot.
pub(crate) fn class_targets(n: usize, seed: u64) -> Tensor<2> {
    let random = &mut RandomStream::from_seed(seed);
    Categorical.sample(normal([n, OUTPUTS], seed), random)
}

/// How a network calls its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Of `[n, R, d]`.
    Positions,
    /// Of `[n · R, d]`.
    Folded,
}

/// Embedding, normalisation and dense layer at each position, the mean over positions that are not
/// padding, and a dense layer.
#[derive(Module, Debug)]
pub(crate) struct SequenceNetwork {
    embedding: Embedding,
    norm: LayerNorm,
    shared: Linear,
    last: Linear,
    #[module(skip)]
    call: Call,
}

impl SequenceNetwork {
    pub(crate) fn new(call: Call, seed: u64) -> Self {
        let device = Device::default().autodiff();
        let network = Self {
            embedding: EmbeddingConfig::new(TOKENS, WIDTH).init(&device),
            norm: LayerNormConfig::new(WIDTH).init(&device),
            shared: LinearConfig::new(WIDTH, 3).init(&device),
            last: LinearConfig::new(3, OUTPUTS).init(&device),
            call,
        };
        randomised(network, DType::F64, seed)
    }
}

impl Network for SequenceNetwork {
    type Input = Sequences;
    type Output = Tensor<2>;

    fn forward(&self, (tokens, padding): Sequences, tape: &mut Tape) -> Tensor<2> {
        let [n, positions] = tokens.dims();
        let shape = match self.call {
            Call::Positions => [n, positions],
            Call::Folded => [n * positions, 1],
        };
        tape.set_padding(Some(padding.clone().bool()));
        let x = tape.embedding(&self.embedding, tokens.int().reshape(shape));
        let x = tape.layer_norm(&self.norm, x);
        let x = tape.linear(&self.shared, x).tanh();
        tape.set_padding(None);
        let x = x.reshape([n, positions, 3]);
        tape.linear(&self.last, valid_mean(x, padding))
    }
}

/// The mean over positions that are not padding.
fn valid_mean(x: Tensor<3>, padding: Tensor<2>) -> Tensor<2> {
    let valid = padding.ones_like() - padding;
    let count = valid.clone().sum_dim(1);
    let sum: Tensor<2> = (x * valid.unsqueeze_dim(2)).sum_dim(1).squeeze_dim(1);
    sum / count
}

/// A layer of a transformer encoder between an embedding and the mean over positions.
#[derive(Module, Debug)]
pub(crate) struct EncoderNetwork {
    embedding: Embedding,
    encoder: TransformerEncoderLayer,
    last: Linear,
}

impl EncoderNetwork {
    pub(crate) fn new(norm_first: bool, seed: u64) -> Self {
        let device = Device::default().autodiff();
        let config = TransformerEncoderConfig::new(WIDTH, 5, 2, 1).with_norm_first(norm_first);
        let network = Self {
            embedding: EmbeddingConfig::new(TOKENS, WIDTH).init(&device),
            encoder: TransformerEncoderLayer::new(&config, &device),
            last: LinearConfig::new(WIDTH, OUTPUTS).init(&device),
        };
        randomised(network, DType::F64, seed)
    }
}

impl Network for EncoderNetwork {
    type Input = Sequences;
    type Output = Tensor<2>;

    fn forward(&self, (tokens, padding): Sequences, tape: &mut Tape) -> Tensor<2> {
        tape.set_padding(Some(padding.clone().bool()));
        let x = tape.embedding(&self.embedding, tokens.int());
        tape.set_padding(None);
        let masks = AttentionMasks {
            padding: Some(padding.clone().bool()),
            attention: None,
        };
        let x = tape.transformer_encoder_layer(&self.encoder, x, &masks);
        tape.linear(&self.last, valid_mean(x, padding))
    }
}
