//! Batches that grow as the noise of their gradients asks for it.

use serde::{Deserialize, Serialize};

use super::report::GradientNoise;
use crate::network::{Layers, ParameterAction};

/// Iterations between measurements: each costs as much as the proposal, a tenth to a fifth of a small batch's step.
const PERIOD: u64 = 20;

/// The measurement within a period: not where the inverse is refreshed.
const OFFSET: u64 = 10;

/// Weight of the past in the averages of noise and signal.
const PAST: f64 = 0.7;

/// Growth an iteration, while noise asks for it: as fast as the paper's schedule grows on MNIST.
const GROWTH: f64 = 1.01;

/// Cases of a first batch, in m₀.
const FIRST: f64 = 1.4;

/// The most that a batch has, in the size that the decrease of one step alone asks for: factors, momentum and
/// quadratic model gain by cases too, and later steps by what earlier ones are spared. With 1.4 CURVES and MNIST took a
/// fifth longer.
const MORE: f64 = 6.0;

/// More cases than any set has.
const ALL: f64 = 1e12;

/// Passes over a case: gradient, and the parts of the batch for the factors and for the quadratic model.
const OF_CASE: f64 = 4.0;

/// Cases that a first batch has at least: fewer tell too little of the curvature.
const FEWEST: f64 = 256.0;

/// How large batches are, and why.
///
/// # Definition
///
/// With the noise `V = tr(F̌⁻¹ Σ)` of a case's gradient and the signal `S = ∇hᵀ F̌⁻¹ ∇h` of the mean one, a step on `m`
/// cases lowers the quadratic model by `½ S² / (S + V / m)`, and costs as much as passes over `m + m₀` cases, where m₀
/// stands for what a step costs whatever its batch. The decrease for the cost is largest at
///
/// ```text
/// m = √(m₀ V / S)
/// ```
///
/// `V / S` is the gradient noise scale of McCandlish et al. (2018), arXiv 1812.06162, appendix, in the metric of the
/// natural gradient. Batches grow by a hundredth an iteration while they are below six times this size, and never
/// shrink.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BatchGrowth {
    /// The size of the next batch, before it is rounded.
    pub(super) cases: f64,
    /// m₀.
    pub(super) fixed_cost: f64,
    /// Averages of V and S, once they were measured.
    pub(super) noise: Option<[f64; 2]>,
}

impl BatchGrowth {
    /// Before the first step on a network.
    pub(super) fn new(layers: &Layers) -> Self {
        let fixed_cost = fixed_cost(layers);
        Self {
            cases: (FIRST * fixed_cost).max(FEWEST),
            fixed_cost,
            noise: None,
        }
    }

    /// Passes over a case that a step costs whatever its batch: those of m₀ cases.
    pub(super) fn fixed_passes(&self) -> f64 {
        OF_CASE * self.fixed_cost
    }

    /// Whether the noise is measured in an iteration.
    pub(super) fn measures(iteration: u64) -> bool {
        iteration % PERIOD == OFFSET
    }

    /// After a step, with what it measured on a batch of so many cases.
    pub(super) fn after(self, noise: Option<GradientNoise>, cases: usize) -> Self {
        let measured = noise.map_or(self, |noise| self.measured(noise, cases));
        let wanted = measured.wanted();
        Self {
            cases: wanted.min(GROWTH * self.cases).max(self.cases),
            ..measured
        }
    }

    fn measured(self, noise: GradientNoise, cases: usize) -> Self {
        let found = [noise.variance * cases as f64, noise.square - noise.variance];
        if !found.iter().all(|value| value.is_finite()) {
            return self;
        }
        let averages = match self.noise {
            None => found,
            Some(past) => [0, 1].map(|i| PAST * past[i] + (1.0 - PAST) * found[i]),
        };
        Self {
            noise: Some(averages),
            ..self
        }
    }

    /// The size that noise and signal are worth; before they are measured the one there is.
    fn wanted(self) -> f64 {
        match self.noise {
            None => self.cases,
            Some([variance, signal]) if signal > 0.0 => {
                ALL.min(MORE * (self.fixed_cost * variance / signal).sqrt())
            }
            Some(_) => ALL,
        }
    }

    /// The next batch out of so many cases.
    pub(super) fn size(self, total: usize) -> usize {
        (self.cases as usize).clamp(1, total.max(1))
    }
}

/// m₀: the cases whose passes cost as much as applying the inverse, by the multiplications of both.
fn fixed_cost(layers: &Layers) -> f64 {
    let mut applied = 0.0;
    let mut passed = 0.0;
    for layer in layers.as_slice() {
        let parameters = layer.dimension() as f64;
        passed += OF_CASE * parameters * layer.positions as f64;
        if matches!(layer.action, ParameterAction::Product { .. }) {
            let dimensions = layer.activation_dimension() + layer.gradient_dimension();
            applied += parameters * dimensions as f64;
        }
    }
    applied / f64::max(passed, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth() -> BatchGrowth {
        BatchGrowth {
            cases: 200.0,
            fixed_cost: 400.0,
            noise: None,
        }
    }

    fn noise(variance: f64, square: f64) -> GradientNoise {
        GradientNoise { variance, square }
    }

    #[test]
    fn a_batch_grows_slowly_to_what_noise_and_signal_are_worth() {
        // V = 100 · 3, S = 1203 − 3: √(400 · 300 / 1200) = 10.
        let quiet = growth().after(Some(noise(3.0, 1203.0)), 100);
        assert!((quiet.wanted() - 10.0 * MORE).abs() < 1e-9);
        assert!((quiet.cases - 200.0).abs() < 1e-12);
        // V = 300, S = 3: 200 and MORE of it.
        let mut noisy = growth().after(Some(noise(3.0, 6.0)), 100);
        assert!((noisy.cases - 202.0).abs() < 1e-9);
        for _ in 0..300 {
            noisy = noisy.after(None, 100);
        }
        assert!((noisy.cases - 200.0 * MORE).abs() < 1e-9);
    }

    #[test]
    fn it_never_shrinks_and_ends_at_all_cases() {
        // The noise hides the signal.
        let grown = growth().after(Some(noise(3.0, 2.0)), 100);
        assert!((grown.cases - 202.0).abs() < 1e-9);
        let mut quiet = grown;
        for _ in 0..20 {
            quiet = quiet.after(Some(noise(1e-9, 1.0)), 100);
        }
        assert!(quiet.cases >= grown.cases);
        assert_eq!(grown.size(150), 150);
        assert_eq!(grown.size(1000), 202);
    }

    #[test]
    fn nothing_grows_unmeasured_and_what_is_not_finite_tells_nothing() {
        assert_eq!(growth().after(None, 100), growth());
        assert_eq!(growth().after(Some(noise(f64::NAN, 1.0)), 100), growth());
        assert_eq!(
            growth().after(Some(noise(1.0, f64::INFINITY)), 100),
            growth()
        );
    }
}
