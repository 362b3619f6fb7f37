//! The layers that K-FAC trains, and their parameters as one vector.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Gradients, Tensor},
};

use super::{
    layer::{Layer, LayerKind, LayerOptions},
    table::ParameterTable,
    tape::{Mode, Sighting, Tape},
};
use crate::{cases::Cases, network::Network, vector::ParameterVector};

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
    /// Finds the layers by one forward pass over the first case of `example`, and lists what covers
    /// each parameter of the model.
    pub fn discover<M: Network>(
        model: &M,
        example: &M::Input,
        options: &LayerOptions,
    ) -> (Self, ParameterTable) {
        let mut tape = Tape::new(Mode::Discover(Vec::new()));
        let _ = model.forward(example.slice(0..1), &mut tape);
        let mut sightings: Vec<Sighting> = Vec::new();
        let mut chainable: Vec<bool> = Vec::new();
        for sighting in tape.into_sightings().into_iter().filter(|s| s.trainable) {
            if let Some(first) = sightings.iter().position(|s| s.weight == sighting.weight) {
                chainable[first] = false; // used more than once
                sightings[first].positions += sighting.positions;
            } else {
                chainable.push(sighting.kind == LayerKind::Dense && sighting.positions == 1);
                sightings.push(sighting);
            }
        }
        let mut table = ParameterTable::of(model);
        let chains = chains(&chainable);
        let layer = |(sighting, chain): (&Sighting, Option<usize>)| {
            let path = table.layer_path(sighting);
            Layer {
                sharing: options.sharing(&path),
                path,
                kind: sighting.kind,
                weight: sighting.weight,
                bias: sighting.bias,
                d_in: sighting.d_in,
                d_out: sighting.d_out,
                positions: sighting.positions,
                structure: options.structure(sighting.kind),
                chain,
            }
        };
        let layers: Vec<Layer> = sightings.iter().zip(chains).map(layer).collect();
        table.cover(&layers);
        let normalises = table.has_running_statistics();
        (Self { layers, normalises }, table)
    }

    /// Whether the network has batch normalisations, whose statistics are to be kept up to date.
    pub(crate) fn normalises(&self) -> bool {
        self.normalises
    }

    /// Whether a layer's gradient is only known summed over cases.
    pub(crate) fn has_parameters_alone(&self) -> bool {
        self.layers.iter().any(|l| l.kind == LayerKind::Parameter)
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

    /// A tape that records these layers.
    pub(crate) fn recording_tape(&self) -> Tape {
        let index = self.layers.iter().enumerate();
        Tape::new(Mode::Record {
            index: index.map(|(i, layer)| (layer.weight, i)).collect(),
            records: Vec::new(),
        })
    }

    /// The parameters `θ` of the layers.
    pub fn parameters<M: Module>(&self, model: &M) -> ParameterVector {
        let mut values = Values::default();
        model.visit(&mut values);
        self.assemble(&mut values.0)
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
    pub(super) fn assemble(&self, values: &mut HashMap<ParamId, Tensor<1>>) -> ParameterVector {
        let block = |layer: &Layer| {
            let weight = values.remove(&layer.weight)?;
            let bias = layer.bias.and_then(|bias| values.remove(&bias));
            Some(layer.matrix(weight, bias))
        };
        ParameterVector::new(self.layers.iter().filter_map(block).collect())
    }

    /// The model with the layers' parameters replaced; all others are left as they are.
    pub fn with_parameters<M: Module>(&self, model: M, vector: &ParameterVector) -> M {
        model.map(&mut self.writer(vector, Others::Keep))
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
    pub(super) fn by_parameter(&self, vector: &ParameterVector) -> HashMap<ParamId, Tensor<1>> {
        let mut values = HashMap::new();
        for (layer, block) in self.layers.iter().zip(vector.blocks()) {
            let (weight, bias) = layer.weight_and_bias(block);
            values.insert(layer.weight, weight);
            values.extend(layer.bias.zip(bias));
        }
        values
    }
}

/// Numbers the runs of at least two consecutive layers that can be chained.
fn chains(chainable: &[bool]) -> Vec<Option<usize>> {
    let can = |layer: usize| chainable.get(layer).copied().unwrap_or(false);
    let mut number = 0;
    let mut chain = |layer: usize| {
        let before = layer > 0 && can(layer - 1);
        if !can(layer) || !(before || can(layer + 1)) {
            return None;
        }
        number += usize::from(!before);
        Some(number)
    };
    (0..chainable.len()).map(&mut chain).collect()
}

impl<'a> IntoIterator for &'a Layers {
    type Item = &'a Layer;
    type IntoIter = std::slice::Iter<'a, Layer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[derive(Default)]
struct Values(HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let size = value.shape().num_elements();
        self.0.insert(param.id, value.reshape([size]));
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
        param.map(|old| match (value, &self.others) {
            (Some(new), _) => like_parameter(&old, new.reshape(old.dims())),
            (None, Others::Keep) => old,
            (None, Others::Freeze) => {
                like_parameter(&old, old.clone().inner()).set_require_grad(false)
            }
            (None, Others::Zero) => like_parameter(&old, old.clone().inner().zeros_like()),
        })
    }
}

/// Gives a plain tensor the autodiff state of the parameter that it replaces.
fn like_parameter<const D: usize>(old: &Tensor<D>, new: Tensor<D>) -> Tensor<D> {
    if !old.is_autodiff() {
        return new;
    }
    let mut new = new.autodiff();
    if let Some(strategy) = old.gradient_checkpointing_strategy() {
        new = new.with_gradient_checkpointing_strategy(strategy);
    }
    new.set_require_grad(old.is_require_grad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_runs_of_at_least_two() {
        let numbers = chains(&[true, true, false, true, false, true, true, true]);
        let expected = [
            Some(1),
            Some(1),
            None,
            None,
            None,
            Some(2),
            Some(2),
            Some(2),
        ];
        assert_eq!(numbers, expected);
        assert!(chains(&[]).is_empty());
        assert_eq!(chains(&[true]), [None]);
    }
}
