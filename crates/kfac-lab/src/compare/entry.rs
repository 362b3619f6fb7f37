//! A method that takes part, with its runs.

use crate::{
    median::{mean_and_deviation, median},
    train::{Evaluation, StepRecord},
};

/// A method that takes part.
#[derive(Debug)]
pub struct Entry {
    /// The method.
    pub label: String,
    /// The steps of its runs, one list a seed, the initial point first; none for a run that failed.
    pub runs: Vec<Vec<StepRecord>>,
}

/// The evaluations of a run with the seconds at which they were made.
fn evaluations(run: &[StepRecord]) -> impl DoubleEndedIterator<Item = (f64, Evaluation)> {
    let evaluated = |step: &StepRecord| Some((step.seconds, step.evaluation?));
    run.iter().filter_map(evaluated)
}

/// The mean; `None` of no values.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| mean_and_deviation(values)[0])
}

impl Entry {
    /// The evaluation of each run that is nearest to some seconds, the earlier one of two.
    pub(super) fn nearest(&self, seconds: f64) -> Vec<(f64, Evaluation)> {
        let distance = |(at, _): &(f64, Evaluation)| (at - seconds).abs();
        let nearest = |run: &Vec<StepRecord>| {
            evaluations(run).min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        self.runs.iter().filter_map(nearest).collect()
    }

    /// The last evaluation of each run.
    pub(super) fn last(&self) -> Vec<(f64, Evaluation)> {
        let last = |run: &Vec<StepRecord>| evaluations(run).next_back();
        self.runs.iter().filter_map(last).collect()
    }

    /// Seconds and training objective of the last evaluation on the cases of those before, the last but one where all
    /// but the last are on a sample, in the median over the runs; `None` of no runs.
    pub(super) fn goal(&self, sampled: bool) -> Option<[f64; 2]> {
        let goals = self.runs.iter().filter_map(|run| {
            let comparable = evaluations(run).rev().nth(usize::from(sampled));
            comparable.map(|(seconds, found)| [seconds, found.train_objective])
        });
        let goals: Vec<_> = goals.collect();
        let middle = [0, 1].map(|i| median(goals.iter().map(|goal| goal[i])));
        (!goals.is_empty()).then_some(middle)
    }

    /// The seconds after which the training objective was first found no higher, in the median over the runs;
    /// `None` where too few came there.
    pub(super) fn reaches(&self, objective: f64) -> Option<f64> {
        let reached = |run: &Vec<StepRecord>| {
            let found = evaluations(run).find(|(_, found)| found.train_objective <= objective);
            found.map_or(f64::INFINITY, |(seconds, _)| seconds)
        };
        let middle = median(self.runs.iter().map(reached));
        middle.is_finite().then_some(middle)
    }

    /// The steps of a run, in the mean.
    pub(super) fn steps(&self) -> Option<f64> {
        let steps = |run: &Vec<StepRecord>| run.len().saturating_sub(1) as f64;
        mean(&self.runs.iter().map(steps).collect::<Vec<_>>())
    }

    /// The median time of a step, in milliseconds, in the mean over the runs.
    pub(super) fn median_step(&self) -> Option<f64> {
        let times = |run: &Vec<StepRecord>| {
            let pairs = run.windows(2);
            1e3 * median(pairs.map(|pair| pair[1].seconds - pair[0].seconds))
        };
        mean(&self.runs.iter().map(times).collect::<Vec<_>>())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run with the seconds and training objectives of its evaluations; the errors are half as large.
    pub(in crate::compare) fn run(points: &[(f64, f64)]) -> Vec<StepRecord> {
        let step = |(iteration, &(seconds, objective)): (usize, &(f64, f64))| StepRecord {
            iteration: iteration as u64,
            batch_size: 1,
            seconds,
            evaluation: Some(Evaluation {
                train_objective: objective,
                train_error: objective / 2.0,
                test_error: 0.0,
                test_loss: None,
                held_out_error: None,
            }),
            ..StepRecord::default()
        };
        points.iter().enumerate().map(step).collect()
    }

    fn entry(runs: Vec<Vec<StepRecord>>) -> Entry {
        Entry {
            label: "method".to_owned(),
            runs,
        }
    }

    #[test]
    fn a_run_is_where_its_nearest_evaluation_found_it() {
        let entry = entry(vec![run(&[
            (0.0, 9.0),
            (8.0, 4.0),
            (12.0, 3.0),
            (16.0, 2.0),
        ])]);
        let nearest = |seconds| {
            let found = entry.nearest(seconds);
            found.iter().map(|(at, _)| *at).collect::<Vec<_>>()
        };
        assert_eq!(nearest(9.0), [8.0]);
        assert_eq!(nearest(11.0), [12.0]);
        assert_eq!(nearest(10.0), [8.0]);
        assert_eq!(nearest(3.9), [0.0]);
        assert_eq!(nearest(99.0), [16.0]);
    }

    #[test]
    fn several_runs_are_told_by_means_and_medians() {
        let slow = run(&[(0.0, 9.0), (16.0, 4.0), (32.0, 2.0)]);
        let both = entry(vec![run(&[(0.0, 9.0), (8.0, 4.0), (16.0, 2.0)]), slow]);
        assert_eq!(both.reaches(3.0), Some(24.0));
        assert_eq!(both.reaches(1.0), None);
        assert_eq!(both.goal(false), Some([24.0, 2.0]));
        assert_eq!(both.goal(true), Some([12.0, 4.0]));
        assert_eq!(both.steps(), Some(2.0));
        assert_eq!(both.median_step(), Some(12_000.0));
        assert_eq!(both.last().len(), 2);
        let none = entry(Vec::new());
        assert_eq!((none.reaches(9.0), none.median_step()), (None, None));
        assert_eq!(none.goal(false), None);
    }
}
