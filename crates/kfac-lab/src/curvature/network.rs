//! The network of a layer case, built of Burn's own layers.

use anyhow::{Context, Result, bail, ensure};
use burn::{
    module::{Module, Param, ParamId, RunningState},
    nn::{
        BatchNorm, Embedding, GroupNorm, LayerNorm, LayerNormConfig, Linear, PaddingConfig1d,
        PaddingConfig2d, PaddingConfig3d, RmsNorm,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::{
        DType, Device, Int, Tensor, TensorData,
        activation::{relu, sigmoid, tanh},
    },
};
use kfac::{Network, Tape};

use super::case::{ConvolutionSpec, LayerSpec, Nested, Weights};

/// The network of a case. Its input rows are each case's numbers, its output rows each case's outputs.
#[derive(Module, Debug)]
pub(super) struct CaseNetwork {
    linear: Vec<Linear>,
    conv1d: Vec<Conv1d>,
    conv2d: Vec<Conv2d>,
    conv3d: Vec<Conv3d>,
    conv_transpose1d: Vec<ConvTranspose1d>,
    conv_transpose2d: Vec<ConvTranspose2d>,
    conv_transpose3d: Vec<ConvTranspose3d>,
    embedding: Vec<Embedding>,
    layer_norm: Vec<LayerNorm>,
    rms_norm: Vec<RmsNorm>,
    group_norm: Vec<GroupNorm>,
    batch_norm: Vec<BatchNorm>,
    #[module(skip)]
    operations: Vec<Operation>,
    #[module(skip)]
    input_shape: Vec<usize>,
}

/// What a layer of the case does, with the index of its parameters in their list.
#[derive(Clone, Debug)]
enum Operation {
    Linear(usize),
    Conv1d(usize),
    Conv2d(usize),
    Conv3d(usize),
    ConvTranspose1d(usize),
    ConvTranspose2d(usize),
    ConvTranspose3d(usize),
    Embedding(usize),
    LayerNorm(usize),
    RmsNorm(usize),
    GroupNorm(usize),
    BatchNorm(usize),
    Tanh,
    Sigmoid,
    Relu,
    Flatten,
    MeanOverPositions,
    GlobalAveragePool,
    SplitConcat(usize, Box<Operation>),
}

/// Numbers on their way through the network, with their shape, cases first.
#[derive(Clone)]
struct Flow {
    values: Tensor<1>,
    shape: Vec<usize>,
}

impl Flow {
    fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            values: tensor.flatten(0, D - 1),
        }
    }

    fn into_tensor<const D: usize>(self) -> Tensor<D> {
        let shape: [usize; D] = std::array::from_fn(|axis| self.shape[axis]);
        self.values.reshape(shape)
    }

    /// `[cases, positions, features]`.
    fn by_position(self) -> Tensor<3> {
        let last = self.shape.len() - 1;
        let positions = self.shape[1..last].iter().product();
        self.values
            .reshape([self.shape[0], positions, self.shape[last]])
    }

    /// The same axes but the last from a tensor of positions.
    fn with_positions(tensor: Tensor<3>, shape: &[usize]) -> Self {
        let features = tensor.dims()[2];
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = features;
        }
        Self {
            values: tensor.flatten(0, 2),
            shape,
        }
    }

    fn map(self, f: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            values: f(self.values),
            shape: self.shape,
        }
    }
}

impl Network for CaseNetwork {
    type Input = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let cases = inputs.dims()[0];
        let mut shape = vec![cases];
        shape.extend_from_slice(&self.input_shape);
        let mut flow = Flow {
            values: inputs.flatten(0, 1),
            shape,
        };
        for operation in &self.operations {
            flow = self.apply(operation, flow, tape);
        }
        let outputs = flow.values.dims()[0] / cases;
        flow.values.reshape([cases, outputs])
    }
}

