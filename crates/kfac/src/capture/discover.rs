//! The layers of a network, found by one forward pass.

use burn::module::ParamId;

use super::{
    network::Network,
    own_statistics::with_own_statistics,
    tape::{Mode, Sighting, Tape},
};
use crate::network::{
    Cases, Layer, Layers, Misshapen, Outputs, ParameterAction, ParameterTable, WeightSharing,
    values_of,
};

/// What is chosen about a layer.
pub(crate) struct LayerChoice {
    /// How positions that share its weights count.
    pub(crate) sharing: WeightSharing,
    /// Whether a chain may link it with its neighbours.
    pub(crate) links: bool,
}

impl Layers {
    /// Finds the layers by one forward pass over the first case of `example`, and lists the model's
    /// parameters, none of which is covered by a block yet. `choose` tells by a layer's path what is
    /// chosen about it.
    pub(crate) fn discover<M: Network>(
        model: &M,
        example: &M::Input,
        choose: impl Fn(&str) -> LayerChoice,
    ) -> (Self, ParameterTable) {
        let mut tape = Tape::new(Mode::Discover(Vec::new()));
        // Normalisations that are called outside the tape would move the model's statistics.
        let case = example.slice(0..1).detached();
        let outputs = with_own_statistics(model).forward(case, &mut tape);
        let pooling = outputs.pool_positions();
        let mut table = ParameterTable::of(model);
        let sightings = tape.into_sightings();
        table.biases_alone = biases_alone(&table, &sightings);
        table.derived = derived(model, &table, &sightings);
        table.misshapen = misshapen(&table, &sightings);
        let (sightings, mut chainable) = merged(sightings);
        let paths = layer_paths(&table, &sightings);
        for (chainable, path) in chainable.iter_mut().zip(&paths) {
            *chainable &= choose(path).links;
        }
        let mut paths = paths.into_iter();
        let layer = |(sighting, chain): (Sighting, Option<usize>)| {
            let path = paths.next().unwrap_or_default();
            let pooled = pooling && sighting.dense && sighting.positions > 1;
            Layer {
                sharing: choose(&path).sharing.of_layer(pooled),
                path,
                name: sighting.name,
                action: sighting.action,
                weight: sighting.weight,
                bias: sighting.bias,
                layout: sighting.layout,
                d_in: sighting.d_in,
                d_out: sighting.d_out,
                positions: sighting.positions,
                chain,
            }
        };
        let layers = sightings.into_iter().zip(chains(&chainable)).map(layer);
        let layers = Self::new(layers.collect(), table.has_running_statistics());
        (layers, table)
    }
}

/// The trained layers, each once with the positions of all its uses, and whether it can be in a chain:
/// a product that is used once, at one position a case.
fn merged(sightings: Vec<Sighting>) -> (Vec<Sighting>, Vec<bool>) {
    let mut layers: Vec<Sighting> = Vec::new();
    let mut chainable: Vec<bool> = Vec::new();
    for sighting in sightings.into_iter().filter(|sighting| sighting.trainable) {
        let first = layers.iter().position(|s| s.weight == sighting.weight);
        if let Some(first) = first {
            chainable[first] = false;
            layers[first].positions += sighting.positions;
        } else {
            chainable.push(sighting.dense && sighting.positions == 1);
            layers.push(sighting);
        }
    }
    (layers, chainable)
}

/// The paths of trained biases whose layer has a frozen weight.
fn biases_alone(table: &ParameterTable, sightings: &[Sighting]) -> Vec<String> {
    let frozen = sightings.iter().filter(|sighting| !sighting.trainable);
    let biases = frozen.filter_map(|sighting| sighting.bias);
    biases.map(|bias| table.path(bias).to_owned()).collect()
}

/// The paths of the weights that were called with another value than the model's parameter has.
fn derived<M: Network>(model: &M, table: &ParameterTable, sightings: &[Sighting]) -> Vec<String> {
    let values = values_of(model);
    let of_trained = sightings
        .iter()
        .filter(|sighting| table.trained(sighting.weight));
    let derived = of_trained.filter(|sighting| {
        let own = values.get(&sighting.weight);
        own.is_some_and(|own| !own.same(&sighting.value))
    });
    derived
        .map(|sighting| table.path(sighting.weight).to_owned())
        .collect()
}

/// The first weight or bias that has not the elements that a layer of a shape has.
fn misshapen(table: &ParameterTable, sightings: &[Sighting]) -> Option<Misshapen> {
    let mut of_trained = sightings
        .iter()
        .filter(|sighting| table.trained(sighting.weight));
    of_trained.find_map(|sighting| {
        let [d_in, d_out] = [sighting.d_in, sighting.d_out];
        let of_parameter = |id: ParamId, elements: usize| {
            let row = table.row(id)?;
            let found = row.shape.iter().product::<usize>();
            (found != elements).then(|| Misshapen {
                parameter: row.path.clone(),
                found: row.shape.clone(),
                layer: [d_in, d_out],
            })
        };
        let weight = of_parameter(sighting.weight, d_in * d_out);
        weight.or_else(|| of_parameter(sighting.bias?, d_out))
    })
}

/// The path of each layer: of the module that owns its weight; of the weight itself where it is a
/// parameter on its own, or where the module owns weights of several layers.
fn layer_paths(table: &ParameterTable, sightings: &[Sighting]) -> Vec<String> {
    let owner = |sighting: &Sighting| {
        let path = table.path(sighting.weight);
        path.rsplit_once('.').map_or(path, |(owner, _)| owner)
    };
    let path = |sighting: &Sighting| {
        let owners = sightings.iter().map(owner);
        let shared = owners.filter(|other| *other == owner(sighting)).count() > 1;
        if shared || sighting.action == ParameterAction::Alone {
            table.path(sighting.weight).to_owned()
        } else {
            owner(sighting).to_owned()
        }
    };
    sightings.iter().map(path).collect()
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
