//! Builds the network of a layer case.

use anyhow::{Context, Result, bail, ensure};
use burn::{
    module::{Param, ParamId, RunningState},
    nn::{
        BatchNorm, Embedding, GroupNorm, LayerNormConfig, Linear, PaddingConfig1d, PaddingConfig2d,
        PaddingConfig3d, RmsNorm,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::{DType, Device, Tensor, TensorData},
};

use super::{
    case::{ConvolutionSpec, LayerSpec, Nested, Weights},
    network::{CaseNetwork, Operation},
};

/// Builds a network.
pub(super) struct Builder {
    network: CaseNetwork,
    device: Device,
    /// The identity of each layer's weight, where it owns one, by index in the case.
    owners: Vec<Option<ParamId>>,
}

impl Builder {
    /// The network of some layers, in double precision on an autodiff device, and the identity of each
    /// layer's weight, where it owns one.
    ///
    /// # Errors
    /// Where a layer's numbers do not have the shapes that its settings ask for.
    pub(super) fn build(
        model: &[LayerSpec],
        input_shape: &[usize],
        device: &Device,
    ) -> Result<(CaseNetwork, Vec<Option<ParamId>>)> {
        let mut builder = Self {
            network: CaseNetwork::empty(input_shape),
            device: device.clone(),
            owners: Vec::new(),
        };
        for (index, spec) in model.iter().enumerate() {
            let (operation, owner) = builder
                .operation(spec)
                .with_context(|| format!("layer {index}"))?;
            builder.network.operations.push(operation);
            builder.owners.push(owner);
        }
        Ok((builder.network, builder.owners))
    }

    fn operation(&mut self, spec: &LayerSpec) -> Result<(Operation, Option<ParamId>)> {
        let (operation, owner) = match spec {
            LayerSpec::Tanh => (Operation::Tanh, None),
            LayerSpec::Sigmoid => (Operation::Sigmoid, None),
            LayerSpec::Relu => (Operation::Relu, None),
            LayerSpec::Flatten => (Operation::Flatten, None),
            LayerSpec::MeanOverPositions => (Operation::MeanOverPositions, None),
            LayerSpec::GlobalAvgPool2d => (Operation::GlobalAveragePool, None),
            LayerSpec::Shared { of } => {
                let shared = self.network.operations.get(*of).cloned();
                (
                    shared.with_context(|| format!("no layer {of} before"))?,
                    None,
                )
            }
            LayerSpec::SplitConcat { parts, layer } => {
                let (inner, owner) = self.operation(layer)?;
                (Operation::SplitConcat(*parts, Box::new(inner)), owner)
            }
            LayerSpec::Linear(weights) => {
                let layer = self.linear(weights)?;
                let own = (layer.weight.id, layer);
                add(own, &mut self.network.linear, Operation::Linear)
            }
            LayerSpec::Embedding { weight } => {
                let layer = Embedding {
                    weight: self.parameter(weight)?,
                };
                let own = (layer.weight.id, layer);
                add(own, &mut self.network.embedding, Operation::Embedding)
            }
            LayerSpec::LayerNorm { .. }
            | LayerSpec::RmsNorm { .. }
            | LayerSpec::GroupNorm { .. }
            | LayerSpec::BatchNorm2d { .. } => self.normalisation(spec)?,
            _ => self.convolution(spec)?,
        };
        Ok((operation, owner))
    }

    fn linear(&self, weights: &Weights) -> Result<Linear> {
        let weight: Tensor<2> = self.tensor(&weights.weight)?;
        Ok(Linear {
            weight: Param::from_tensor(weight.transpose()),
            bias: self.bias(weights.bias_values.as_ref())?,
        })
    }

    fn normalisation(&mut self, spec: &LayerSpec) -> Result<(Operation, Option<ParamId>)> {
        match spec {
            LayerSpec::LayerNorm { gamma, beta, eps } => {
                let config = LayerNormConfig::new(gamma.values.len()).with_epsilon(*eps);
                let mut layer = config.init(&self.device);
                layer.gamma = self.parameter(gamma)?;
                layer.beta = beta.as_ref().map(|beta| self.parameter(beta)).transpose()?;
                let own = (layer.gamma.id, layer);
                Ok(add(own, &mut self.network.layer_norm, Operation::LayerNorm))
            }
            LayerSpec::RmsNorm { gamma, eps } => {
                let layer = RmsNorm {
                    gamma: self.parameter(gamma)?,
                    epsilon: *eps,
                };
                let own = (layer.gamma.id, layer);
                Ok(add(own, &mut self.network.rms_norm, Operation::RmsNorm))
            }
            LayerSpec::GroupNorm {
                groups,
                gamma,
                beta,
                eps,
            } => {
                let channels = gamma.values.len();
                let gamma = self.parameter(gamma)?;
                let owner = gamma.id;
                let layer = GroupNorm {
                    num_channels: channels,
                    gamma: Some(gamma),
                    beta: Some(self.parameter(beta)?),
                    num_groups: *groups,
                    epsilon: *eps,
                    affine: true,
                };
                let own = (owner, layer);
                Ok(add(own, &mut self.network.group_norm, Operation::GroupNorm))
            }
            LayerSpec::BatchNorm2d {
                gamma,
                beta,
                eps,
                mean,
                var,
            } => {
                let layer = BatchNorm {
                    gamma: self.parameter(gamma)?,
                    beta: self.parameter(beta)?,
                    training: Param::from_bool(false),
                    running_mean: RunningState::new(self.tensor(mean)?),
                    running_var: RunningState::new(self.tensor(var)?),
                    momentum: 0.1,
                    epsilon: *eps,
                };
                let own = (layer.gamma.id, layer);
                Ok(add(own, &mut self.network.batch_norm, Operation::BatchNorm))
            }
            _ => bail!("not a normalisation"),
        }
    }

    fn convolution(&mut self, spec: &LayerSpec) -> Result<(Operation, Option<ParamId>)> {
        Ok(match spec {
            LayerSpec::Conv1d(spec) => {
                let layer = self.conv1d(spec)?;
                let own = (layer.weight.id, layer);
                add(own, &mut self.network.conv1d, Operation::Conv1d)
            }
            LayerSpec::Conv2d(spec) => {
                let layer = self.conv2d(spec)?;
                let own = (layer.weight.id, layer);
                add(own, &mut self.network.conv2d, Operation::Conv2d)
            }
            LayerSpec::Conv3d(spec) => {
                let layer = self.conv3d(spec)?;
                let own = (layer.weight.id, layer);
                add(own, &mut self.network.conv3d, Operation::Conv3d)
            }
            LayerSpec::ConvTranspose1d(spec) => {
                let layer = self.conv_transpose1d(spec)?;
                let own = (layer.weight.id, layer);
                add(
                    own,
                    &mut self.network.conv_transpose1d,
                    Operation::ConvTranspose1d,
                )
            }
            LayerSpec::ConvTranspose2d(spec) => {
                let layer = self.conv_transpose2d(spec)?;
                let own = (layer.weight.id, layer);
                add(
                    own,
                    &mut self.network.conv_transpose2d,
                    Operation::ConvTranspose2d,
                )
            }
            LayerSpec::ConvTranspose3d(spec) => {
                let layer = self.conv_transpose3d(spec)?;
                let own = (layer.weight.id, layer);
                add(
                    own,
                    &mut self.network.conv_transpose3d,
                    Operation::ConvTranspose3d,
                )
            }
            _ => bail!("not a convolution"),
        })
    }

    fn conv1d(&self, spec: &ConvolutionSpec) -> Result<Conv1d> {
        let [padding] = axes(&spec.padding)?;
        Ok(Conv1d {
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes::<1>(&spec.stride)?[0],
            kernel_size: axes::<1>(&spec.kernel)?[0],
            dilation: axes::<1>(&spec.dilation)?[0],
            groups: spec.groups,
            padding: PaddingConfig1d::Explicit(padding, padding),
        })
    }

    fn conv2d(&self, spec: &ConvolutionSpec) -> Result<Conv2d> {
        let [height, width] = axes(&spec.padding)?;
        Ok(Conv2d {
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes(&spec.stride)?,
            kernel_size: axes(&spec.kernel)?,
            dilation: axes(&spec.dilation)?,
            groups: spec.groups,
            padding: PaddingConfig2d::Explicit(height, width, height, width),
        })
    }

    fn conv3d(&self, spec: &ConvolutionSpec) -> Result<Conv3d> {
        let [depth, height, width] = axes(&spec.padding)?;
        Ok(Conv3d {
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes(&spec.stride)?,
            kernel_size: axes(&spec.kernel)?,
            dilation: axes(&spec.dilation)?,
            groups: spec.groups,
            padding: PaddingConfig3d::Explicit(depth, height, width),
        })
    }

    fn conv_transpose1d(&self, spec: &ConvolutionSpec) -> Result<ConvTranspose1d> {
        Ok(ConvTranspose1d {
            channels: channels(spec),
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes::<1>(&spec.stride)?[0],
            kernel_size: axes::<1>(&spec.kernel)?[0],
            dilation: axes::<1>(&spec.dilation)?[0],
            groups: spec.groups,
            padding: axes::<1>(&spec.padding)?[0],
            padding_out: output_padding::<1>(spec)?[0],
        })
    }

    fn conv_transpose2d(&self, spec: &ConvolutionSpec) -> Result<ConvTranspose2d> {
        Ok(ConvTranspose2d {
            channels: channels(spec),
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes(&spec.stride)?,
            kernel_size: axes(&spec.kernel)?,
            dilation: axes(&spec.dilation)?,
            groups: spec.groups,
            padding: axes(&spec.padding)?,
            padding_out: output_padding(spec)?,
        })
    }

    fn conv_transpose3d(&self, spec: &ConvolutionSpec) -> Result<ConvTranspose3d> {
        Ok(ConvTranspose3d {
            channels: channels(spec),
            weight: self.parameter(&spec.weight)?,
            bias: self.bias(spec.bias_values.as_ref())?,
            stride: axes(&spec.stride)?,
            kernel_size: axes(&spec.kernel)?,
            dilation: axes(&spec.dilation)?,
            groups: spec.groups,
            padding: axes(&spec.padding)?,
            padding_out: output_padding(spec)?,
        })
    }

    fn bias(&self, values: Option<&Nested>) -> Result<Option<Param<Tensor<1>>>> {
        let values = values.filter(|values| !values.values.is_empty());
        values.map(|values| self.parameter(values)).transpose()
    }

    fn parameter<const D: usize>(&self, nested: &Nested) -> Result<Param<Tensor<D>>> {
        Ok(Param::from_tensor(self.tensor(nested)?))
    }

    fn tensor<const D: usize>(&self, nested: &Nested) -> Result<Tensor<D>> {
        ensure!(
            nested.shape.len() == D,
            "expected a parameter with {D} axes, found one of shape {:?}",
            nested.shape
        );
        let data = TensorData::new(nested.values.clone(), nested.shape.clone());
        Ok(Tensor::from_data(data, (&self.device, DType::F64)))
    }
}

/// Puts a layer into its list: what applies it, and the identity of its weight.
fn add<T>(
    (owner, layer): (ParamId, T),
    list: &mut Vec<T>,
    operation: fn(usize) -> Operation,
) -> (Operation, Option<ParamId>) {
    list.push(layer);
    (operation(list.len() - 1), Some(owner))
}

fn axes<const S: usize>(numbers: &[usize]) -> Result<[usize; S]> {
    numbers
        .try_into()
        .ok()
        .with_context(|| format!("expected {S} numbers, one an axis, found {numbers:?}"))
}

fn output_padding<const S: usize>(spec: &ConvolutionSpec) -> Result<[usize; S]> {
    if spec.output_padding.is_empty() {
        return Ok([0; S]);
    }
    axes(&spec.output_padding)
}

fn channels(spec: &ConvolutionSpec) -> [usize; 2] {
    let shape = &spec.weight.shape;
    let size = |axis: usize| shape.get(axis).copied().unwrap_or(1);
    [size(0), size(1) * spec.groups]
}
