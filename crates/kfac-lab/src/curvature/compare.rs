//! The comparison of a case's curvature with what the case expects.

use std::fmt;

use serde_json::{Map, Value};

use crate::text_table::NumberTable;

/// The largest relative difference, in the Frobenius norm of each matrix.
pub(super) const TOLERANCE: f64 = 1e-8;

/// One compared member.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// Where it stands, for instance `blocks.0.input_factor`.
    pub path: String,
    /// The relative difference; infinite where the forms differ.
    pub difference: f64,
}

/// All members that a case expects.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The compared members.
    pub deviations: Vec<Deviation>,
    /// Expected members that are not computed.
    pub skipped: Vec<String>,
}

/// Members that a case may have and that are not part of the answer.
const NOT_COMPUTED: [&str; 1] = ["gradient_through_statistics"];

impl Comparison {
    /// Compares what was found with what is expected.
    pub fn new(expected: &Value, found: &Value) -> Self {
        let mut comparison = Self {
            deviations: Vec::new(),
            skipped: Vec::new(),
        };
        if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
            comparison.objects("", expected, found);
        }
        comparison
    }

    /// Whether nothing differs by more than 1e-8.
    pub fn passed(&self) -> bool {
        // Not a number is not within it.
        self.deviations.iter().all(|d| d.difference <= TOLERANCE)
    }

    fn objects(&mut self, path: &str, expected: &Map<String, Value>, found: &Map<String, Value>) {
        for (name, value) in expected {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            if NOT_COMPUTED.contains(&name.as_str()) {
                self.skipped.push(path);
                continue;
            }
            match (
                found.get(name),
                expected.get(&name.replace("vectors", "values")),
            ) {
                (Some(found), Some(eigenvalues)) if name.ends_with("_eigenvectors") => {
                    let difference = subspace_difference(eigenvalues, [value, found]);
                    self.push(path, difference);
                }
                (Some(found), _) => self.values(path, value, found),
                (None, _) => self.push(path, f64::INFINITY),
            }
        }
    }

    fn values(&mut self, path: String, expected: &Value, found: &Value) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => self.objects(&path, expected, found),
            (Value::Array(expected_list), Value::Array(found_list))
                if expected_list.iter().any(Value::is_object) =>
            {
                if expected_list.len() != found_list.len() {
                    self.push(path, f64::INFINITY);
                    return;
                }
                for (at, (expected, found)) in expected_list.iter().zip(found_list).enumerate() {
                    self.values(format!("{path}.{at}"), expected, found);
                }
            }
            (Value::Bool(_) | Value::String(_) | Value::Null, _) => {
                let difference = if expected == found {
                    0.0
                } else {
                    f64::INFINITY
                };
                self.push(path, difference);
            }
            // An error is relative already, and may be no more than rounding.
            _ if path.ends_with("relative_error") => {
                let difference = numbers(expected)
                    .zip(numbers(found))
                    .map_or(f64::INFINITY, |(e, f)| norm(&subtracted(&e, &f)));
                self.push(path, difference);
            }
            _ => {
                let difference = relative_difference(expected, found);
                self.push(path, difference);
            }
        }
    }

    fn push(&mut self, path: String, difference: f64) {
        self.deviations.push(Deviation { path, difference });
    }
}

/// The relative Frobenius difference of numbers in nested lists.
fn relative_difference(expected: &Value, found: &Value) -> f64 {
    let (Some(expected), Some(found)) = (numbers(expected), numbers(found)) else {
        return f64::INFINITY;
    };
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    let difference = norm(&subtracted(&expected, &found));
    if difference > 0.0 {
        difference / norm(&expected)
    } else {
        difference
    }
}

/// The relative difference of eigenvectors, as columns of nested lists; those of eigenvalues that are
/// rounding of zero are arbitrary, and do not count.
fn subspace_difference(eigenvalues: &Value, vectors: [&Value; 2]) -> f64 {
    let [Some(values), Some(expected), Some(found)] =
        [eigenvalues, vectors[0], vectors[1]].map(numbers)
    else {
        return f64::INFINITY;
    };
    if expected.len() != found.len() || expected.len() != values.len() * values.len() {
        return f64::INFINITY;
    }
    let largest = values.iter().copied().fold(0.0, f64::max);
    let counts = |at: usize| values[at % values.len()] > 1e-10 * largest;
    let of_rank = |numbers: Vec<f64>| {
        let numbered = numbers.into_iter().enumerate();
        numbered
            .filter(|(at, _)| counts(*at))
            .map(|(_, x)| x)
            .collect::<Vec<f64>>()
    };
    let (expected, found) = (of_rank(expected), of_rank(found));
    norm(&subtracted(&expected, &found)) / norm(&expected)
}

fn subtracted(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// All numbers of nested lists; `None` where there is something else.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Number(number) => Some(vec![number.as_f64()?]),
        Value::Array(list) => {
            let lists: Option<Vec<_>> = list.iter().map(numbers).collect();
            Some(lists?.concat())
        }
        _ => None,
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worst = self
            .deviations
            .iter()
            .max_by(|a, b| a.difference.total_cmp(&b.difference));
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        write!(f, "{verdict}, {} members", self.deviations.len())?;
        if let Some(worst) = worst {
            write!(
                f,
                ", largest relative difference {:.1e} ({})",
                worst.difference, worst.path
            )?;
        }
        let too_large = |d: &&Deviation| d.difference.is_nan() || d.difference > TOLERANCE;
        let mut differing = self.deviations.iter().filter(too_large).peekable();
        if differing.peek().is_some() {
            let mut table = NumberTable::new(["member", "relative difference"]);
            for deviation in differing {
                let difference = format!("{:.1e}", deviation.difference);
                table.add([deviation.path.clone(), difference]);
            }
            write!(f, "\n{}", table.to_string().trim_end())?;
        }
        for skipped in &self.skipped {
            write!(f, "\n  {skipped}: not computed")?;
        }
        Ok(())
    }
}
