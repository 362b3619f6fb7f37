//! Who is how far after how many seconds.

use std::fmt;

use super::Entry;
use crate::{median::mean_and_deviation, text_table::NumberTable, train::Evaluation};

/// Seconds at which the errors are listed.
const SECONDS: [f64; 6] = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// An evaluation is made at the seconds of its column where it differs by no more than this part of them.
const AT: f64 = 0.1;

/// The methods of a comparison; the first is the one that the others are compared with.
pub struct Comparison<'a> {
    /// The methods.
    pub entries: &'a [Entry],
    /// What the error measures.
    pub error_name: &'a str,
    /// Seconds of each run.
    pub seconds: f64,
    /// Runs of each method that were to be made.
    pub seeds: usize,
    /// The cases of the evaluations between start and end, where they are not all.
    pub sample: Option<&'a str>,
}

impl Comparison<'_> {
    fn row(&self, entry: &Entry, listed: &[f64]) -> Vec<String> {
        let last = entry.last();
        let objectives: Vec<f64> = last.iter().map(|(_, e)| e.train_objective).collect();
        let mut row = vec![
            self.name(entry),
            or_dash(entry.steps().map(|steps| format!("{steps:.0}"))),
            or_dash(entry.median_step().map(|time| format!("{time:.1}"))),
        ];
        row.extend(listed.iter().map(|at| error(&entry.nearest(*at), *at)));
        row.push(error(&last, self.seconds));
        row.push(spread(&objectives));
        row.push(or_dash(self.there(entry)));
        row
    }

    /// When the first method was where another one ends, and in what part of its time.
    fn there(&self, entry: &Entry) -> Option<String> {
        let first = self.entries.first()?;
        if std::ptr::eq(first, entry) {
            return None;
        }
        let [seconds, objective] = entry.goal(self.sample.is_some())?;
        let there = first.reaches(objective)?;
        Some(format!("{there:.1} s ({:.2})", there / seconds))
    }

    /// The label, with the number of runs where some failed.
    fn name(&self, entry: &Entry) -> String {
        let (label, runs) = (&entry.label, entry.runs.len());
        if runs == self.seeds {
            label.clone()
        } else {
            format!("{label} ({runs} of {} runs)", self.seeds)
        }
    }
}

impl fmt::Display for Comparison<'_> {
    /// Steps and errors of each method, its last objective, and when the first method was there, also as a part of its
    /// time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |seconds: &f64| *seconds < self.seconds;
        let listed: Vec<f64> = SECONDS.into_iter().filter(within).collect();
        let at = listed.iter().chain([&self.seconds]);
        let mut header = vec![String::new(), "steps".to_owned(), "ms/step".to_owned()];
        header.extend(at.map(|seconds| format!("{seconds} s")));
        header.extend(["objective", "K-FAC there"].map(str::to_owned));
        let mut table = NumberTable::new(header);
        for entry in self.entries {
            table.add(self.row(entry, &listed));
        }
        writeln!(
            f,
            "training {} nearest to so many seconds of training (and when, where a tenth off), and the objective at \
             the end",
            self.error_name
        )?;
        if self.seeds > 1 {
            let seeds = self.seeds;
            writeln!(
                f,
                "means of {seeds} seeds, ± their standard deviation; for when K-FAC was there medians"
            )?;
        }
        if let Some(sample) = self.sample {
            writeln!(
                f,
                "at the end on all cases; before, and for when K-FAC was where a method came last before its end, on \
                 {sample}"
            )?;
        }
        write!(f, "{table}")
    }
}

/// The mean error with its spread, and when it was found, where that is not at the seconds asked for.
fn error(found: &[(f64, Evaluation)], asked: f64) -> String {
    let errors: Vec<f64> = found.iter().map(|(_, e)| e.train_error).collect();
    let seconds: Vec<f64> = found.iter().map(|(seconds, _)| *seconds).collect();
    let [seconds, _] = mean_and_deviation(&seconds);
    let error = spread(&errors);
    if (seconds - asked).abs() > AT * asked {
        format!("{error} ({seconds:.1} s)")
    } else {
        error
    }
}

/// The mean, and the standard deviation of several.
fn spread(values: &[f64]) -> String {
    let [mean, deviation] = mean_and_deviation(values);
    match values.len() {
        0 => or_dash(None),
        1 => format!("{mean:.4}"),
        _ => format!("{mean:.4} ± {deviation:.4}"),
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::entry::tests::run, *};

    /// Seconds and training objectives of a run.
    type Points = &'static [(f64, f64)];

    fn row(entries: &[(&str, Vec<Points>)], seeds: usize) -> String {
        let entry = |(label, runs): &(&str, Vec<Points>)| Entry {
            label: (*label).to_owned(),
            runs: runs.iter().map(|points| run(points)).collect(),
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        let table = Comparison {
            entries: &entries,
            error_name: "error",
            seconds: 16.0,
            seeds,
            sample: None,
        };
        let text = table.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join("|")
    }

    const FAST: Points = &[(0.0, 9.0), (8.0, 4.0), (16.0, 2.0)];

    #[test]
    fn the_table_tells_when_the_first_was_where_the_others_end() {
        let slow: Points = &[(0.0, 9.0), (9.5, 6.0), (16.0, 4.0)];
        let row = row(&[("fast", vec![FAST]), ("slow", vec![slow])], 1);
        assert_eq!(row, "slow|2|8000.0|3.0000|2.0000|4.0000|8.0 s (0.50)");
    }

    #[test]
    fn an_evaluation_far_from_its_column_tells_its_seconds() {
        let late: Points = &[(0.0, 9.0), (11.5, 6.0), (18.0, 1.0)];
        let row = row(&[("late", vec![late])], 1);
        assert_eq!(
            row,
            "late|2|9000.0|3.0000 (11.5 s)|0.5000 (18.0 s)|1.0000|-"
        );
    }

    #[test]
    fn several_seeds_have_a_mean_and_a_spread_and_failed_ones_are_told() {
        let other: Points = &[(0.0, 9.0), (10.0, 8.0), (16.0, 4.0)];
        let both = row(&[("both", vec![FAST, other])], 2);
        let expected = "both|2|8000.0|3.0000 ± 1.4142|1.5000 ± 0.7071|3.0000 ± 1.4142|-";
        assert_eq!(both, expected);
        assert!(row(&[("one", vec![FAST])], 2).starts_with("one (1 of 2 runs)|2|"));
        assert_eq!(
            row(&[("none", vec![])], 1),
            "none (0 of 1 runs)|-|-|-|-|-|-"
        );
    }
}
