//! Who is how far after how many seconds.

use std::fmt;

use super::Entry;
use crate::{
    median::median,
    text_table::NumberTable,
    train::{Evaluation, StepRecord},
};

/// Seconds at which the errors are listed.
const SECONDS: [f64; 6] = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The runs of a comparison; the first is the one that the others are compared with.
pub struct Comparison<'a> {
    /// The runs.
    pub runs: &'a [Entry],
    /// What the error measures.
    pub error_name: &'a str,
    /// Seconds of each run.
    pub seconds: f64,
}

impl Entry {
    /// The evaluations with the seconds at which they were made.
    fn evaluations(&self) -> impl DoubleEndedIterator<Item = (f64, Evaluation)> {
        let evaluated = |step: &StepRecord| Some((step.seconds, step.evaluation?));
        self.steps.iter().filter_map(evaluated)
    }

    /// The last evaluation up to some seconds.
    fn at(&self, seconds: f64) -> Option<Evaluation> {
        let mut evaluations = self.evaluations();
        evaluations
            .rfind(|(at, _)| *at <= seconds)
            .map(|(_, found)| found)
    }

    /// The seconds after which the training objective was first found no higher.
    fn reaches(&self, objective: f64) -> Option<f64> {
        let mut evaluations = self.evaluations();
        let reached = evaluations.find(|(_, found)| found.train_objective <= objective);
        reached.map(|(seconds, _)| seconds)
    }

    /// The median time of a step, in milliseconds.
    fn median_step(&self) -> f64 {
        let pairs = self.steps.windows(2);
        1e3 * median(pairs.map(|pair| pair[1].seconds - pair[0].seconds))
    }
}

impl fmt::Display for Comparison<'_> {
    /// Steps and errors of each run, its last objective, and when the first run was there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |seconds: &f64| *seconds < self.seconds;
        let listed: Vec<f64> = SECONDS.into_iter().filter(within).collect();
        let at = listed.iter().chain([&self.seconds]);
        let mut header = vec![String::new(), "steps".to_owned(), "ms/step".to_owned()];
        header.extend(at.map(|seconds| format!("{seconds} s")));
        header.extend(["objective", "K-FAC there"].map(str::to_owned));
        let mut table = NumberTable::new(header);
        for run in self.runs {
            let last = run.evaluations().next_back().map(|(_, found)| found);
            let objective = last.map_or(f64::NAN, |found| found.train_objective);
            let there = self.runs.first().and_then(|first| first.reaches(objective));
            let mut row = vec![
                run.label.clone(),
                run.steps.len().saturating_sub(1).to_string(),
                format!("{:.1}", run.median_step()),
            ];
            row.extend(listed.iter().map(|&seconds| error(run.at(seconds))));
            row.push(error(last));
            row.push(format!("{objective:.4}"));
            row.push(there.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s")));
            table.add(row);
        }
        writeln!(
            f,
            "training {} after so many seconds of training, and the objective at the end",
            self.error_name
        )?;
        write!(f, "{table}")
    }
}

fn error(found: Option<Evaluation>) -> String {
    found.map_or("-".to_owned(), |found| format!("{:.4}", found.train_error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(label: &str, points: &[(f64, f64)]) -> Entry {
        let step = |(iteration, &(seconds, objective)): (usize, &(f64, f64))| StepRecord {
            iteration: iteration as u64,
            epoch: None,
            batch_size: 1,
            seconds,
            objective: None,
            evaluation: Some(Evaluation {
                train_objective: objective,
                train_error: objective / 2.0,
                test_error: 0.0,
                test_loss: None,
                held_out_error: None,
            }),
            kfac: None,
            preconditioned: None,
        };
        Entry {
            label: label.to_owned(),
            steps: points.iter().enumerate().map(step).collect(),
        }
    }

    #[test]
    fn a_run_is_where_its_last_evaluation_found_it() {
        let fast = run("fast", &[(0.0, 9.0), (8.0, 4.0), (16.0, 2.0)]);
        assert_eq!(fast.at(10.0).map(|found| found.train_objective), Some(4.0));
        assert_eq!(fast.reaches(3.0), Some(16.0));
        assert_eq!(fast.reaches(1.0), None);
        assert!((fast.median_step() - 8000.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_tells_when_the_first_was_where_the_others_end() {
        let runs = [
            run("fast", &[(0.0, 9.0), (8.0, 4.0), (16.0, 2.0)]),
            run("slow", &[(0.0, 9.0), (8.0, 6.0), (16.0, 4.0)]),
        ];
        let table = Comparison {
            runs: &runs,
            error_name: "error",
            seconds: 16.0,
        };
        let text = table.to_string();
        let slow = text.lines().find(|line| line.starts_with("slow"));
        assert!(slow.is_some_and(|line| line.ends_with("8.0 s")), "{text}");
    }
}
