//! What the calls of a preconditioner report.

use burn::optim::GradientsParams;
use serde::{Deserialize, Serialize};

use crate::{blocks::FactorRepair, optim::report::PhaseTimes};

/// What an observation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObserveReport {
    /// The number of the observation, counted from one.
    pub observation: u64,
    /// λ, the strength of the damping.
    pub lambda: f64,
    /// The cases that were taken into the statistics; zero where none were due.
    pub cases: usize,
    /// Whether the inverse was refreshed.
    pub refreshed: bool,
    /// The paths of the layers that no case reached: their factors stayed as they were.
    pub unreached: Vec<String>,
    /// Factors that could not be factorised as asked.
    pub repairs: Vec<FactorRepair>,
    /// Seconds of `curvature_pass`, `factor_update` and `inverse`; the other phases are not of an observation.
    pub times: PhaseTimes,
}

/// Gradients for the optimizer behind, and how they came about.
#[derive(Debug)]
pub struct Preconditioned {
    /// The gradients, those of the layers' parameters preconditioned.
    pub gradients: GradientsParams,
    /// What was done to them.
    pub report: PreconditionReport,
}

/// What was done to gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PreconditionReport {
    /// The learning rate that they are for.
    pub rate: f64,
    /// `ν`, the scale of the KL clip: below one where it clipped.
    pub nu: f64,
    /// `gᵀ F̃⁻¹ g`, the squared Fisher norm of the natural gradient.
    pub squared_fisher_norm: f64,
    /// `‖g‖`, over the layers' parameters.
    pub gradient_norm: f64,
    /// `‖ν F̃⁻¹ g‖`.
    pub preconditioned_norm: f64,
    /// Seconds that it took.
    pub seconds: f64,
}

impl PreconditionReport {
    /// Whether the KL clip made the step shorter.
    pub fn clipped(&self) -> bool {
        self.nu < 1.0
    }
}
