//! The average of the iterates (section 8).

use serde::{Deserialize, Serialize};

use crate::{moving_average::old_weight, network::ParameterVector};

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

/// The running average of the iterates.
#[derive(Clone, Debug)]
pub(super) struct IterateAverage {
    setting: IterateAveraging,
    average: Option<ParameterVector>,
}

impl IterateAverage {
    /// No iterate yet.
    pub(super) fn new(setting: IterateAveraging) -> Self {
        Self {
            setting,
            average: None,
        }
    }

    /// Takes in the iterate that iteration `k` ended with.
    pub(super) fn update(&mut self, iteration: u64, parameters: &ParameterVector) {
        let IterateAveraging::From { start, cap } = self.setting else {
            return;
        };
        if iteration < start {
            return;
        }
        let xi = old_weight(iteration - start + 1, cap);
        self.average = Some(match &self.average {
            Some(average) => average.scaled(xi).add_scaled(parameters, 1.0 - xi),
            None => parameters.clone(),
        });
    }

    /// The average, or `None` before it has begun.
    pub(super) fn get(&self) -> Option<&ParameterVector> {
        self.average.as_ref()
    }
}
