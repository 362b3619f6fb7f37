//! Parameter tables of known networks: what K-FAC does with each of their parameters.

use burn::tensor::{Device, Tensor};
use kfac::{
    Network, ParameterTable, ScaleShiftBlock, WeightSharing,
    blocks::{BlockOptions, Blocks},
};

use crate::{
    network::{ImageEncoder, LeNet, ResNet},
    precision::Precision,
};

/// A network to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KnownNetwork {
    /// Two convolutions and three dense layers
    Lenet,
    /// Residual network of 20 layers with batch normalisation, for CIFAR-10
    Resnet20,
    /// Transformer encoder of two layers over the rows of an image
    Encoder,
}

impl KnownNetwork {
    /// The parameter table.
    pub fn table(self, sharing: WeightSharing, scale_shift: ScaleShiftBlock) -> ParameterTable {
        let options = BlockOptions::default()
            .with_sharing(sharing)
            .with_scale_shift(scale_shift);
        let device = Device::flex().autodiff();
        let place = (&device, Precision::F32);
        let image = Tensor::zeros([1, 28 * 28], &device);
        match self {
            Self::Lenet => table(&LeNet::new(1, place), &image, &options),
            Self::Encoder => table(&ImageEncoder::new(1, place), &image, &options),
            Self::Resnet20 => {
                let image = Tensor::zeros([1, 3, 32, 32], &device);
                table(&ResNet::new(3, &device), &image, &options)
            }
        }
    }
}

fn table<M: Network>(model: &M, example: &M::Input, options: &BlockOptions) -> ParameterTable {
    Blocks::discover(model, example, options).1
}
