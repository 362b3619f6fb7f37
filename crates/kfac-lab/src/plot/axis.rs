//! The range of an axis, and the marks of a logarithmic one.

use std::ops::Range;

use plotters::coord::{ranged1d::Ranged, types::RangedCoordf64};

/// From the lowest to the highest value, or around the only one.
pub(super) fn range(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    let magnitude = low.abs().max(high.abs()).max(1.0);
    if high - low > 1e-9 * magnitude {
        low..high
    } else {
        low - 0.2 * magnitude..high + 0.2 * magnitude
    }
}

/// The same with some room, on a logarithmic axis.
pub(super) fn log_range(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let Range { start, end } = range(values.map(f64::ln));
    let room = 0.04 * (end - start);
    (start - room).exp()..(end + room).exp()
}

/// Powers of ten, filled up with 2 and 5 between them or even steps where they would be few.
pub(super) fn log_ticks(range: &Range<f64>) -> Vec<f64> {
    let powers = log_multiples(range, &[1.0]);
    let filled = log_multiples(range, &[1.0, 2.0, 5.0]);
    match filled.len() {
        0..3 => RangedCoordf64::from(range.clone()).key_points(7),
        3..9 => filled,
        _ => {
            let stride = powers.len().div_ceil(8);
            powers.into_iter().step_by(stride).collect()
        }
    }
}

/// The digits times every power of ten, as far as they are in the range.
pub(super) fn log_multiples(range: &Range<f64>, digits: &[f64]) -> Vec<f64> {
    let exponents = range.start.log10().floor() as i32..=range.end.log10().floor() as i32;
    let multiples = exponents.flat_map(|e| digits.iter().map(move |digit| digit * 10f64.powi(e)));
    multiples.filter(|value| range.contains(value)).collect()
}

#[cfg(test)]
mod tests {
    use plotters::data::float::pretty_print_float;

    use super::*;

    #[test]
    fn ticks_are_powers_of_ten_filled_up_when_few() {
        let labels = |range: Range<f64>| {
            let ticks = log_ticks(&range).into_iter();
            let labels: Vec<String> = ticks.map(|tick| pretty_print_float(tick, true)).collect();
            labels.join(" ")
        };
        assert_eq!(labels(0.0009..50.0), "0.001 0.01 0.1 1 10");
        assert_eq!(labels(0.4..12.0), "0.5 1 2 5 10");
        assert_eq!(labels(3.1..3.4), "3.1 3.15 3.2 3.25 3.3 3.35 3.4");
        assert_eq!(labels(1e-7..1.1), "1e-7 1e-6 1e-5 1e-4 0.001 0.01 0.1 1");
        assert_eq!(labels(0.9e-15..1e15).split(' ').count(), 8);
    }
}
