//! Optimizers with several settings and seeds each, on the same epochs: who reaches which accuracy when.

use std::fmt;

use serde::Serialize;

use crate::{
    median::mean_and_deviation,
    text_table::NumberTable,
    train::{Evaluation, StepRecord},
};

/// An optimizer with one of its settings, and its runs.
#[derive(Debug, Serialize)]
pub struct Setting {
    /// The optimizer as it is typed.
    pub optimizer: String,
    /// The optimizer with what tells it from others.
    pub label: String,
    /// Whether K-FAC has a part in it.
    pub own: bool,
    /// Epochs of its runs.
    pub epochs: u64,
    /// The evaluations of its runs, one list a seed, the start first; empty for a run that ended with an error.
    pub runs: Vec<Vec<StepRecord>>,
}

/// The means over the seeds at one evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mean {
    epoch: f64,
    seconds: f64,
    accuracy: f64,
    loss: f64,
}

/// All settings of a comparison.
#[derive(Debug, Serialize)]
pub struct Sweep {
    /// The settings, those of an optimizer one after another.
    pub settings: Vec<Setting>,
}

impl Setting {
    /// Whether all runs went to their end, with finite numbers.
    fn is_whole(&self) -> bool {
        let finite = |run: &Vec<StepRecord>| {
            let last = run.last().and_then(|step| step.evaluation);
            last.is_some_and(|last| last.train_objective.is_finite())
        };
        !self.runs.is_empty() && self.runs.iter().all(finite)
    }

    /// The curve of means over the seeds, the start left out; empty where a run did not go to its end.
    fn curve(&self) -> Vec<Mean> {
        if !self.is_whole() {
            return Vec::new();
        }
        let points = self.runs.iter().map(Vec::len).min().unwrap_or_default();
        (1..points).map(|at| self.mean(at)).collect()
    }

    fn mean(&self, at: usize) -> Mean {
        let mean = |value: &dyn Fn(&StepRecord) -> f64| {
            let values = self.runs.iter().map(|run| value(&run[at]));
            values.sum::<f64>() / self.runs.len() as f64
        };
        let of = |value: fn(Evaluation) -> f64| {
            mean(&move |step| step.evaluation.map_or(f64::NAN, value))
        };
        Mean {
            epoch: mean(&|step| step.epoch.unwrap_or_default()),
            seconds: mean(&|step| step.seconds),
            accuracy: 1.0 - of(|e| e.test_error),
            loss: of(|e| e.train_objective),
        }
    }

    /// The mean accuracy at the end, and its standard deviation over the seeds.
    fn accuracy(&self) -> Option<(f64, f64)> {
        self.curve().last()?;
        let last = |run: &Vec<StepRecord>| run.last().and_then(|step| step.evaluation);
        let accuracies = self.runs.iter().filter_map(last);
        let accuracies: Vec<f64> = accuracies.map(|last| 1.0 - last.test_error).collect();
        let [mean, deviation] = mean_and_deviation(&accuracies);
        Some((mean, deviation))
    }

    /// When the mean accuracy first was no lower than a target.
    fn reaches(&self, target: f64) -> Option<Mean> {
        self.curve()
            .into_iter()
            .find(|mean| mean.accuracy >= target)
    }

    /// The means as the steps of one run, for a picture.
    pub fn steps(&self) -> Vec<StepRecord> {
        let means = self.curve().into_iter();
        means
            .map(|mean| StepRecord {
                epoch: Some(mean.epoch),
                seconds: mean.seconds,
                evaluation: Some(Evaluation {
                    train_objective: mean.loss,
                    train_error: f64::NAN,
                    test_error: 1.0 - mean.accuracy,
                    test_loss: None,
                    held_out_error: None,
                }),
                ..StepRecord::default()
            })
            .collect()
    }
}

impl Sweep {
    /// The best setting of each optimizer, by its mean accuracy at the end, in the order of the optimizers.
    pub fn best(&self) -> Vec<&Setting> {
        let mut best: Vec<&Setting> = Vec::new();
        for setting in &self.settings {
            let same = |other: &&mut &Setting| {
                (&other.optimizer, other.epochs) == (&setting.optimizer, setting.epochs)
            };
            match best.iter_mut().find(same) {
                None => best.push(setting),
                Some(other) if setting.accuracy().map(|a| a.0) > other.accuracy().map(|a| a.0) => {
                    *other = setting;
                }
                Some(_) => {}
            }
        }
        best
    }

