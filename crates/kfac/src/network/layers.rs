//! The layers that K-FAC trains, and their parameters as one vector.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Device, Gradients, Tensor},
};

use super::{
    layer::{Layer, ParameterAction},
    values::values_of,
    vector::ParameterVector,
};

/// The layers with a curvature block, in the order in which the tape first saw them.
///
/// They define the layout of every [`ParameterVector`]: one matrix `[d_in + 1, d_out]` a layer, the
/// bias as its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    layers: Vec<Layer>,
    /// Whether the network has batch normalisations.
    normalises: bool,
}

impl Layers {
    /// Layers in the order in which the tape first saw them.
    pub(crate) fn new(layers: Vec<Layer>, normalises: bool) -> Self {
        Self { layers, normalises }
    }

    /// Whether the network has batch normalisations, whose statistics are to be kept up to date.
    pub(crate) fn normalises(&self) -> bool {
        self.normalises
    }

    /// Whether a layer's gradient is only known summed over cases.
    pub(crate) fn has_parameters_alone(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.action == ParameterAction::Alone)
    }

    /// Whether a layer and the next one are neighbours in a chain.
    pub fn linked(&self, layer: usize) -> bool {
        let chain = |layer: usize| self.layers.get(layer).and_then(|layer| layer.chain);
        chain(layer).is_some() && chain(layer) == chain(layer + 1)
    }

    /// The layers, first seen first.
    pub fn as_slice(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers, first seen first.
    pub fn iter(&self) -> std::slice::Iter<'_, Layer> {
        self.layers.iter()
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The path of a layer.
    pub(crate) fn path(&self, layer: usize) -> &str {
        &self.layers[layer].path
    }

    /// The parameters `θ` of the layers.
    pub fn parameters<M: Module>(&self, model: &M) -> ParameterVector {
        let values = values_of(model).into_iter();
        let mut values = values.map(|(id, value)| (id, value.elements)).collect();
        self.assemble(&mut values)
    }

    /// The gradients of the layers' parameters, taken out of `gradients`; zero where there is none.
    pub(crate) fn gradients<M: Module>(
        &self,
        model: &M,
        gradients: &mut Gradients,
    ) -> ParameterVector {
        let mut taken = TakenGradients {
            gradients,
            values: HashMap::new(),
        };
        model.visit(&mut taken);
        self.assemble(&mut taken.values)
    }

    /// The layers' matrices from values in the order in which the parameters are stored.
    pub(crate) fn assemble(&self, values: &mut HashMap<ParamId, Tensor<1>>) -> ParameterVector {
        let block = |layer: &Layer| {
            let weight = values.remove(&layer.weight)?;
            let bias = layer.bias.and_then(|bias| values.remove(&bias));
            Some(layer.matrix(weight, bias))
        };
        ParameterVector::new(self.layers.iter().filter_map(block).collect())
    }

    /// The model with the layers' parameters replaced; all others are left as they are.
    pub fn with_parameters<M: Module>(&self, model: M, vector: &ParameterVector) -> M {
        with_values(model, self.by_parameter(vector))
    }

    /// The model with leaves of its own for the layers' parameters, and no gradient for all others: its
    /// backward pass has nothing in common with that of the model or of another copy.
    pub(crate) fn isolated<M: Module>(&self, model: M, vector: &ParameterVector) -> M {
        model.map(&mut self.writer(vector, Others::Freeze))
    }

    /// A model that holds a direction: the layers' parameters from `vector`, all others zero.
    pub(crate) fn tangent<M: Module>(&self, model: M, vector: &ParameterVector) -> M {
        model.map(&mut self.writer(vector, Others::Zero))
    }

    fn writer(&self, vector: &ParameterVector, others: Others) -> Writer {
        let values = self.by_parameter(vector);
        Writer { values, others }
    }

    /// A vector's values for each parameter, in the order in which it is stored.
    pub(crate) fn by_parameter(&self, vector: &ParameterVector) -> HashMap<ParamId, Tensor<1>> {
        let mut values = HashMap::new();
        for (layer, block) in self.layers.iter().zip(vector.blocks()) {
            let (weight, bias) = layer.weight_and_bias(block);
            values.insert(layer.weight, weight);
            values.extend(layer.bias.zip(bias));
        }
        values
    }
}

impl<'a> IntoIterator for &'a Layers {
    type Item = &'a Layer;
    type IntoIter = std::slice::Iter<'a, Layer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The device of a model's parameters.
pub(crate) fn device_of<M: Module>(model: &M) -> Device {
    let mut found = FirstDevice::default();
    model.visit(&mut found);
    found.0.unwrap_or_default()
}

#[derive(Default)]
struct FirstDevice(Option<Device>);

impl ModuleVisitor for FirstDevice {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.0.is_none() {
            self.0 = Some(param.val().inner().device());
        }
    }
}

struct TakenGradients<'a> {
    gradients: &'a mut Gradients,
    values: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for TakenGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let size = value.shape().num_elements();
        let gradient = value
            .grad_remove(self.gradients)
            .unwrap_or_else(|| value.inner().zeros_like());
        self.values.insert(param.id, gradient.reshape([size]));
    }
}

/// The model with values for some parameters, by their identities; all others are left as they are.
pub(super) fn with_values<M: Module>(model: M, values: HashMap<ParamId, Tensor<1>>) -> M {
    let others = Others::Keep;
    model.map(&mut Writer { values, others })
}

enum Others {
    Keep,
    Freeze,
    Zero,
}

struct Writer {
    values: HashMap<ParamId, Tensor<1>>,
    others: Others,
}

impl ModuleMapper for Writer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.remove(&param.id);
        let id = param.id;
        param.map(|old| match (value, &self.others) {
            (Some(new), _) => like_parameter(&old, new.reshape(old.dims()), id),
            (None, Others::Keep) => old,
            (None, Others::Freeze) => {
                like_parameter(&old, old.clone().inner(), id).set_require_grad(false)
            }
            (None, Others::Zero) => like_parameter(&old, old.clone().inner().zeros_like(), id),
        })
    }
}

/// The autodiff state of a parameter, for the tensor that replaces its value.
///
/// As in Burn's optimizers: a tensor that is lifted to autodiff has the default state otherwise.
fn like_parameter<const D: usize>(old: &Tensor<D>, new: Tensor<D>, id: ParamId) -> Tensor<D> {
    if !old.is_autodiff() {
        return new;
    }
    let mut new = new.autodiff();
    if let Some(strategy) = old.gradient_checkpointing_strategy() {
        new = new.with_gradient_checkpointing_strategy(strategy);
    }
    new = new.set_require_grad(old.is_require_grad());
    if old.is_distributed() {
        new = new.set_distributed(id);
    }
    new
}
