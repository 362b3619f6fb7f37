//! Comparing a replay with the expected values of its case.

use std::fmt;

use serde_json::Value;

use super::{case::Case, trajectory::Row};

/// Deviations allowed beyond the rounding envelope: the growth of rounding differences over the
/// trajectory, with exact directional derivatives.
const FLOOR: f64 = 1e-8;

/// Multiple of the recorded rounding envelope that is allowed.
const ENVELOPE: f64 = 100.0;

/// Largest relative deviation of the objective in a stochastic case from iteration 200 on: two
/// seeds of the recorded runs differ by up to 2.4 % at 200 and 0.3 % at 300.
const STOCHASTIC: f64 = 0.03;

/// The first iteration at which stochastic cases are compared; before it the seeds' paths differ.
const STOCHASTIC_FROM: u64 = 200;

/// The largest deviation of one field.
#[derive(Clone, Debug)]
pub struct FieldDeviation {
    /// The field.
    pub field: &'static str,
    /// Largest relative deviation.
    pub largest: f64,
    /// The iteration where the deviation is largest in units of its tolerance.
    pub iteration: u64,
    /// Largest deviation in units of the tolerance at its iteration.
    pub worst: f64,
}

/// All deviations of a replay.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The fields that were compared.
    pub fields: Vec<FieldDeviation>,
    /// The last iteration that was compared.
    pub until: u64,
}

type Field = (&'static str, fn(&Row) -> Option<f64>);

const FIELDS: [Field; 9] = [
    ("h_after", |row| Some(row.h_after)),
    ("delta_norm", |row| Some(row.delta_norm)),
    ("raw_delta_norm", |row| Some(row.raw_delta_norm)),
    ("grad_norm", |row| Some(row.grad_norm)),
    ("theta_norm_after", |row| Some(row.theta_norm_after)),
    ("model_change", |row| Some(row.model_change)),
    ("lambda_after", |row| Some(row.lambda_after)),
    ("gamma_used", |row| Some(row.gamma_used)),
    ("rho", |row| row.rho),
];

impl Comparison {
    /// Compares a replay; `None` where the case has no expected values.
    pub fn new(case: &Case, rows: &[Row]) -> Option<Self> {
        if let Some(expected) = &case.every_10 {
            let pairs = expected.k.iter().zip(&expected.h_train);
            let entries = pairs
                .filter(|(k, _)| **k >= STOCHASTIC_FROM)
                .filter_map(|(&k, &h)| {
                    let row = rows.get(usize::try_from(k).ok()?.checked_sub(1)?)?;
                    Some((k, row.h_after, h, STOCHASTIC))
                });
            let until = rows.len() as u64;
            return Some(Self {
                fields: vec![deviation("h_train", entries)],
                until,
            });
        }
        let scalars = case.scalars.as_ref()?;
        let until = case
            .rounding
            .as_ref()
            .map_or(rows.len() as u64, |r| r.compare_until_k);
        let fields = FIELDS.iter().filter_map(|&(field, get)| {
            let column = scalars.get(field)?;
            let entries = rows
                .iter()
                .take_while(|row| row.k <= until)
                .filter_map(|row| {
                    let index = row.k as usize - 1;
                    let expected = column.get(index).and_then(Value::as_f64)?;
                    Some((
                        row.k,
                        get(row).unwrap_or(f64::NAN),
                        expected,
                        tolerance(case, field, index),
                    ))
                });
            Some(deviation(field, entries))
        });
        Some(Self {
            fields: fields.collect(),
            until,
        })
    }

    /// Whether every field stays within its tolerance.
    pub fn passed(&self) -> bool {
        self.fields.iter().all(|field| field.worst <= 1.0)
    }
}

fn tolerance(case: &Case, field: &str, index: usize) -> f64 {
    let envelope = case.rounding.as_ref().and_then(|r| r.relative.get(field));
    let envelope = envelope
        .and_then(|column| column.get(index).copied().flatten())
        .unwrap_or(0.0);
    ENVELOPE * envelope + FLOOR
}

/// The largest deviation among `(iteration, found, expected, tolerance)`.
fn deviation(
    field: &'static str,
    entries: impl Iterator<Item = (u64, f64, f64, f64)>,
) -> FieldDeviation {
    let mut result = FieldDeviation {
        field,
        largest: 0.0,
        iteration: 0,
        worst: 0.0,
    };
    for (k, found, expected, tolerance) in entries {
        let scale = expected.abs().max(f64::MIN_POSITIVE);
        let difference = (found - expected).abs() / scale;
        // A NaN is no agreement.
        let relative = if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        };
        result.largest = result.largest.max(relative);
        if relative / tolerance > result.worst {
            result.worst = relative / tolerance;
            result.iteration = k;
        }
    }
    result
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "agrees" } else { "DEVIATES" };
        writeln!(
            f,
            "{verdict} with the expected values up to iteration {}",
            self.until
        )?;
        writeln!(
            f,
            "  {:18} {:>12} {:>16}",
            "field", "largest", "of tolerance"
        )?;
        for field in &self.fields {
            let FieldDeviation {
                field,
                largest,
                iteration,
                worst,
            } = field;
            let place = if *iteration > 0 {
                format!(" at k = {iteration}")
            } else {
                String::new()
            };
            writeln!(
                f,
                "  {field:18} {largest:>12.2e} {:>15.3}%{place}",
                100.0 * worst
            )?;
        }
        Ok(())
    }
}
