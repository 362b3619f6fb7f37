//! The tape: layers called through it can be recorded.

use std::collections::HashMap;

use burn::{
    module::ParamId,
    nn::Linear,
    tensor::{Gradients, Tensor},
};

use crate::statistics::append_ones;

/// Records the layers of a forward pass, or, switched off, costs nothing.
///
/// Burn has no hooks, and only leaves of the autodiff graph keep a gradient. So a recording tape
/// adds a *probe*, a leaf of zeros, to each layer's output: the probe's gradient after the backward
/// pass is the gradient with respect to that output.
///
/// Switched off, a layer's output has the same bits as its own `forward`.
#[derive(Debug)]
pub struct Tape {
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Off,
    Discover(Vec<Sighting>),
    Record {
        index: HashMap<ParamId, usize>,
        records: Vec<Record>,
    },
}

/// A layer met by a discovering tape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) weight: ParamId,
    pub(super) bias: Option<ParamId>,
    pub(super) d_in: usize,
    pub(super) d_out: usize,
    pub(super) trainable: bool,
    /// Rows of the input when the tape saw a single case.
    pub(super) positions: usize,
}

#[derive(Debug)]
struct Record {
    layer: usize,
    activations: Tensor<2>,
    probe: Tensor<2>,
}

/// What one use of a layer left on the tape.
#[derive(Clone, Debug)]
pub struct LayerCapture {
    /// Index of the layer in [`Layers`](super::Layers).
    pub layer: usize,
    /// The layer's inputs, a one appended where it has a bias: `[n · positions, d_in + 1]`.
    pub activations: Tensor<2>,
    /// Gradients of the summed per-case losses with respect to the layer's outputs,
    /// `[n · positions, d_out]`.
    pub output_gradients: Tensor<2>,
}

/// The recorded layers of one forward and backward pass, in the order of the forward pass.
pub type CapturedPass = Vec<LayerCapture>;

impl Tape {
    /// A tape that records nothing: the plain forward pass.
    pub fn off() -> Self {
        Self { mode: Mode::Off }
    }

    pub(super) fn discovering() -> Self {
        Self {
            mode: Mode::Discover(Vec::new()),
        }
    }

    pub(super) fn recording(index: HashMap<ParamId, usize>) -> Self {
        Self {
            mode: Mode::Record {
                index,
                records: Vec::new(),
            },
        }
    }

    pub(super) fn into_sightings(self) -> Vec<Sighting> {
        match self.mode {
            Mode::Discover(sightings) => sightings,
            Mode::Off | Mode::Record { .. } => Vec::new(),
        }
    }

    /// Calls a dense layer.
    ///
    /// # Shapes
    ///
    /// `[.., d_in] -> [.., d_out]`, any number of leading axes, the first of which counts the cases.
    ///
    /// # Panics
    ///
    /// Where `Linear::forward` does: the last axis of `input` is not `d_in`.
    pub fn linear<const D: usize>(&mut self, layer: &Linear, input: Tensor<D>) -> Tensor<D> {
        match &mut self.mode {
            Mode::Off => layer.forward(input),
            Mode::Discover(sightings) => {
                sightings.push(Sighting::of(layer, rows(input.dims())));
                layer.forward(input)
            }
            Mode::Record { index, records } => match index.get(&layer.weight.id) {
                None => layer.forward(input),
                Some(&position) => {
                    let (record, output) = record(position, layer, input);
                    records.push(record);
                    output
                }
            },
        }
    }

    /// The recorded inputs with their output gradients, taken out of `gradients`.
    ///
    /// A layer whose output does not reach the loss has no gradient; it counts as zero.
    pub(crate) fn into_pass(self, gradients: &mut Gradients) -> CapturedPass {
        let Mode::Record { records, .. } = self.mode else {
            return Vec::new();
        };
        records
            .into_iter()
            .map(
                |Record {
                     layer,
                     activations,
                     probe,
                 }| {
                    let output_gradients = probe
                        .grad_remove(gradients)
                        .unwrap_or_else(|| probe.inner().zeros_like());
                    LayerCapture {
                        layer,
                        activations,
                        output_gradients,
                    }
                },
            )
            .collect()
    }
}

impl Sighting {
    fn of(layer: &Linear, positions: usize) -> Self {
        let [d_in, d_out] = layer.weight.dims();
        let bias_trains = layer
            .bias
            .as_ref()
            .is_none_or(|bias| bias.val().is_require_grad());
        Self {
            weight: layer.weight.id,
            bias: layer.bias.as_ref().map(|bias| bias.id),
            d_in,
            d_out,
            trainable: layer.weight.val().is_require_grad() && bias_trains,
            positions,
        }
    }
}

/// The number of rows of a tensor whose last axis holds the features.
fn rows<const D: usize>(dims: [usize; D]) -> usize {
    dims[..D - 1].iter().product()
}

fn record<const D: usize>(
    position: usize,
    layer: &Linear,
    input: Tensor<D>,
) -> (Record, Tensor<D>) {
    let inputs = input.clone().inner();
    let inputs = inputs.reshape([rows(input.dims()), input.dims()[D - 1]]);
    let activations = if layer.bias.is_some() {
        append_ones(inputs)
    } else {
        inputs
    };
    let output = layer.forward(input);
    let dims = output.dims();
    let probe = output
        .clone()
        .inner()
        .reshape([rows(dims), dims[D - 1]])
        .zeros_like();
    let probe = probe.autodiff().require_grad();
    let output = output + probe.clone().reshape(dims);
    (
        Record {
            layer: position,
            activations,
            probe,
        },
        output,
    )
}
