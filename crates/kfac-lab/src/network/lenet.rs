//! A convolutional network for images of 28 × 28 pixels.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AvgPool2d, AvgPool2dConfig},
    },
    tensor::{Device, Tensor, activation::tanh},
};
use kfac::{Network, Tape};

use super::initialised;
use crate::precision::Precision;

/// Two convolutions with average pooling, and three dense layers: 6 and 16 channels, 120, 84 and 10 units.
///
/// # Source
/// LeCun, Bottou, Bengio and Haffner (1998), *Gradient-based learning applied to document recognition*;
/// the second convolution has all connections.
#[derive(Module, Debug)]
pub struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    dense1: Linear,
    dense2: Linear,
    output: Linear,
    pool: AvgPool2d,
}

/// Pixels of a side.
const SIDE: usize = 28;

impl LeNet {
    /// A network with Burn's initialisation.
    pub fn new(seed: u64, place: (&Device, Precision)) -> Self {
        initialised(seed, place, |device| Self {
            conv1: Conv2dConfig::new([1, 6], [5, 5])
                .with_padding(PaddingConfig2d::Explicit(2, 2, 2, 2))
                .init(device),
            conv2: Conv2dConfig::new([6, 16], [5, 5]).init(device),
            dense1: LinearConfig::new(16 * 5 * 5, 120).init(device),
            dense2: LinearConfig::new(120, 84).init(device),
            output: LinearConfig::new(84, 10).init(device),
            pool: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        })
    }
}

impl Network for LeNet {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let images = inputs.clone().reshape([inputs.dims()[0], 1, SIDE, SIDE]);
        let a = self.pool.forward(tanh(tape.conv2d(&self.conv1, images)));
        let a = self.pool.forward(tanh(tape.conv2d(&self.conv2, a)));
        let a = tanh(tape.linear(&self.dense1, a.flatten(1, 3)));
        let a = tanh(tape.linear(&self.dense2, a));
        tape.linear(&self.output, a)
    }
}
