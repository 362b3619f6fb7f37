//! How often the runs of a comparison are evaluated, and on how many cases.

use crate::{task::TaskData, train::EvaluationCases};

/// The part of the training that the evaluations between start and end may take.
const SHARE: f64 = 0.1;

/// How the runs of a comparison are evaluated: all in the same way.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationPlan {
    /// Seconds of training of a run.
    pub seconds: f64,
    /// Evaluations of a run after its start.
    pub evaluations: u16,
    /// Seconds that one on all cases takes.
    pub on_all: f64,
}

impl EvaluationPlan {
    /// Seconds of training between them.
    pub fn every(self) -> f64 {
        self.seconds / f64::from(self.evaluations)
    }

    /// The cases of those between start and end: all, unless they would take longer than a tenth of the training.
    pub fn cases(self) -> EvaluationCases {
        EvaluationCases::within(SHARE * self.seconds, self.between_on_all())
    }

    /// Seconds that those between start and end would take on all cases.
    fn between_on_all(self) -> f64 {
        f64::from(self.evaluations - 1) * self.on_all
    }

    /// Seconds that the evaluations of a run take, about.
    pub fn overhead(self) -> f64 {
        2.0 * self.on_all + self.between_on_all().min(SHARE * self.seconds)
    }

    /// On how many cases runs are evaluated between start and end; `None` where on all.
    pub fn sample(self, data: &TaskData) -> Option<String> {
        let cases = self.cases();
        let of = |all: usize| format!("{} of {all}", cases.picked(all).len());
        let [train, test] = [&data.train, &data.test].map(|rows| of(rows.len()));
        (cases != EvaluationCases::All).then(|| format!("{train} training and {test} test cases"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seconds: f64, evaluations: u16) -> EvaluationPlan {
        EvaluationPlan {
            seconds,
            evaluations,
            on_all: 2.0,
        }
    }

    #[test]
    fn evaluations_between_start_and_end_take_a_tenth_of_the_training_at_most() {
        assert_eq!(plan(600.0, 31).cases(), EvaluationCases::All);
        assert_eq!(plan(600.0, 61).cases(), EvaluationCases::Sample(0.5));
        assert_eq!(plan(0.5, 1).cases(), EvaluationCases::All);
        assert!((plan(600.0, 11).overhead() - 24.0).abs() < 1e-9);
        assert!((plan(600.0, 61).overhead() - 64.0).abs() < 1e-9);
    }
}
