//! The residual network with 20 layers for small images.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};
use kfac::{Network, Tape};

use super::initialised;
use crate::precision::Precision;

/// A convolution of 3 × 3 and 9 blocks of two more, with batch normalisation, and a dense layer of classes.
///
/// Where a block halves the image, its input is taken at every second pixel and gets channels of zeros
/// (option A).
///
/// # Source
/// He, Zhang, Ren and Sun (2016), *Deep Residual Learning for Image Recognition*, section 4.2.
#[derive(Module, Debug)]
pub struct ResNet {
    conv: Conv2d,
    norm: BatchNorm,
    blocks: Vec<ResidualBlock>,
    output: Linear,
}

#[derive(Module, Debug)]
struct ResidualBlock {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
}

/// Channels of the three groups of three blocks.
const CHANNELS: [usize; 3] = [16, 32, 64];

impl ResNet {
    /// A network with Burn's initialisation, for images of so many channels.
    pub fn new(colours: usize, device: &Device) -> Self {
        let mut blocks = Vec::new();
        let mut channels = CHANNELS[0];
        for wanted in CHANNELS {
            for _ in 0..3 {
                blocks.push(ResidualBlock::new([channels, wanted], device));
                channels = wanted;
            }
        }
        Self {
            conv: convolution([colours, CHANNELS[0]], 1, device),
            norm: BatchNormConfig::new(CHANNELS[0]).init(device),
            blocks,
            output: LinearConfig::new(channels, 10).init(device),
        }
    }
}

/// 3 × 3, no bias: the normalisation behind it has one.
fn convolution(channels: [usize; 2], stride: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(false)
        .init(device)
}

impl ResidualBlock {
    fn new([channels_in, channels_out]: [usize; 2], device: &Device) -> Self {
        let stride = channels_out / channels_in;
        Self {
            conv1: convolution([channels_in, channels_out], stride, device),
            norm1: BatchNormConfig::new(channels_out).init(device),
            conv2: convolution([channels_out, channels_out], 1, device),
            norm2: BatchNormConfig::new(channels_out).init(device),
        }
    }

    fn forward(&self, input: Tensor<4>, tape: &mut Tape) -> Tensor<4> {
        let a = tape.conv2d(&self.conv1, input.clone());
        let a = relu(tape.batch_norm(&self.norm1, a));
        let a = tape.conv2d(&self.conv2, a);
        let a = tape.batch_norm(&self.norm2, a);
        relu(a.clone() + shortcut(input, a.dims()))
    }
}

/// The input at every second pixel, with channels of zeros behind, where the shapes differ.
fn shortcut(input: Tensor<4>, wanted: [usize; 4]) -> Tensor<4> {
    let dims = input.dims();
    if dims == wanted {
        return input;
    }
    let every_second = input.slice(burn::tensor::s![.., .., ..;2, ..;2]);
    let [n, channels, h, w] = every_second.dims();
    let options = (&every_second.device(), every_second.dtype());
    let zeros = Tensor::zeros([n, wanted[1] - channels, h, w], options);
    Tensor::cat(vec![every_second, zeros], 1)
}

impl Network for ResNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, images: Tensor<4>, tape: &mut Tape) -> Tensor<2> {
        let a = tape.conv2d(&self.conv, images);
        let mut a = relu(tape.batch_norm(&self.norm, a));
        for block in &self.blocks {
            a = block.forward(a, tape);
        }
        let pooled: Tensor<2> = a.mean_dim(3).mean_dim(2).flatten(1, 3);
        tape.linear(&self.output, pooled)
    }
}

/// The network for grey images of 28 × 28 pixels, read as rows of 784.
#[derive(Module, Debug)]
pub struct GreyResNet {
    network: ResNet,
}

/// Pixels of a side.
const SIDE: usize = 28;

impl GreyResNet {
    /// A network with Burn's initialisation.
    pub fn new(seed: u64, place: (&Device, Precision)) -> Self {
        initialised(seed, place, |device| Self {
            network: ResNet::new(1, device),
        })
    }
}

impl Network for GreyResNet {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let images = inputs.clone().reshape([inputs.dims()[0], 1, SIDE, SIDE]);
        self.network.forward(images, tape)
    }
}
