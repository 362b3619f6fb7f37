//! The networks that can be trained, behind one type.

mod activation;
mod encoder;
mod lenet;
mod mlp;
mod resnet;

use std::path::Path;

use anyhow::{Result, ensure};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Device, Tensor, TensorData},
};
use kfac::{Jvp, Network, Tape};
use serde::{Deserialize, Serialize};

use crate::{
    initialise::{self, LayerWeights},
    npy,
    precision::Precision,
};
pub use activation::Activation;
pub use encoder::ImageEncoder;
pub use lenet::LeNet;
pub use mlp::Mlp;
pub use resnet::{GreyResNet, ResNet};

/// What a network is built of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Dense layers.
    Dense {
        /// Numbers of units, input to output.
        widths: Vec<usize>,
        /// The nonlinearities of the hidden layers.
        hidden: Vec<Activation>,
    },
    /// Two convolutions and three dense layers, after LeCun et al. (1998).
    LeNet,
    /// A transformer encoder over the rows of an image.
    Encoder,
    /// The residual network with 20 layers of He et al. (2016).
    ResNet,
}

impl Architecture {
    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Dense { widths, .. } => widths.last().copied().unwrap_or_default(),
            Self::LeNet | Self::Encoder | Self::ResNet => 10,
        }
    }

    /// Numbers of units and hidden nonlinearities of a network of dense layers.
    ///
    /// # Errors
    /// Where it has others.
    pub fn dense(&self) -> Result<(&[usize], &[Activation])> {
        match self {
            Self::Dense { widths, hidden } => Ok((widths, hidden)),
            Self::LeNet | Self::Encoder | Self::ResNet => {
                anyhow::bail!("this works for networks of dense layers only")
            }
        }
    }

    /// A network with the weights of a file, or those of its usual initialisation.
    ///
    /// # Errors
    /// Where the file cannot be read or is of another network.
    pub fn build(
        &self,
        (file, seed): (Option<&Path>, u64),
        place: (&Device, Precision),
    ) -> Result<Model> {
        match self {
            Self::Dense { widths, hidden } => {
                let weights = initialise::initial_weights((widths, hidden), file, seed)?;
                Ok(Model::Mlp(Mlp::new(&weights, hidden.clone(), place)))
            }
            Self::LeNet => Model::Convolutional(LeNet::new(seed, place)).with_file(file),
            Self::Encoder => Model::Encoder(ImageEncoder::new(seed, place)).with_file(file),
            Self::ResNet => Model::Residual(GreyResNet::new(seed, place)).with_file(file),
        }
    }
}

/// A network of any of the kinds; its outputs are the natural parameters of the loss.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a run has one network, or a few copies of it"
)]
pub enum Model {
    /// Dense layers.
    Mlp(Mlp),
    /// Convolutions and dense layers.
    Convolutional(LeNet),
    /// A transformer encoder.
    Encoder(ImageEncoder),
    /// Convolutions with batch normalisation.
    Residual(GreyResNet),
}

impl Network for Model {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        match self {
            Self::Mlp(network) => network.forward(inputs, tape),
            Self::Convolutional(network) => network.forward(inputs, tape),
            Self::Encoder(network) => network.forward(inputs, tape),
            Self::Residual(network) => network.forward(inputs, tape),
        }
    }

    fn jvp(&self, inputs: Tensor<2>, tangents: &[Self]) -> Option<Jvp> {
        let Self::Mlp(network) = self else {
            return None;
        };
        let tangent = |tangent: &Self| match tangent {
            Self::Mlp(tangent) => Some(tangent.clone()),
            Self::Convolutional(_) | Self::Encoder(_) | Self::Residual(_) => None,
        };
        let tangents: Option<Vec<Mlp>> = tangents.iter().map(tangent).collect();
        network.jvp(inputs, &tangents?)
    }
}

impl Model {
    /// All weights as a file holds them: of dense layers W, row-major `[d_out, d_in]`, then b; of other
    /// networks each parameter as it is stored, in the order of the fields.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::Mlp(network) => LayerWeights::values(&network.weights()),
            Self::Convolutional(_) | Self::Encoder(_) | Self::Residual(_) => {
                let mut values = Values(Vec::new());
                self.visit(&mut values);
                values.0
            }
        }
    }

    /// Whether training passes normalise by the statistics of the batch.
    pub fn normalises_by_batch(&self) -> bool {
        matches!(self, Self::Residual(_))
    }

    /// The identities of the weights that are matrices.
    pub fn matrices(&self) -> Vec<ParamId> {
        let mut matrices = Matrices(Vec::new());
        self.visit(&mut matrices);
        matrices.0
    }

    /// The network with the weights of a file, where there is one.
    fn with_file(self, file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(self) };
        let values = npy::read(path)?.values;
        let expected = self.values().len();
        ensure!(
            values.len() == expected,
            "{}: expected {expected} values for the network, found {}",
            path.display(),
            values.len()
        );
        Ok(self.map(&mut Assign { values, at: 0 }))
    }
}

struct Matrices(Vec<ParamId>);

impl ModuleVisitor for Matrices {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 2 {
            self.0.push(param.id);
        }
    }
}

struct Values(Vec<f64>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(param.val().inner().into_data().iter::<f64>());
    }
}

struct Assign {
    values: Vec<f64>,
    at: usize,
}

impl ModuleMapper for Assign {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.shape();
        let end = self.at + shape.num_elements();
        let values = self.values[self.at..end].to_vec();
        self.at = end;
        param.map(|old| {
            let data = TensorData::new(values, shape);
            let new = Tensor::from_data(data, (&old.device(), old.dtype()));
            new.set_require_grad(old.is_require_grad())
        })
    }
}

/// Puts a network of Burn's initialisation into a precision.
struct InPrecision(Precision);

impl ModuleMapper for InPrecision {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = self.0.dtype();
        param.map(|old| {
            let trains = old.is_require_grad();
            old.detach().cast(dtype).set_require_grad(trains)
        })
    }
}

/// Burn's own initialisation of a module, from a seed.
fn initialised<M: Module>(
    seed: u64,
    (device, precision): (&Device, Precision),
    init: impl FnOnce(&Device) -> M,
) -> M {
    device.seed(seed);
    init(device).map(&mut InPrecision(precision))
}
