//! The tape: layers called through it can be recorded.

use std::{borrow::Cow, cell::RefCell, collections::HashMap};

use burn::{
    module::{Param, ParamId},
    tensor::{Bool, Gradients, Tensor},
};

use super::{
    inputs::Inputs,
    layer_uses::{CapturedPass, LayerCapture, Misfit},
    normalisation::BatchStatistics,
};
use crate::network::{Layers, ParameterAction, Value, WeightLayout};

/// Records the layers of a forward pass, or, switched off, costs nothing.
///
/// Burn has no hooks, and only leaves of the autodiff graph keep a gradient. So a recording tape
/// adds a *probe*, a leaf of zeros, to each layer's output: the probe's gradient after the backward
/// pass is the gradient with respect to that output.
///
/// Switched off, a layer's output has the same bits as its own `forward`. While the optimizer is at
/// work, a batch normalisation called through the tape uses statistics that are constants, and dropout does nothing:
/// all evaluations of a step are of the same function.
#[derive(Debug)]
pub struct Tape {
    // Calls of layers nest, as `tape.batch_norm(&norm, tape.conv2d(&conv, x))`, and so they only borrow the tape.
    pub(super) mode: RefCell<Mode>,
    /// One at each position of the layers to come that counts, zero at padded ones; `None` where all count.
    pub(super) valid: RefCell<Option<Tensor<2>>>,
}

#[derive(Debug)]
pub(super) enum Mode {
    Off,
    /// The optimizer evaluates the network and wants nothing recorded.
    Evaluate,
    Discover(Vec<Sighting>),
    Normalise(BatchStatistics),
    Record {
        pass: RecordedPass,
        /// The index of each layer that is recorded, by its weight.
        index: HashMap<ParamId, usize>,
        records: Vec<Record>,
    },
}

/// What a pass with a recording tape is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordedPass {
    /// For the curvature alone, by the optimizer.
    Curvature,
    /// For training, by the user: batches are normalised by their own statistics, and dropout is at work.
    Training,
}

/// What a tape does about the calls of a layer.
enum Seen {
    /// It lists them.
    Discovered,
    /// It records them, as those of the layer of an index.
    Recorded(usize),
}

/// The parameters of a layer, as a tape has to know them.
#[derive(Clone, Copy, Debug)]
pub struct LayerParameters<'a, const P: usize> {
    /// What the layer is called in the parameter table, for instance `dense`.
    pub name: &'static str,
    /// The weight.
    pub weight: &'a Param<Tensor<P>>,
    /// The bias, which is added to the outputs.
    pub bias: Option<&'a Param<Tensor<1>>>,
    /// How the weight is stored.
    pub layout: WeightLayout,
    /// `[d_in, d_out]`: the numbers of inputs and outputs of the layer, whatever the layout; of a weight
    /// stored `[d_out, d_in]` these are its dimensions in the other order.
    pub shape: [usize; 2],
}

impl<const P: usize> LayerParameters<'_, P> {
    fn sighting(&self, action: ParameterAction, features: FeatureAxis) -> Sighting {
        let bias = self.bias.filter(|bias| bias.val().is_require_grad());
        let [d_in, d_out] = self.shape;
        Sighting {
            name: Cow::Borrowed(self.name),
            action,
            weight: self.weight.id,
            bias: bias.map(|bias| bias.id),
            layout: self.layout,
            d_in,
            d_out,
            value: Value::of(self.weight),
            trainable: self.weight.val().is_require_grad(),
            positions: 1,
            dense: action == ParameterAction::Product { groups: 1 }
                && features == FeatureAxis::Last,
        }
    }
}

/// A call of a layer.
pub(super) struct Call<'a, const P: usize, I> {
    pub(super) parameters: LayerParameters<'a, P>,
    pub(super) action: ParameterAction,
    pub(super) input: I,
    /// Where the features of the layer's output are.
    pub(super) features: FeatureAxis,
}

/// A layer met by a discovering tape.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) name: Cow<'static, str>,
    pub(super) action: ParameterAction,
    pub(super) weight: ParamId,
    /// The bias, where it is trained.
    pub(super) bias: Option<ParamId>,
    pub(super) layout: WeightLayout,
    pub(super) d_in: usize,
    pub(super) d_out: usize,
    /// The weight that the layer was called with.
    pub(super) value: Value,
    pub(super) trainable: bool,
    /// Positions at which the weight is used when the tape saw a single case.
    pub(super) positions: usize,
    /// Whether it multiplies rows of features: a chain can link it with its neighbours, where it has one position.
    pub(super) dense: bool,
}

