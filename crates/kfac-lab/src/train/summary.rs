//! What a run prints when it ends.

use std::fmt;

use kfac::StepOutcome;

use super::{Evaluation, StepRecord, TrainOptions};
use crate::{task::TaskData, text_table::NumberTable};

/// The result of a run in a few lines.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The method and its telling settings.
    pub method: String,
    /// One line about the data.
    pub data: String,
    /// What the error measures.
    pub error_name: &'static str,
    /// Number of iterations.
    pub iterations: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// The initial point.
    pub first: Option<Evaluation>,
    /// The final iterate.
    pub last: Option<Evaluation>,
    /// The average of the iterates.
    pub average: Option<Evaluation>,
    /// K-FAC: λ and γ at the end.
    pub damping: Option<(f64, f64)>,
    /// K-FAC: rejected steps and repaired factors.
    pub troubles: (usize, usize),
}

impl Summary {
    pub(super) fn new(
        options: &TrainOptions,
        data: &TaskData,
        steps: &[StepRecord],
        average: Option<Evaluation>,
    ) -> Self {
        let last = steps.last();
        let reports = || steps.iter().filter_map(|step| step.kfac.as_ref());
        let rejected = reports()
            .filter(|r| r.outcome == StepOutcome::Rejected)
            .count();
        Self {
            method: options.method.label(),
            data: data.description.clone(),
            error_name: options.task.loss.error_name(),
            iterations: last.map_or(0, |step| step.iteration),
            seconds: last.map_or(0.0, |step| step.seconds),
            first: steps.first().and_then(|step| step.evaluation),
            last: last.and_then(|step| step.evaluation),
            average,
            damping: reports()
                .next_back()
                .map(|report| (report.lambda.after, report.gamma)),
            troubles: (rejected, reports().map(|report| report.repairs.len()).sum()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.method, self.data)?;
        let per_step = 1000.0 * self.seconds / self.iterations.max(1) as f64;
        writeln!(
            f,
            "{} iterations in {:.1} s of training ({per_step:.0} ms each)",
            self.iterations, self.seconds
        )?;
        let mut table = NumberTable::new(["", "objective", "training", "test"]);
        let rows = [
            ("at the start", self.first),
            ("at the end", self.last),
            ("averaged iterate", self.average),
        ];
        for (name, evaluation) in rows {
            if let Some(e) = evaluation {
                let numbers = [e.train_objective, e.train_error, e.test_error];
                table.add(
                    [name.to_owned()]
                        .into_iter()
                        .chain(numbers.map(|x| format!("{x:.5}"))),
                );
            }
        }
        write!(f, "{table}")?;
        writeln!(f, "(training, test: mean {} a case)", self.error_name)?;
        if let Some((lambda, gamma)) = self.damping {
            writeln!(f, "final damping: λ {lambda:.2e}, γ {gamma:.2e}")?;
        }
        let (rejected, repairs) = self.troubles;
        if rejected + repairs > 0 {
            writeln!(
                f,
                "{rejected} steps rejected, {repairs} factors repaired: see steps.jsonl"
            )?;
        }
        Ok(())
    }
}
