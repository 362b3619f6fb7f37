//! The results of runs that differ in their seeds only.

use std::fmt;

use super::{Evaluation, Outcome};
use crate::{median::mean_and_deviation, text_table::NumberTable};

/// Runs of one method, for a table of their means.
pub struct Seeds<'a>(pub &'a [Outcome]);

impl fmt::Display for Seeds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        writeln!(f, "{} on {}", first.summary.method, first.summary.data)?;
        let header = ["", "objective", "training", "test", "seconds"];
        let mut table = NumberTable::new(header);
        let last = |outcome: &Outcome| outcome.summary.last;
        let of = |value: fn(Evaluation) -> f64| {
            let values: Vec<f64> = self.0.iter().filter_map(last).map(value).collect();
            mean_and_deviation(&values)
        };
        let seconds: Vec<f64> = self
            .0
            .iter()
            .map(|outcome| outcome.summary.seconds)
            .collect();
        let columns = [
            of(|e| e.train_objective),
            of(|e| e.train_error),
            of(|e| e.test_error),
            mean_and_deviation(&seconds),
        ];
        for (row, name) in ["mean at the end", "standard deviation"].iter().enumerate() {
            let numbers = columns.map(|column| format!("{:.5}", column[row]));
            table.add(std::iter::once((*name).to_owned()).chain(numbers));
        }
        write!(f, "{table}")?;
        let [seeds, name] = [
            self.0.len().to_string(),
            first.summary.error_name.to_owned(),
        ];
        writeln!(f, "({seeds} seeds; training, test: mean {name} a case)")
    }
}
