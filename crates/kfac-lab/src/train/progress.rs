//! The progress bar; silent where there is no terminal.

use std::cell::Cell;

use indicatif::{ProgressBar, ProgressStyle};

use super::{StepRecord, TrainOptions};

/// Positions of the bar: a thousandth of the run each.
const POSITIONS: u64 = 1000;

pub(super) struct Progress {
    bar: ProgressBar,
    iterations: Option<u64>,
    seconds: Option<f64>,
    error_name: &'static str,
    error: Cell<Option<f64>>,
}

impl Progress {
    pub(super) fn new(options: &TrainOptions) -> Self {
        let bar = ProgressBar::new(POSITIONS);
        let template = "{elapsed_precise} [{bar:30}] {msg} (left: {eta})";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            iterations: options.limit.iterations,
            seconds: options.limit.seconds,
            error_name: options.task.loss.error_name(),
            error: Cell::new(None),
        }
    }

    pub(super) fn update(&self, record: &StepRecord, seconds: f64) {
        if self.bar.is_hidden() {
            return;
        }
        let by_iterations = self.iterations.map(|n| record.iteration as f64 / n as f64);
        let by_seconds = self.seconds.map(|s| seconds / s);
        let done = by_iterations
            .unwrap_or(0.0)
            .max(by_seconds.unwrap_or(0.0))
            .min(1.0);
        self.bar.set_position((done * POSITIONS as f64) as u64);
        if let Some(evaluation) = record.evaluation {
            self.error.set(Some(evaluation.train_error));
        }
        self.bar.set_message(self.message(record));
    }

    fn message(&self, record: &StepRecord) -> String {
        let mut parts = vec![format!("{:>4}", record.iteration)];
        parts.extend(
            record
                .objective
                .map(|objective| format!("loss {objective:.3}")),
        );
        parts.extend(
            self.error
                .get()
                .map(|error| format!("{} {error:.4}", self.error_name)),
        );
        if let Some(kfac) = &record.kfac {
            let (lambda, gamma) = (kfac.lambda.after, kfac.gamma);
            let mu = kfac.mu.unwrap_or(0.0);
            parts.push(format!(
                "λ {lambda:.3}  γ {gamma:.3}  α {:.2}  μ {mu:.2}",
                kfac.alpha
            ));
        }
        parts.join("  ")
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
