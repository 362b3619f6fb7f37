//! The running statistics of a model's batch normalisations.

use burn::{module::Module, tensor::Tensor};

use super::{
    layers::{Layers, with_values},
    table::ParameterTable,
    values::values_of,
};

/// The statistics in the order of the model's fields: a record keeps no identity of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningStatistics(Vec<Tensor<1>>);

impl Layers {
    /// The running statistics of a model; none where it has no batch normalisations.
    pub(crate) fn running_statistics<M: Module>(&self, model: &M) -> RunningStatistics {
        if !self.normalises() {
            return RunningStatistics::default();
        }
        let ids = ParameterTable::of(model).running_statistics();
        let mut values = values_of(model);
        let own = |id| Some(values.remove(&id)?.elements);
        RunningStatistics(ids.into_iter().filter_map(own).collect())
    }
}

impl RunningStatistics {
    /// Statistics in the order of a model's fields.
    pub(crate) fn new(tensors: Vec<Tensor<1>>) -> Self {
        Self(tensors)
    }

    /// The statistics.
    pub(crate) fn tensors(&self) -> &[Tensor<1>] {
        &self.0
    }

    /// `old_weight · self + (1 − old_weight) · new`.
    pub(crate) fn mixed(&self, new: &Self, old_weight: f64) -> Self {
        let mixed = |(old, new): (&Tensor<1>, &Tensor<1>)| {
            old.clone() * old_weight + new.clone() * (1.0 - old_weight)
        };
        Self(self.0.iter().zip(&new.0).map(mixed).collect())
    }

    /// Replaces those of a model, and of all that share them.
    pub(crate) fn write<M: Module>(&self, model: M) -> M {
        let ids = ParameterTable::of(&model).running_statistics();
        let values = ids.into_iter().zip(self.0.iter().cloned()).collect();
        with_values(model, values)
    }
}
