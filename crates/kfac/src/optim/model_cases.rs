//! How many cases the quadratic model uses (section 8): as many as its entries need.

use serde::{Deserialize, Serialize};

use super::config::KfacConfig;
use crate::engine::ShareSize;

/// The error of `vᵀ F v` that the sample of cases may make, in its size. The decrease of the objective suffers by the
/// square of it.
const ERROR: f64 = 0.2;

/// Weight of the past in the average of the spread.
const PAST: f64 = 0.95;

/// How much `vᵀ F v` differs between cases: the largest, over the directions `v`, of its variance in its squared mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CaseSpread(Option<f64>);

/// `S₂`, and how much its cases differ.
pub(super) struct ModelSample {
    pub(super) cases: usize,
    pub(super) spread: f64,
}

impl CaseSpread {
    /// The average with another one taken in.
    pub(super) fn with(self, spread: f64) -> Self {
        if !spread.is_finite() {
            return self;
        }
        Self(Some(match self.0 {
            None => spread,
            Some(past) => PAST * past + (1.0 - PAST) * spread,
        }))
    }

    /// The subset S₂: of a fraction that is set, otherwise with the error above.
    pub(super) fn share(self, config: &KfacConfig) -> ShareSize {
        let at_least = config.model_min_cases;
        if let Some(of_batch) = config.model_fraction {
            return ShareSize::Fraction { of_batch, at_least };
        }
        let needed = self.0.unwrap_or(0.0) / ERROR.powi(2);
        ShareSize::Cases((needed.ceil() as usize).max(at_least))
    }
}
