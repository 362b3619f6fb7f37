//! How many cases the quadratic model uses (section 8): as many as are worth their time.

use serde::{Deserialize, Serialize};

use super::config::KfacConfig;
use crate::engine::ShareSize;

/// Cases of the quadratic model at least: of fewer the spread itself is not known.
const FEWEST: f64 = 100.0;

/// Passes over a case for its gradient, and for the quadratic model of two directions.
const PASSES: [f64; 2] = [3.0, 4.0];

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

    /// The subset S₂ of a batch of `m` cases: that of a fraction that is set, otherwise the one with the largest decrease
    /// for the time.
    ///
    /// # Definition
    ///
    /// With n cases of spread v, `vᵀ F v` has an error of `√(v / n)`, and a step that misses its length by a part ε
    /// decreases the quadratic model by the part 1 − ε² of what it could. The step costs as much as `c + 4 n` passes over
    /// a case, with `c = 3 m` and what it costs whatever its batch. The decrease for the cost is largest at
    ///
    /// ```text
    /// n = v + √(v² + v c / 4)
    /// ```
    pub(super) fn share(self, config: &KfacConfig, m: usize, fixed: f64) -> ShareSize {
        if let Some(of_batch) = config.model_fraction {
            let at_least = config.model_min_cases;
            return ShareSize::Fraction { of_batch, at_least };
        }
        let [gradient, model] = PASSES;
        let rest = gradient * m as f64 + fixed;
        let spread = self.0.unwrap_or(0.0);
        let best = spread + (spread.powi(2) + spread * rest / model).sqrt();
        ShareSize::Cases(best.max(FEWEST).ceil() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(spread: &[f64], config: &KfacConfig) -> ShareSize {
        let spread = spread.iter().fold(CaseSpread::default(), |s, x| s.with(*x));
        spread.share(config, 600, 1000.0)
    }

    #[test]
    fn there_are_as_many_cases_as_are_worth_their_time() {
        let automatic = KfacConfig::new();
        let of = |spread: &[f64]| match cases(spread, &automatic) {
            ShareSize::Cases(n) => n,
            ShareSize::Fraction { .. } => 0,
        };
        assert_eq!([of(&[]), of(&[0.0]), of(&[f64::NAN])], [100; 3]);
        // c = 3 · 600 + 1000.
        for spread in [20.0, 400.0] {
            let n = of(&[spread]);
            let gain = |n: usize| (1.0 - spread / n as f64) / (2800.0 + 4.0 * n as f64);
            assert!(gain(n) > gain(n - 2) && gain(n) > gain(n + 2), "{n}");
        }
        // 0.95 · 20 + 0.05 · 400.
        assert_eq!(of(&[20.0, 400.0]), of(&[39.0]));
    }

    #[test]
    fn a_fraction_that_is_set_is_kept() {
        let fixed = KfacConfig::new().with_model_fraction(Some(0.5));
        let found = cases(&[400.0], &fixed);
        let ShareSize::Fraction { of_batch, at_least } = found else {
            panic!("{found:?}");
        };
        assert!((of_batch - 0.5).abs() < 1e-15 && at_least == 250);
    }
}