impl CaseNetwork {
    fn apply(&self, operation: &Operation, flow: Flow, tape: &mut Tape) -> Flow {
        let shape = flow.shape.clone();
        match operation {
            Operation::Linear(at) => {
                let layer = &self.linear[*at];
                if shape.len() == 2 {
                    return Flow::of(tape.linear(layer, flow.into_tensor::<2>()));
                }
                Flow::with_positions(tape.linear(layer, flow.by_position()), &shape)
            }
            Operation::LayerNorm(at) => {
                let output = tape.layer_norm(&self.layer_norm[*at], flow.by_position());
                Flow::with_positions(output, &shape)
            }
            Operation::RmsNorm(at) => {
                let output = tape.rms_norm(&self.rms_norm[*at], flow.by_position());
                Flow::with_positions(output, &shape)
            }
            Operation::Embedding(at) => {
                let tokens: Tensor<2, Int> = flow.into_tensor::<2>().int();
                Flow::of(tape.embedding(&self.embedding[*at], tokens))
            }
            Operation::GroupNorm(at) => {
                let output = tape.group_norm(&self.group_norm[*at], by_channel(flow));
                Flow {
                    values: output.flatten(0, 2),
                    shape,
                }
            }
            Operation::BatchNorm(at) => {
                let output = tape.batch_norm(&self.batch_norm[*at], by_channel(flow));
                Flow {
                    values: output.flatten(0, 2),
                    shape,
                }
            }
            Operation::SplitConcat(parts, inner) => self.split_concat(*parts, inner, (flow, tape)),
            _ => self.convolve_or_reshape(operation, flow, tape),
        }
    }

    fn convolve_or_reshape(&self, operation: &Operation, flow: Flow, tape: &mut Tape) -> Flow {
        match operation {
            Operation::Conv1d(at) => Flow::of(tape.conv1d(&self.conv1d[*at], flow.into_tensor())),
            Operation::Conv2d(at) => Flow::of(tape.conv2d(&self.conv2d[*at], flow.into_tensor())),
            Operation::Conv3d(at) => Flow::of(tape.conv3d(&self.conv3d[*at], flow.into_tensor())),
            Operation::ConvTranspose1d(at) => {
                Flow::of(tape.conv_transpose1d(&self.conv_transpose1d[*at], flow.into_tensor()))
            }
            Operation::ConvTranspose2d(at) => {
                Flow::of(tape.conv_transpose2d(&self.conv_transpose2d[*at], flow.into_tensor()))
            }
            Operation::ConvTranspose3d(at) => {
                Flow::of(tape.conv_transpose3d(&self.conv_transpose3d[*at], flow.into_tensor()))
            }
            Operation::Tanh => flow.map(tanh),
            Operation::Sigmoid => flow.map(sigmoid),
            Operation::Relu => flow.map(relu),
            Operation::MeanOverPositions => {
                let [cases, positions] = [flow.shape[0], flow.shape[1]];
                let rest: usize = flow.shape[2..].iter().product();
                let mut shape = flow.shape;
                shape.remove(1);
                let values = flow.values.reshape([cases, positions, rest]);
                Flow {
                    values: values.mean_dim(1).flatten(0, 2),
                    shape,
                }
            }
            Operation::GlobalAveragePool => {
                let space: usize = flow.shape[2..].iter().product();
                let shape = flow.shape[..2].to_vec();
                let values = flow.values.reshape([shape[0] * shape[1], space]);
                Flow {
                    values: values.mean_dim(1).flatten(0, 1),
                    shape,
                }
            }
            // Flatten, and all that has been dealt with.
            _ => Flow {
                shape: vec![flow.shape[0], flow.shape[1..].iter().product()],
                values: flow.values,
            },
        }
    }

    fn split_concat(
        &self,
        parts: usize,
        inner: &Operation,
        (flow, tape): (Flow, &mut Tape),
    ) -> Flow {
        let shape = flow.shape.clone();
        let all = flow.by_position();
        let width = all.dims()[2] / parts;
        let outputs = (0..parts).map(|part| {
            let own: Tensor<3> = all.clone().slice_dim(2, part * width..(part + 1) * width);
            let mut shape = shape.clone();
            if let Some(last) = shape.last_mut() {
                *last = width;
            }
            let part = Flow {
                values: own.flatten(0, 2),
                shape,
            };
            self.apply(inner, part, tape).by_position()
        });
        Flow::with_positions(Tensor::cat(outputs.collect(), 2), &shape)
    }
}

