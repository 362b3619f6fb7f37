//! Comparing a replay with the expected values of its case.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::{
    case::{Case, Every10},
    trajectory::Row,
};
use crate::{text_table::NumberTable, verdict::Verdict};

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

/// The deviations of one field.
#[derive(Clone, Debug)]
pub struct FieldDeviation {
    /// The field.
    pub field: &'static str,
    /// How many numbers were compared.
    pub compared: usize,
    /// Largest relative deviation.
    pub largest: f64,
    /// The iteration where the deviation is largest in units of its tolerance.
    pub iteration: u64,
    /// Largest deviation in units of the tolerance at its iteration.
    pub worst: f64,
}

/// All deviations of a replay; at least one number was compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The fields that the case has.
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
    /// Compares a replay; `None` where the case states no expected values.
    ///
    /// # Errors
    /// Where it states some, and none of them can be compared, or one is no number.
    pub fn new(case: &Case, rows: &[Row]) -> Result<Option<Self>> {
        if let Some(expected) = &case.every_10 {
            return Self::stochastic(expected, rows).map(Some);
        }
        if let Some(scalars) = &case.scalars {
            return Self::deterministic(case, scalars, rows).map(Some);
        }
        ensure!(
            case.rounding.is_none(),
            "there is a rounding envelope, but scalars, the expected values, are missing"
        );
        Ok(None)
    }

    fn stochastic(expected: &Every10, rows: &[Row]) -> Result<Self> {
        let mut deviation = FieldDeviation::none("h_train");
        for (&k, &expected) in expected.k.iter().zip(&expected.h_train) {
            let row = usize::try_from(k)
                .ok()
                .and_then(|k| rows.get(k.checked_sub(1)?));
            if let Some(row) = row.filter(|_| k >= STOCHASTIC_FROM) {
                deviation.add(&Compared {
                    k,
                    found: row.h_after,
                    expected,
                    tolerance: STOCHASTIC,
                });
            }
        }
        ensure!(
            deviation.compared > 0,
            "none of the expected values could be compared: every_10 has no h_train at an iteration from \
             {STOCHASTIC_FROM} to {}, the last one",
            rows.len()
        );
        Ok(Self {
            fields: vec![deviation],
            until: rows.len() as u64,
        })
    }

    fn deterministic(
        case: &Case,
        scalars: &BTreeMap<String, Vec<Value>>,
        rows: &[Row],
    ) -> Result<Self> {
        let last = rows.len() as u64;
        let until = case
            .rounding
            .as_ref()
            .map_or(last, |rounding| rounding.compare_until_k);
        let until = until.min(last);
        let mut fields = Vec::new();
        for (field, get) in FIELDS {
            let Some(column) = scalars.get(field) else {
                continue;
            };
            let mut deviation = FieldDeviation::none(field);
            let pairs = rows.iter().zip(column).enumerate();
            for (index, (row, value)) in pairs.take_while(|(_, (row, _))| row.k <= until) {
                let expected = match value {
                    Value::Null => continue,
                    Value::Number(number) => number.as_f64(),
                    _ => None,
                };
                let Some(expected) = expected else {
                    bail!("scalars: {field} at k = {} is {value}, not a number", row.k);
                };
                deviation.add(&Compared {
                    k: row.k,
                    found: get(row).unwrap_or(f64::NAN),
                    expected,
                    tolerance: tolerance(case, field, index),
                });
            }
            fields.push(deviation);
        }
        ensure!(
            fields.iter().any(|field| field.compared > 0),
            "none of the expected values could be compared: scalars has no number of {} up to iteration \
             {until} (the last one, or compare_until_k)",
            FIELDS.map(|(field, _)| field).join(", ")
        );
        Ok(Self { fields, until })
    }

    /// Whether every field stays within its tolerance.
    pub fn verdict(&self) -> Verdict {
        if self.fields.iter().all(|field| field.worst <= 1.0) {
            Verdict::Agrees
        } else {
            Verdict::Deviates
        }
    }
}

fn tolerance(case: &Case, field: &str, index: usize) -> f64 {
    let envelope = case.rounding.as_ref().and_then(|r| r.relative.get(field));
    let envelope = envelope
        .and_then(|column| column.get(index).copied().flatten())
        .unwrap_or(0.0);
    ENVELOPE * envelope + FLOOR
}

/// A number with the one expected.
struct Compared {
    k: u64,
    found: f64,
    expected: f64,
    tolerance: f64,
}

impl FieldDeviation {
    fn none(field: &'static str) -> Self {
        Self {
            field,
            compared: 0,
            largest: 0.0,
            iteration: 0,
            worst: 0.0,
        }
    }

    fn add(&mut self, compared: &Compared) {
        let scale = compared.expected.abs().max(f64::MIN_POSITIVE);
        let difference = (compared.found - compared.expected).abs() / scale;
        // A NaN is no agreement.
        let relative = if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        };
        self.compared += 1;
        self.largest = self.largest.max(relative);
        if relative / compared.tolerance > self.worst {
            self.worst = relative / compared.tolerance;
            self.iteration = compared.k;
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict() {
            Verdict::Agrees => "agrees",
            _ => "DEVIATES",
        };
        writeln!(
            f,
            "{verdict} with the expected values up to iteration {}",
            self.until
        )?;
        let mut table = NumberTable::new(["field", "numbers", "largest", "of tolerance", "at k"]);
        for field in &self.fields {
            let mut row = vec![field.field.to_owned(), field.compared.to_string()];
            if field.compared > 0 {
                let worst = 100.0 * field.worst;
                row.extend([format!("{:.2e}", field.largest), format!("{worst:.3}%")]);
            }
            if field.iteration > 0 {
                row.push(field.iteration.to_string());
            }
            table.add(row);
        }
        write!(f, "{table}")
    }
}