    /// The best accuracy of those that K-FAC has no part in.
    fn target(&self) -> Option<f64> {
        let rivals = self.settings.iter().filter(|setting| !setting.own);
        let reached = rivals.filter_map(|rival| Some(rival.accuracy()?.0));
        reached.max_by(f64::total_cmp)
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target();
        let header = [
            "best of its settings",
            "epochs",
            "test accuracy",
            "±",
            "training objective",
            "seconds",
            "epochs to the target",
            "seconds to it",
        ];
        let mut table = NumberTable::new(header);
        for setting in self.best() {
            table.add(row(setting, target));
        }
        if let Some(accuracy) = target {
            writeln!(
                f,
                "target: the best test accuracy without K-FAC, {accuracy:.4}; means over the seeds, ± their standard \
                 deviation"
            )?;
        }
        writeln!(f, "{table}")?;
        let mut all = NumberTable::new(["all settings", "epochs", "test accuracy", "±"]);
        for setting in &self.settings {
            let mut cells = vec![setting.label.clone(), setting.epochs.to_string()];
            cells.extend(accuracy_cells(setting));
            all.add(cells);
        }
        write!(f, "{all}")
    }
}

fn accuracy_cells(setting: &Setting) -> [String; 2] {
    match setting.accuracy() {
        Some((mean, deviation)) => [format!("{mean:.4}"), format!("{deviation:.4}")],
        None => ["diverged".to_owned(), String::new()],
    }
}

fn row(setting: &Setting, target: Option<f64>) -> Vec<String> {
    let last = setting.curve().last().copied();
    let reached = target.and_then(|target| setting.reaches(target));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![setting.label.clone(), setting.epochs.to_string()];
    cells.extend(accuracy_cells(setting));
    cells.extend([
        or_dash(last.map(|last| format!("{:.4}", last.loss))),
        or_dash(last.map(|last| format!("{:.1}", last.seconds))),
        or_dash(reached.map(|mean| format!("{:.1}", mean.epoch))),
        or_dash(reached.map(|mean| format!("{:.1}", mean.seconds))),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(optimizer: &str, label: &str, runs: &[&[f64]]) -> Setting {
        let run = |accuracies: &&[f64]| {
            let step = |(at, accuracy): (usize, &f64)| StepRecord {
                seconds: 2.0 * at as f64,
                evaluation: Some(Evaluation {
                    train_objective: 1.0,
                    train_error: 0.0,
                    test_error: 1.0 - accuracy,
                    test_loss: None,
                    held_out_error: None,
                }),
                epoch: Some(at as f64),
                ..StepRecord::default()
            };
            accuracies.iter().enumerate().map(step).collect()
        };
        Setting {
            optimizer: optimizer.to_owned(),
            label: label.to_owned(),
            own: optimizer == "own",
            epochs: 3,
            runs: runs.iter().map(run).collect(),
        }
    }

    #[test]
    fn the_best_setting_of_each_is_told_with_when_it_reached_the_target() {
        let sweep = Sweep {
            settings: vec![
                setting(
                    "sgd",
                    "sgd 1",
                    &[&[0.1, 0.5, 0.6, 0.7], &[0.1, 0.5, 0.6, 0.9]],
                ),
                setting(
                    "sgd",
                    "sgd 2",
                    &[&[0.1, 0.2, 0.3, 0.4], &[0.1, 0.2, 0.3, 0.4]],
                ),
                setting(
                    "own",
                    "own 1",
                    &[&[0.1, 0.7, 0.8, 0.9], &[0.1, 0.7, 0.9, 0.9]],
                ),
                setting("own", "own 2", &[&[0.1, 0.7, 0.8, 0.99], &[]]),
            ],
        };
        let best: Vec<_> = sweep.best().iter().map(|s| s.label.clone()).collect();
        assert_eq!(best, ["sgd 1", "own 1"]);
        let target = sweep.target().unwrap();
        let epochs = sweep.settings[0].steps().into_iter().map(|step| step.epoch);
        assert_eq!(
            epochs.collect::<Vec<_>>(),
            [Some(1.0), Some(2.0), Some(3.0)]
        );
        assert!((target - 0.8).abs() < 1e-12);
        let reached = sweep.settings[2].reaches(target).unwrap();
        assert!((reached.epoch - 2.0).abs() < 1e-12 && (reached.seconds - 4.0).abs() < 1e-12);
        let (_, deviation) = sweep.settings[0].accuracy().unwrap();
        assert!((deviation - 0.02f64.sqrt()).abs() < 1e-12);
        let text = sweep.to_string();
        assert!(
            text.contains("diverged") && text.contains("0.8000"),
            "{text}"
        );
    }
}
