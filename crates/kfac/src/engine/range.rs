//! The ranges of settings.

use super::fault::ConfigFault;

/// A setting with its value, and whether that is within its range.
pub(crate) struct Range {
    setting: &'static str,
    value: f64,
    good: bool,
    expected: &'static str,
}

impl Range {
    /// Finite and at least zero.
    pub(crate) fn at_least_zero(setting: &'static str, value: f64) -> Self {
        Self {
            setting,
            value,
            good: value.is_finite() && value >= 0.0,
            expected: "a finite number, at least 0",
        }
    }

    /// Finite and above zero.
    pub(crate) fn positive(setting: &'static str, value: f64) -> Self {
        Self {
            setting,
            value,
            good: value.is_finite() && value > 0.0,
            expected: "a finite number above 0",
        }
    }

    /// The largest weight of the past in a running average.
    pub(crate) fn average_cap(setting: &'static str, value: f64) -> Self {
        Self {
            setting,
            value,
            good: (0.0..1.0).contains(&value),
            expected: "in [0, 1)",
        }
    }

    /// A factor that makes smaller.
    pub(crate) fn decay(setting: &'static str, value: f64) -> Self {
        Self {
            setting,
            value,
            good: value > 0.0 && value < 1.0,
            expected: "between 0 and 1",
        }
    }

    /// A part of the batch.
    pub(crate) fn fraction(setting: &'static str, value: f64) -> Self {
        Self {
            setting,
            value,
            good: value > 0.0 && value <= 1.0,
            expected: "in (0, 1]",
        }
    }

    /// A period or a number of cases.
    pub(crate) fn count(setting: &'static str, count: u64) -> Self {
        Self {
            setting,
            value: count as f64,
            good: count >= 1,
            expected: "at least 1",
        }
    }

    /// The fault, where there is one.
    pub(crate) fn fault(self) -> Option<ConfigFault> {
        let Self {
            setting,
            value,
            good,
            expected,
        } = self;
        (!good).then_some(ConfigFault::OutOfRange {
            setting,
            value,
            expected,
        })
    }
}
