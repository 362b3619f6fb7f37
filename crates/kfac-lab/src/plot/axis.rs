//! The range, tick positions and tick labels of a chart's axis.

use super::Scale;

const MAX_TICKS: usize = 8;

/// One axis: the range it covers and how values are spread over it.
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// The axis that covers `values` with `margin` (a fraction of its length) free at both ends.
    /// Equal values get a range around them. `None` when there are no values.
    pub(super) fn around(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        margin: f64,
    ) -> Option<Self> {
        let values = values.map(|value| spread(scale, value));
        let (mut low, mut high) = values
            .map(|value| (value, value))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let magnitude = low.abs().max(high.abs());
        // A narrower range would show rounding as steps, or have ticks that coincide.
        let narrowest = match scale {
            Scale::Linear => (1e-9 * magnitude).max(1e-290),
            Scale::Log => 1e-9,
        };
        if high - low <= narrowest {
            let room = match scale {
                Scale::Linear if magnitude > 1e-280 => 0.1 * magnitude,
                Scale::Linear => 1.0,
                Scale::Log => 0.2,
            };
            (low, high) = (low - room, high + room);
        }
        let room = margin * (high - low);
        Some(Self {
            scale,
            low: low - room,
            high: high + room,
        })
    }

    /// Where `value` lies, from 0 at the low end to 1 at the high end.
    pub(super) fn position(&self, value: f64) -> f64 {
        (spread(self.scale, value) - self.low) / (self.high - self.low)
    }

    /// Values to mark, ascending, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => even_ticks(self.low, self.high),
            Scale::Log => log_ticks(self.low, self.high),
        }
    }
}

fn spread(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn even_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / (MAX_TICKS - 1) as f64;
    let mut exponent = rough.log10().floor() as i32;
    let digit = match rough / 10f64.powi(exponent) {
        ratio if ratio <= 1.0 => 1.0,
        ratio if ratio <= 2.0 => 2.0,
        ratio if ratio <= 5.0 => 5.0,
        _ => {
            exponent += 1;
            1.0
        }
    };
    let step = digit * 10f64.powi(exponent);
    let first = (low / step).ceil();
    let multiples = (0..MAX_TICKS).map(|index| (first + index as f64) * step);
    let values: Vec<f64> = multiples.take_while(|&value| value <= high).collect();
    let largest = values
        .iter()
        .fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let plain = (1e-4..1e6).contains(&largest) && exponent >= -6;
    let label = |value: f64| {
        if plain {
            return plain_label(value, exponent);
        }
        let digits = if value == 0.0 {
            0
        } else {
            value.abs().log10().floor() as i32 - exponent
        };
        power_label(value, digits)
    };
    values
        .into_iter()
        .map(|value| (value, label(value)))
        .collect()
}

/// Powers of ten, with 2 and 5 between them when the range is short, and even steps when it is so
/// short that those would be fewer than three.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let exponents = low.floor() as i32..=high.ceil() as i32;
    let inside = |digits: &'static [f64]| -> Vec<(f64, i32)> {
        let all = exponents
            .clone()
            .flat_map(|e| digits.iter().map(move |digit| (*digit, e)));
        all.filter(|(digit, e)| (low..=high).contains(&(digit.log10() + f64::from(*e))))
            .collect()
    };
    let mut ticks = inside(&[1.0, 2.0, 5.0]);
    if ticks.len() < 3 {
        return even_ticks(10f64.powf(low), 10f64.powf(high));
    }
    if ticks.len() > MAX_TICKS {
        ticks = inside(&[1.0]);
        let stride = ((high - low) / MAX_TICKS as f64) as i32 + 1;
        ticks.retain(|(_, e)| e % stride == 0);
    }
    let plain = ticks.iter().all(|(_, e)| (-4..6).contains(e));
    let label = |value, e| {
        if plain {
            plain_label(value, e)
        } else {
            power_label(value, 0)
        }
    };
    let values = ticks
        .into_iter()
        .map(|(digit, e)| (digit * 10f64.powi(e), e));
    values.map(|(value, e)| (value, label(value, e))).collect()
}