#[derive(Debug)]
pub(super) struct Record {
    layer: usize,
    inputs: Inputs,
    probe: Tensor<3>,
    features: FeatureAxis,
    valid: Option<Tensor<2>>,
}

/// Which axis of a layer's output holds its features; the first counts the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeatureAxis {
    /// The last; all between it and the cases are positions.
    Last,
    /// The second; all behind it are positions.
    Channels,
    /// All of them, and no axis counts cases: a parameter on its own.
    Whole,
}

impl FeatureAxis {
    /// A layer's output as `[cases, positions, features]`, or with the last two exchanged where the
    /// features come first.
    fn grouped<const D: usize>(self, dims: [usize; D]) -> [usize; 3] {
        let size = |axes: &[usize]| axes.iter().product::<usize>();
        match self {
            Self::Last if D > 1 => [dims[0], size(&dims[1..D - 1]), dims[D - 1]],
            Self::Channels => [dims[0], dims[1], size(&dims[2..])],
            Self::Last | Self::Whole => [1, 1, size(&dims)],
        }
    }

    /// `[cases, positions, features]` of a grouped output.
    fn by_position(self, grouped: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Channels => grouped.swap_dims(1, 2),
            Self::Last | Self::Whole => grouped,
        }
    }

    fn positions<const D: usize>(self, dims: [usize; D]) -> usize {
        let [cases, a, b] = self.grouped(dims);
        cases * if self == Self::Channels { b } else { a }
    }

    /// A layer's features, without autodiff, as `[cases, positions, features]`.
    pub(super) fn features<const D: usize>(self, tensor: Tensor<D>) -> Tensor<3> {
        let grouped = self.grouped(tensor.dims());
        self.by_position(tensor.inner().reshape(grouped))
    }
}

impl Tape {
    /// A tape that records nothing: the plain forward pass.
    pub fn off() -> Self {
        Self::new(Mode::Off)
    }

