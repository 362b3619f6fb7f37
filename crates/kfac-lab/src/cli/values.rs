//! Numbers as options take them: one that is out of its range is a wrong command line.

use clap::builder::RangedU64ValueParser;

/// A finite number above zero.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0, "a finite number above 0")
}

/// A finite number of at least zero.
pub(super) fn at_least_zero(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0, "a finite number, at least 0")
}

/// A part of a whole.
pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let part = |value| value > 0.0 && value <= 1.0;
    number(text, part, "a number above 0, at most 1")
}

/// What is left of a speed.
pub(super) fn momentum(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| (0.0..1.0).contains(&value),
        "a number of at least 0, below 1",
    )
}

fn number(text: &str, good: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok();
    let value = value.filter(|value| value.is_finite() && good(*value));
    value.ok_or_else(|| format!("expected {expected}"))
}

/// At least one.
pub(super) fn count<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T>
where
    <T as TryFrom<u64>>::Error: Send + Sync + 'static + std::error::Error,
{
    RangedU64ValueParser::new().range(1..)
}

/// A number of threads that a machine may have.
pub(super) fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_the_range_is_refused() {
        for text in ["nan", "inf", "-inf", "1e999", "", "x"] {
            for parse in [positive, at_least_zero, fraction, momentum] {
                assert!(parse(text).is_err(), "{text}");
            }
        }
        assert!(positive("0").is_err() && positive("-1").is_err() && positive("1e-9").is_ok());
        assert!(at_least_zero("0").is_ok() && at_least_zero("-0.1").is_err());
        assert!(fraction("1").is_ok() && fraction("1.1").is_err() && fraction("0").is_err());
        assert!(momentum("0").is_ok() && momentum("1").is_err());
    }
}
