//! The charts of one or several runs.

use std::path::Path;

use anyhow::Result;

use crate::{
    plot::{Chart, Curve, Emphasis, PlotError},
    train::{Evaluation, StepRecord},
};

/// A run in a chart.
pub struct Plotted<'a> {
    /// Its name in the legend.
    pub label: String,
    /// Whether the chart is about it.
    pub emphasis: Emphasis,
    /// Its steps.
    pub steps: &'a [StepRecord],
}

/// Title, subtitle and name of the error of the charts.
pub struct Captions {
    /// The title: what was trained.
    pub title: String,
    /// The circumstances.
    pub subtitle: String,
    /// What the error measures.
    pub error_name: &'static str,
}

/// File name, caption and value of a vertical axis.
type Quantity<'a> = (&'a str, &'a str, fn(&Evaluation) -> Option<f64>);

/// Name and position of a horizontal axis.
type Axis = (&'static str, fn(&StepRecord) -> Option<f64>);

/// Writes error and objective of the training cases, and error and loss of the test cases, against iterations or
/// epochs and against seconds, as SVG files; none for a quantity that is zero throughout.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(folder: &Path, captions: &Captions, runs: &[Plotted<'_>]) -> Result<()> {
    let names = ["training", "test"].map(|of| format!("{of} {}", captions.error_name));
    let quantities: [Quantity<'_>; 4] = [
        ("error", &names[0], |e| Some(e.train_error)),
        ("objective", "training objective", |e| {
            Some(e.train_objective)
        }),
        ("test-error", &names[1], |e| Some(e.test_error)),
        ("test-loss", "test loss", |e| e.test_loss),
    ];
    let in_epochs = runs
        .iter()
        .flat_map(|run| run.steps)
        .any(|step| step.epoch.is_some());
    let axes: [Axis; 2] = [
        if in_epochs {
            ("epochs", |step| step.epoch)
        } else {
            ("iterations", |step| Some(step.iteration as f64))
        },
        ("seconds", |step| Some(step.seconds)),
    ];
    for (quantity, y, value) in quantities {
        for (axis, position) in axes {
            let curve = |run: &Plotted<'_>| Curve {
                label: run.label.clone(),
                emphasis: run.emphasis,
                points: run
                    .steps
                    .iter()
                    .filter_map(|step| Some((position(step)?, value(step.evaluation.as_ref()?)?)))
                    .collect(),
            };
            let chart = Chart {
                title: captions.title.clone(),
                subtitle: captions.subtitle.clone(),
                x: axis.to_owned(),
                y: y.to_owned(),
                curves: runs.iter().map(curve).collect(),
            };
            match chart.write_svg(&folder.join(format!("{quantity}-{axis}.svg"))) {
                // An error of zero throughout has no place on a logarithmic axis: no picture.
                Ok(()) | Err(PlotError::Empty { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