/// `[cases, channels, space]`.
fn by_channel(flow: Flow) -> Tensor<3> {
    let space = flow.shape[2..].iter().product();
    flow.values.reshape([flow.shape[0], flow.shape[1], space])
}

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
                let owner = layer.weight.id;
                (
                    Operation::Linear(push(&mut self.network.linear, layer)),
                    Some(owner),
                )
            }
            LayerSpec::Embedding { weight } => {
                let layer = Embedding {
                    weight: self.parameter(weight)?,
                };
                let owner = layer.weight.id;
                let at = push(&mut self.network.embedding, layer);
                (Operation::Embedding(at), Some(owner))
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
            weight: trainable(weight.transpose()),
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
                let owner = layer.gamma.id;
                let at = push(&mut self.network.layer_norm, layer);
                Ok((Operation::LayerNorm(at), Some(owner)))
            }
            LayerSpec::RmsNorm { gamma, eps } => {
                let layer = RmsNorm {
                    gamma: self.parameter(gamma)?,
                    epsilon: *eps,
                };
                let owner = layer.gamma.id;
                let at = push(&mut self.network.rms_norm, layer);
                Ok((Operation::RmsNorm(at), Some(owner)))
            }
            LayerSpec::GroupNorm {
                groups,
                gamma,
                beta,
                eps,
            } => {
                let layer = GroupNorm {
                    num_channels: gamma.values.len(),
                    gamma: Some(self.parameter(gamma)?),
                    beta: Some(self.parameter(beta)?),
                    num_groups: *groups,
                    epsilon: *eps,
                    affine: true,
                };
                let owner = layer.gamma.as_ref().map(|gamma| gamma.id);
                let at = push(&mut self.network.group_norm, layer);
                Ok((Operation::GroupNorm(at), owner))
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
                let owner = layer.gamma.id;
                let at = push(&mut self.network.batch_norm, layer);
                Ok((Operation::BatchNorm(at), Some(owner)))
            }
            _ => bail!("not a normalisation"),
        }
    }

    fn convolution(&mut self, spec: &LayerSpec) -> Result<(Operation, Option<ParamId>)> {
        Ok(match spec {
            LayerSpec::Conv1d(spec) => {
                let layer = self.conv1d(spec)?;
                let owner = layer.weight.id;
                (
                    Operation::Conv1d(push(&mut self.network.conv1d, layer)),
                    Some(owner),
                )
            }
            LayerSpec::Conv2d(spec) => {
                let layer = self.conv2d(spec)?;
                let owner = layer.weight.id;
                (
                    Operation::Conv2d(push(&mut self.network.conv2d, layer)),
                    Some(owner),
                )
            }
            LayerSpec::Conv3d(spec) => {
                let layer = self.conv3d(spec)?;
                let owner = layer.weight.id;
                (
                    Operation::Conv3d(push(&mut self.network.conv3d, layer)),
                    Some(owner),
                )
            }
            LayerSpec::ConvTranspose1d(spec) => {
                let layer = self.conv_transpose1d(spec)?;
                let owner = layer.weight.id;
                let at = push(&mut self.network.conv_transpose1d, layer);
                (Operation::ConvTranspose1d(at), Some(owner))
            }
            LayerSpec::ConvTranspose2d(spec) => {
                let layer = self.conv_transpose2d(spec)?;
                let owner = layer.weight.id;
                let at = push(&mut self.network.conv_transpose2d, layer);
                (Operation::ConvTranspose2d(at), Some(owner))
            }
            LayerSpec::ConvTranspose3d(spec) => {
                let layer = self.conv_transpose3d(spec)?;
                let owner = layer.weight.id;
                let at = push(&mut self.network.conv_transpose3d, layer);
                (Operation::ConvTranspose3d(at), Some(owner))
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
        Ok(trainable(self.tensor(nested)?))
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

impl CaseNetwork {
    fn empty(input_shape: &[usize]) -> Self {
        Self {
            linear: Vec::new(),
            conv1d: Vec::new(),
            conv2d: Vec::new(),
            conv3d: Vec::new(),
            conv_transpose1d: Vec::new(),
            conv_transpose2d: Vec::new(),
            conv_transpose3d: Vec::new(),
            embedding: Vec::new(),
            layer_norm: Vec::new(),
            rms_norm: Vec::new(),
            group_norm: Vec::new(),
            batch_norm: Vec::new(),
            operations: Vec::new(),
            input_shape: input_shape.to_vec(),
        }
    }
}

fn trainable<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(tensor)
}

fn push<T>(list: &mut Vec<T>, item: T) -> usize {
    list.push(item);
    list.len() - 1
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