/// Decimal notation down to the digit of 10^exponent, with commas between thousands from 10,000.
fn plain_label(value: f64, exponent: i32) -> String {
    let decimals = exponent.min(0).unsigned_abs() as usize;
    let label = format!("{value:.decimals$}");
    if decimals > 0 || value.abs() < 1e4 {
        return label;
    }
    let digits = label.trim_start_matches('-');
    let mut grouped = label[..label.len() - digits.len()].to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Scientific notation, as in 2×10⁻⁷.
fn power_label(value: f64, decimals: i32) -> String {
    const SUPERSCRIPTS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = decimals.max(0).unsigned_abs() as usize;
    let label = format!("{value:.decimals$e}");
    let (digits, exponent) = label.split_once('e').unwrap_or((&label, "0"));
    let raise = |c: char| {
        c.to_digit(10)
            .map_or('⁻', |digit| SUPERSCRIPTS[digit as usize])
    };
    let exponent: String = exponent.chars().map(raise).collect();
    let digits = match digits.split_once('.') {
        Some(_) => digits.trim_end_matches('0').trim_end_matches('.'),
        None => digits,
    };
    match digits {
        "1" => format!("10{exponent}"),
        _ => format!("{digits}×10{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale) -> Vec<String> {
        let axis = Axis::around(values.iter().copied(), scale, 0.0).unwrap();
        axis.ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn linear_labels_show_the_digits_that_differ_and_no_more() {
        assert_eq!(
            labels(&[0.0, 60.0], Scale::Linear),
            ["0", "10", "20", "30", "40", "50", "60"]
        );
        assert_eq!(labels(&[0.9, 1.01], Scale::Linear)[..2], ["0.90", "0.92"]);
        assert_eq!(
            labels(&[0.0, 20_000.0], Scale::Linear)[1..3],
            ["5000", "10,000"]
        );
        assert_eq!(
            labels(&[-3e7, 0.0], Scale::Linear)[..2],
            ["-3×10⁷", "-2.5×10⁷"]
        );
        assert_eq!(labels(&[-3.0, 60.0], Scale::Linear)[0], "0");
        let billions = labels(&[0.0, 1.2e9], Scale::Linear);
        assert_eq!(billions[..2], ["0", "2×10⁸"]);
        assert_eq!(billions[5..], ["10⁹", "1.2×10⁹"]);
        assert_eq!(
            labels(&[0.0, 3e-5], Scale::Linear)[..3],
            ["0", "5×10⁻⁶", "10⁻⁵"]
        );
    }

    #[test]
    fn log_labels_are_powers_of_ten_filled_up_when_few() {
        assert_eq!(
            labels(&[0.001, 50.0], Scale::Log),
            ["0.001", "0.01", "0.1", "1", "10"]
        );
        assert_eq!(
            labels(&[0.4, 12.0], Scale::Log),
            ["0.5", "1", "2", "5", "10"]
        );
        assert_eq!(labels(&[3.1, 3.4], Scale::Log)[..2], ["3.10", "3.15"]);
        assert_eq!(labels(&[1e-7, 1.0], Scale::Log)[..2], ["10⁻⁷", "10⁻⁶"]);
        assert_eq!(labels(&[1e-300, 1e300], Scale::Log).len(), 7);
    }

    #[test]
    fn any_range_has_a_few_ascending_ticks_inside_it() {
        let numbers = [
            0.0,
            -1e300,
            1e300,
            5e-324,
            1e-300,
            1.0,
            1.0 + f64::EPSILON,
            -7.3e12,
            42.0,
        ];
        for low in numbers {
            for high in numbers {
                let log = (low.min(high) >= 1e-300).then_some(Scale::Log);
                for scale in [Scale::Linear].into_iter().chain(log) {
                    let axis = Axis::around([low, high].into_iter(), scale, 0.05).unwrap();
                    let ticks = axis.ticks();
                    let shown = format!("{low:e} {high:e} {scale:?}: {ticks:?}");
                    assert!((1..=MAX_TICKS).contains(&ticks.len()), "{shown}");
                    assert!(
                        ticks.windows(2).all(|pair| pair[0].0 < pair[1].0),
                        "{shown}"
                    );
                    let places = ticks.iter().map(|tick| axis.position(tick.0));
                    assert!(
                        places.into_iter().all(|p| (-0.01..=1.01).contains(&p)),
                        "{shown}"
                    );
                }
            }
        }
    }
}
