//! A small network for each kind of layer that has a curvature block.

use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, GroupNorm, GroupNormConfig,
        InstanceNorm, InstanceNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
        RmsNorm, RmsNormConfig,
        attention::{MultiHeadAttention, MultiHeadAttentionConfig},
        conv::{
            Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose2d,
            ConvTranspose2dConfig,
        },
        transformer::{TransformerEncoderConfig, TransformerEncoderLayer},
    },
    tensor::{DType, Device, Tensor},
};
use kfac::{AttentionMasks, Batch, Network, Tape};

use super::{normal, randomised};

/// The layer before the last of a network of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dense,
    Conv1d,
    Conv2d,
    Conv3d,
    Grouped,
    Depthwise,
    Transposed,
    Embedding,
    LayerNorm,
    RmsNorm,
    GroupNorm,
    InstanceNorm,
    BatchNorm,
    Parameter,
    Attention,
    Encoder,
}

/// Features of a case: read as three positions of four, two channels of six, and so on.
pub(crate) const FEATURES: usize = 12;
pub(crate) const OUTPUTS: usize = 2;
/// Tokens of the embedding: the whole parts of the features' absolute values.
const TOKENS: usize = 4;

impl Kind {
    pub(crate) const ALL: [Self; 16] = [
        Self::Dense,
        Self::Conv1d,
        Self::Conv2d,
        Self::Conv3d,
        Self::Grouped,
        Self::Depthwise,
        Self::Transposed,
        Self::Embedding,
        Self::LayerNorm,
        Self::RmsNorm,
        Self::GroupNorm,
        Self::InstanceNorm,
        Self::BatchNorm,
        Self::Parameter,
        Self::Attention,
        Self::Encoder,
    ];

    /// Whether the layer scales and shifts, so that its block may be diagonal or full.
    pub(crate) fn scales(self) -> bool {
        matches!(
            self,
            Self::LayerNorm
                | Self::RmsNorm
                | Self::GroupNorm
                | Self::InstanceNorm
                | Self::BatchNorm
                | Self::Encoder
        )
    }

    pub(crate) fn model(self, seed: u64) -> KindNetwork {
        self.model_in(DType::F64, seed)
    }

    pub(crate) fn model_in(self, dtype: DType, seed: u64) -> KindNetwork {
        let device = Device::default().autodiff();
        let network = KindNetwork {
            first: self.layer(&device),
            last: LinearConfig::new(self.hidden(), OUTPUTS).init(&device),
        };
        randomised(network, dtype, seed)
    }

    /// Random cases for the network.
    pub(crate) fn batch(n: usize, seed: u64) -> Batch<Tensor<2>> {
        Batch::new(
            normal([n, FEATURES], seed),
            normal([n, OUTPUTS], seed + 1000),
        )
    }

    fn layer(self, device: &Device) -> KindLayer {
        match self {
            Self::Dense => KindLayer::Dense(LinearConfig::new(4, 3).init(device)),
            Self::Conv1d => KindLayer::Conv1d(Conv1dConfig::new(2, 3, 3).init(device)),
            Self::Conv2d => KindLayer::Conv2d(Conv2dConfig::new([2, 3], [2, 2]).init(device)),
            Self::Conv3d => KindLayer::Conv3d(Conv3dConfig::new([1, 2], [1, 2, 2]).init(device)),
            Self::Grouped => {
                let config = Conv2dConfig::new([2, 4], [2, 2]).with_groups(2);
                KindLayer::Conv2d(config.init(device))
            }
            Self::Depthwise => {
                let config = Conv2dConfig::new([2, 2], [2, 2]).with_groups(2);
                KindLayer::Conv2d(config.with_bias(false).init(device))
            }
            Self::Transposed => {
                let config = ConvTranspose2dConfig::new([2, 2], [2, 2]).with_stride([2, 1]);
                KindLayer::Transposed(config.init(device))
            }
            Self::Embedding => KindLayer::Embedding(EmbeddingConfig::new(TOKENS, 2).init(device)),
            Self::LayerNorm => KindLayer::LayerNorm(LayerNormConfig::new(4).init(device)),
            Self::RmsNorm => KindLayer::RmsNorm(RmsNormConfig::new(4).init(device)),
            Self::GroupNorm => KindLayer::GroupNorm(GroupNormConfig::new(2, 4).init(device)),
            Self::InstanceNorm => KindLayer::InstanceNorm(InstanceNormConfig::new(4).init(device)),
            Self::BatchNorm => KindLayer::BatchNorm(BatchNormConfig::new(4).init(device)),
            Self::Parameter => {
                KindLayer::Parameter(Param::from_tensor(Tensor::ones([1, FEATURES], device)))
            }
            Self::Attention => {
                let config = MultiHeadAttentionConfig::new(4, 2).with_dropout(0.1);
                KindLayer::Attention(config.init(device))
            }
            Self::Encoder => {
                let config = TransformerEncoderConfig::new(4, 5, 2, 1);
                KindLayer::Encoder(TransformerEncoderLayer::new(&config, device))
            }
        }
    }

