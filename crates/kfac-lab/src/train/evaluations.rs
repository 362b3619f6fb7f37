//! When a run is evaluated, and on which cases.

use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::task::{Rows, TaskData};

/// How often a run is evaluated; the first and last iterate always are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluateEvery {
    /// After every so many iterations.
    Iterations(u64),
    /// After every so many seconds of training.
    Seconds(f64),
}

impl EvaluateEvery {
    pub(super) fn first(self) -> f64 {
        match self {
            Self::Iterations(n) => n as f64,
            Self::Seconds(s) => s,
        }
    }

    /// Whether an evaluation is due; moves `next` on if so.
    pub(super) fn due(self, next: &mut f64, iteration: u64, seconds: f64) -> bool {
        let now = match self {
            Self::Iterations(_) => iteration as f64,
            Self::Seconds(_) => seconds,
        };
        let due = now >= *next;
        while now >= *next {
            *next += self.first();
        }
        due
    }
}

/// The training and test cases of the evaluations between the first and the last, which are on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationCases {
    /// All.
    #[default]
    All,
    /// The same random sample for every run: this part of all, but no fewer than 500.
    Sample(f64),
}

/// The fewest cases of a sample: with 500 an error of a tenth is known to within a seventh of itself.
const FEWEST: usize = 500;

/// Seed of the sample, which is not to depend on that of a run.
const SEED: u64 = 0x5a3b;

impl EvaluationCases {
    /// The largest part that takes no longer than some seconds, where all cases would take `on_all`.
    pub fn within(seconds: f64, on_all: f64) -> Self {
        let part = seconds / on_all;
        if part < 1.0 {
            Self::Sample(part)
        } else {
            Self::All
        }
    }

    /// The numbers of the cases among so many, rising.
    pub fn picked(self, cases: usize) -> Vec<usize> {
        let Self::Sample(part) = self else {
            return (0..cases).collect();
        };
        let size = ((part * cases as f64) as usize).max(FEWEST).min(cases);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut picked = index::sample(&mut random, cases, size).into_vec();
        picked.sort_unstable();
        picked
    }

    /// The data with these cases only; `None` where they are all. Cases that are held out stay as they are.
    pub(super) fn sample(self, data: &TaskData) -> Option<TaskData> {
        let of = |rows: &Rows| rows.picked(&self.picked(rows.len()));
        (self != Self::All).then(|| TaskData {
            description: data.description.clone(),
            train: of(&data.train),
            test: of(&data.test),
            held_out: data.held_out.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_taken_only_where_all_cases_take_too_long() {
        assert_eq!(EvaluationCases::within(6.0, 5.9), EvaluationCases::All);
        assert_eq!(EvaluationCases::within(6.0, 0.0), EvaluationCases::All);
        let sample = EvaluationCases::within(6.0, 24.0);
        assert_eq!(sample, EvaluationCases::Sample(0.25));
        assert_eq!(sample.picked(4000).len(), 1000);
    }

    #[test]
    fn a_sample_is_the_same_every_time_and_has_cases_from_everywhere_once() {
        let sample = EvaluationCases::Sample(0.1);
        let picked = sample.picked(20_000);
        assert_eq!(picked, sample.picked(20_000));
        assert_eq!(picked.len(), 2000);
        assert!(picked.windows(2).all(|pair| pair[0] < pair[1]));
        // A quarter has 500 of them, with a standard deviation of 18.
        for quarter in picked.chunk_by(|a, b| a / 5000 == b / 5000) {
            assert!((400..600).contains(&quarter.len()), "{}", quarter.len());
        }
        assert_eq!(sample.picked(1000).len(), FEWEST);
        assert_eq!(sample.picked(300), (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn the_data_of_a_sample_are_the_cases_with_their_targets() {
        let rows = |cases: usize| Rows {
            inputs: (0..2 * cases).map(|at| at as f32).collect(),
            targets: Some((0..cases).map(|at| at as f32).collect()),
            d_in: 2,
            d_out: 1,
        };
        let data = TaskData {
            description: String::new(),
            train: rows(6000),
            test: rows(100),
            held_out: Some(rows(7)),
        };
        assert!(EvaluationCases::All.sample(&data).is_none());
        let sample = EvaluationCases::Sample(0.5).sample(&data).unwrap();
        let lengths = [sample.train.len(), sample.test.len()];
        assert_eq!(lengths, [3000, 100]);
        assert_eq!(sample.held_out.map(|rows| rows.len()), Some(7));
        let targets = sample.train.targets.unwrap();
        let inputs = sample.train.inputs.chunks(2).map(|row| row[0] / 2.0);
        assert_eq!(inputs.collect::<Vec<_>>(), targets);
    }
}
