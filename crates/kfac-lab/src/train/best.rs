//! The best model of a run, by the cases that were held out.

use serde::{Deserialize, Serialize};

use super::Evaluation;

/// The least error of the held-out cases so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Best {
    error: Option<f64>,
    /// Evaluations since then.
    since: u32,
}

impl Best {
    /// Whether an evaluation is the best so far; none is without held-out cases.
    pub(super) fn improves(&mut self, evaluation: &Evaluation) -> bool {
        let Some(error) = evaluation.held_out_error else {
            return false;
        };
        let better = self.error.is_none_or(|best| error < best);
        if better {
            self.error = Some(error);
            self.since = 0;
        } else {
            self.since += 1;
        }
        better
    }

    /// Evaluations since the best one.
    pub(super) fn since(&self) -> u32 {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lower_error_is_better() {
        let of = |error| Evaluation {
            train_objective: 1.0,
            train_error: 1.0,
            test_error: 1.0,
            test_loss: None,
            held_out_error: error,
        };
        let mut best = Best::default();
        let errors = [0.5, 0.4, 0.4, f64::NAN, 0.3];
        let found = errors.map(|error| (best.improves(&of(Some(error))), best.since()));
        let expected = [(true, 0), (true, 0), (false, 1), (false, 2), (true, 0)];
        assert_eq!(found, expected);
        assert!(!best.improves(&of(None)));
    }
}