    /// The tape of the passes that the optimizer makes to evaluate a network, for an
    /// [`Objective`](crate::Objective) of your own: batch normalisations use their running statistics, and
    /// dropout does nothing.
    pub fn evaluating() -> Self {
        Self::new(Mode::Evaluate)
    }

    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode: RefCell::new(mode),
            valid: RefCell::new(None),
        }
    }

    pub(super) fn into_sightings(self) -> Vec<Sighting> {
        match self.mode.into_inner() {
            Mode::Discover(sightings) => sightings,
            _ => Vec::new(),
        }
    }

    /// Says which positions of the layers to come are padding, or, with `None`, that none is.
    ///
    /// A layer of inputs `[n, R, d]` then counts only the positions where `padding` is false: its
    /// factors are those of the same sequences with the padded positions left out. The network itself
    /// has to keep padded positions out of its outputs, by attention masks and masked pooling.
    ///
    /// # Shapes
    ///
    /// `[n, R]`; layers with other numbers of cases or positions ignore it.
    pub fn set_padding(&self, padding: Option<Tensor<2, Bool>>) {
        let valid = match &*self.mode.borrow() {
            Mode::Record { .. } => padding.map(|padding| padding.bool_not().float()),
            _ => None,
        };
        self.valid.replace(valid);
    }

    /// A tape that records layers in a pass of the optimizer's own.
    pub(crate) fn recording(layers: &Layers) -> Self {
        Self::of_pass(RecordedPass::Curvature, layers)
    }

    /// A tape that records layers in a training pass.
    pub(crate) fn recording_training(layers: &Layers) -> Self {
        Self::of_pass(RecordedPass::Training, layers)
    }

    /// Whether it has recorded a layer.
    pub(crate) fn has_records(&self) -> bool {
        matches!(&*self.mode.borrow(), Mode::Record { records, .. } if !records.is_empty())
    }

    /// Whether the pass is one of training, in which the layers do what they do without a tape.
    pub(super) fn trains(&self) -> bool {
        let training = RecordedPass::Training;
        match &*self.mode.borrow() {
            Mode::Off => true,
            Mode::Record { pass, .. } => *pass == training,
            Mode::Evaluate | Mode::Discover(_) | Mode::Normalise(_) => false,
        }
    }

    fn of_pass(pass: RecordedPass, layers: &Layers) -> Self {
        let index = layers.iter().enumerate();
        Self::new(Mode::Record {
            pass,
            index: index.map(|(i, layer)| (layer.weight, i)).collect(),
            records: Vec::new(),
        })
    }

    /// Calls a layer: `forward` makes its output; `inputs` tells what the recorded layer saw.
    pub(super) fn through<const P: usize, I: Clone, const D: usize>(
        &self,
        call: Call<'_, P, I>,
        forward: impl FnOnce(I) -> Tensor<D>,
        inputs: impl FnOnce(I, [usize; D]) -> Inputs,
    ) -> Tensor<D> {
        let Call {
            parameters,
            action,
            input,
            features,
        } = call;
        let Some(seen) = self.sees(parameters.weight.id) else {
            return forward(input);
        };
        let output = forward(input.clone());
        let dims = output.dims();
        match seen {
            Seen::Discovered => {
                let sighting = Sighting {
                    positions: features.positions(dims),
                    ..parameters.sighting(action, features)
                };
                self.discovered(sighting);
                output
            }
            Seen::Recorded(layer) => {
                let grouped = features.grouped(dims);
                let probe = output.clone().inner().reshape(grouped).zeros_like();
                let probe = probe.autodiff().require_grad();
                let valid = self.valid.borrow().clone().filter(|valid| {
                    features == FeatureAxis::Last && valid.dims() == [grouped[0], grouped[1]]
                });
                self.record(Record {
                    layer,
                    inputs: inputs(input, dims),
                    valid: valid.map(|valid| valid.cast(probe.dtype())),
                    probe: probe.clone(),
                    features,
                });
                output + probe.reshape(dims)
            }
        }
    }

    /// What is done about the calls of a layer; `None` where nothing is.
    fn sees(&self, weight: ParamId) -> Option<Seen> {
        match &*self.mode.borrow() {
            Mode::Off | Mode::Evaluate | Mode::Normalise(_) => None,
            Mode::Discover(_) => Some(Seen::Discovered),
            Mode::Record { index, .. } => index.get(&weight).copied().map(Seen::Recorded),
        }
    }

    fn discovered(&self, sighting: Sighting) {
        if let Mode::Discover(sightings) = &mut *self.mode.borrow_mut() {
            sightings.push(sighting);
        }
    }

    fn record(&self, record: Record) {
        if let Mode::Record { records, .. } = &mut *self.mode.borrow_mut() {
            records.push(record);
        }
    }

    /// The recorded inputs with their output gradients, taken out of `gradients` into a pass that has
    /// no layer's uses yet.
    ///
    /// A layer whose output does not reach the loss has no gradient; it counts as zero.
    pub(crate) fn into_pass(self, gradients: &mut Gradients, empty: CapturedPass) -> CapturedPass {
        self.captured(empty, |probe| probe.grad_remove(gradients))
    }

    /// The same before any backward pass: all gradients are zero.
    pub(crate) fn into_inputs(self, empty: CapturedPass) -> CapturedPass {
        self.captured(empty, |_| None)
    }

    fn captured(
        self,
        empty: CapturedPass,
        mut gradient: impl FnMut(&Tensor<3>) -> Option<Tensor<3>>,
    ) -> CapturedPass {
        let mut pass = empty;
        let Mode::Record { records, .. } = self.mode.into_inner() else {
            return pass;
        };
        for record in records {
            let gradient = gradient(&record.probe);
            let gradient = gradient.unwrap_or_else(|| record.probe.inner().zeros_like());
            let gradient = record.features.by_position(gradient);
            let output_gradients = match &record.valid {
                Some(valid) => gradient * valid.clone().unsqueeze_dim(2),
                None => gradient,
            };
            let layer = record.layer;
            let capture = LayerCapture {
                inputs: record.inputs,
                output_gradients,
                valid: record.valid,
            };
            match capture.misfit() {
                None => pass.layers[layer].push(capture),
                Some([rows, outputs]) => {
                    pass.misfit = Some(Misfit {
                        layer,
                        rows,
                        outputs,
                    });
                }
            }
        }
        pass.by_case()
    }
}