    /// Outputs of the layer for a case.
    fn hidden(self) -> usize {
        match self {
            Self::Dense => 3 * 3,
            Self::Conv1d => 3 * 4,
            Self::Conv2d => 3 * 2,
            Self::Conv3d | Self::Grouped => 2 * 2 * 2,
            Self::Depthwise => 2 * 2,
            Self::Transposed => 2 * 4 * 4,
            Self::Embedding => FEATURES * 2,
            _ => FEATURES,
        }
    }
}

#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a test holds a few networks at a time"
)]
pub(crate) enum KindLayer {
    Dense(Linear),
    Conv1d(Conv1d),
    Conv2d(Conv2d),
    Conv3d(Conv3d),
    Transposed(ConvTranspose2d),
    Embedding(Embedding),
    LayerNorm(LayerNorm),
    RmsNorm(RmsNorm),
    GroupNorm(GroupNorm),
    InstanceNorm(InstanceNorm),
    BatchNorm(BatchNorm),
    Parameter(Param<Tensor<2>>),
    Attention(MultiHeadAttention),
    Encoder(TransformerEncoderLayer),
}

/// A layer of a kind, tanh, and a dense layer.
#[derive(Module, Debug)]
pub(crate) struct KindNetwork {
    pub(crate) first: KindLayer,
    pub(crate) last: Linear,
}

impl Network for KindNetwork {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = self.first.call(inputs, tape);
        tape.linear(&self.last, hidden.tanh())
    }
}

impl KindLayer {
    /// `[n, FEATURES] -> [n, hidden]`
    fn call(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let n = x.dims()[0];
        let sequence = x.clone().reshape([n, 3, 4]);
        let channels = x.clone().reshape([n, 4, 3]);
        let image = x.clone().reshape([n, 2, 2, 3]);
        match self {
            Self::Dense(layer) => tape.linear(layer, sequence).flatten(1, 2),
            Self::Conv1d(layer) => tape.conv1d(layer, x.reshape([n, 2, 6])).flatten(1, 2),
            Self::Conv2d(layer) => tape.conv2d(layer, image).flatten(1, 3),
            Self::Conv3d(layer) => tape.conv3d(layer, x.reshape([n, 1, 2, 3, 2])).flatten(1, 4),
            Self::Transposed(layer) => tape.conv_transpose2d(layer, image).flatten(1, 3),
            Self::Embedding(layer) => {
                let tokens = x.inner().abs().clamp_max(TOKENS as f64 - 0.5).int();
                tape.embedding(layer, tokens).flatten(1, 2)
            }
            Self::LayerNorm(layer) => tape.layer_norm(layer, sequence).flatten(1, 2),
            Self::RmsNorm(layer) => tape.rms_norm(layer, sequence).flatten(1, 2),
            Self::GroupNorm(layer) => tape.group_norm(layer, channels).flatten(1, 2),
            Self::InstanceNorm(layer) => tape.instance_norm(layer, channels).flatten(1, 2),
            Self::BatchNorm(layer) => tape.batch_norm(layer, channels).flatten(1, 2),
            Self::Parameter(factor) => x * tape.parameter(factor),
            Self::Attention(layer) => {
                let of = [sequence.clone(), sequence.clone(), sequence];
                tape.attention(layer, of, &AttentionMasks::none())
                    .flatten(1, 2)
            }
            Self::Encoder(layer) => tape
                .transformer_encoder_layer(layer, sequence, &AttentionMasks::none())
                .flatten(1, 2),
        }
    }
}
