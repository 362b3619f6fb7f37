//! The network of a layer case, built of Burn's own layers.

use burn::{
    module::Module,
    nn::{
        BatchNorm, Embedding, GroupNorm, LayerNorm, Linear, RmsNorm,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::{
        Int, Tensor,
        activation::{relu, sigmoid, tanh},
    },
};
use kfac::{Network, Tape};

/// The network of a case. Its input rows are each case's numbers, its output rows each case's outputs.
#[derive(Module, Debug)]
pub(super) struct CaseNetwork {
    pub(super) linear: Vec<Linear>,
    pub(super) conv1d: Vec<Conv1d>,
    pub(super) conv2d: Vec<Conv2d>,
    pub(super) conv3d: Vec<Conv3d>,
    pub(super) conv_transpose1d: Vec<ConvTranspose1d>,
    pub(super) conv_transpose2d: Vec<ConvTranspose2d>,
    pub(super) conv_transpose3d: Vec<ConvTranspose3d>,
    pub(super) embedding: Vec<Embedding>,
    pub(super) layer_norm: Vec<LayerNorm>,
    pub(super) rms_norm: Vec<RmsNorm>,
    pub(super) group_norm: Vec<GroupNorm>,
    pub(super) batch_norm: Vec<BatchNorm>,
    #[module(skip)]
    pub(super) operations: Vec<Operation>,
    #[module(skip)]
    pub(super) input_shape: Vec<usize>,
}

/// What a layer of the case does, with the index of its parameters in their list.
#[derive(Clone, Debug)]
pub(super) enum Operation {
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
    type Output = Tensor<2>;

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

impl CaseNetwork {
    pub(super) fn empty(input_shape: &[usize]) -> Self {
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
