//! The average of the iterates (section 8).

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::{
    moving_average::old_weight,
    network::{Layers, ParameterVector, RunningStatistics},
};

/// Whether and from when the iterates are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IterateAveraging {
    /// No average is kept.
    Off,
    /// `θ̄ ← ξ θ̄ + (1 − ξ) θ` with `ξ = min(1 − 1/(k − start + 1), cap)` from iteration `start` on;
    /// before it the average is the iterate.
    From {
        /// First iteration of the average, at least 1.
        start: u64,
        /// Largest weight of the past.
        cap: f64,
    },
}

impl Default for IterateAveraging {
    fn default() -> Self {
        Self::From {
            start: 200,
            cap: 0.99,
        }
    }
}

/// An iterate: the parameters of a model, and the running statistics of its batch normalisations.
#[derive(Clone, Debug)]
pub(super) struct Iterate {
    pub(super) parameters: ParameterVector,
    pub(super) statistics: RunningStatistics,
}

impl Iterate {
    /// That of a model.
    pub(super) fn of<M: Module>(layers: &Layers, model: &M) -> Self {
        Self {
            parameters: layers.parameters(model),
            statistics: layers.running_statistics(model),
        }
    }

    /// `old_weight · self + (1 − old_weight) · new`.
    fn mixed(&self, new: &Self, old_weight: f64) -> Self {
        let parameters = self.parameters.scaled(old_weight);
        Self {
            parameters: parameters.add_scaled(&new.parameters, 1.0 - old_weight),
            statistics: self.statistics.mixed(&new.statistics, old_weight),
        }
    }

    /// A model with running statistics of its own, which become those of the iterate, as its parameters do.
    pub(super) fn write<M: Module>(&self, layers: &Layers, model: M) -> M {
        self.statistics
            .write(layers.with_parameters(model, &self.parameters))
    }
}

/// The running average of the iterates.
#[derive(Clone, Debug)]
pub(super) struct IterateAverage {
    setting: IterateAveraging,
    average: Option<Iterate>,
}

impl IterateAverage {
    /// No iterate yet.
    pub(super) fn new(setting: IterateAveraging) -> Self {
        Self {
            setting,
            average: None,
        }
    }

    /// One that has come so far.
    pub(super) fn restore(setting: IterateAveraging, average: Option<Iterate>) -> Self {
        Self { setting, average }
    }

    /// Takes in the iterate that iteration `k` ended with.
    pub(super) fn update(&mut self, iteration: u64, iterate: impl FnOnce() -> Iterate) {
        let IterateAveraging::From { start, cap } = self.setting else {
            return;
        };
        if iteration < start {
            return;
        }
        let xi = old_weight(iteration - start + 1, cap);
        self.average = Some(match &self.average {
            Some(average) => average.mixed(&iterate(), xi),
            None => iterate(),
        });
    }

    /// The average, or `None` before it has begun.
    pub(super) fn get(&self) -> Option<&Iterate> {
        self.average.as_ref()
    }
}
