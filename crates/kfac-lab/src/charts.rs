//! The charts of one or several methods.

use std::path::Path;

use anyhow::Result;

use crate::{
    median::mean_and_deviation,
    plot::{Chart, Curve, Emphasis, PlotError},
    train::{Evaluation, StepRecord},
};

/// A method in a chart.
pub struct Plotted<'a> {
    /// Its name in the legend.
    pub label: String,
    /// Whether the chart is about it.
    pub emphasis: Emphasis,
    /// The steps of its runs; several, which differ in their seeds, become their mean with a band from the lowest to
    /// the highest.
    pub runs: &'a [Vec<StepRecord>],
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
pub fn write(folder: &Path, captions: &Captions, methods: &[Plotted<'_>]) -> Result<()> {
    let names = ["training", "test"].map(|of| format!("{of} {}", captions.error_name));
    let quantities: [Quantity<'_>; 4] = [
        ("error", &names[0], |e| Some(e.train_error)),
        ("objective", "training objective", |e| {
            Some(e.train_objective)
        }),
        ("test-error", &names[1], |e| Some(e.test_error)),
        ("test-loss", "test loss", |e| e.test_loss),
    ];
    let in_epochs = methods
        .iter()
        .flat_map(|method| method.runs.iter().flatten())
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
            let point =
                |step: &StepRecord| Some((position(step)?, value(step.evaluation.as_ref()?)?));
            let chart = Chart {
                title: captions.title.clone(),
                subtitle: captions.subtitle.clone(),
                x: axis.to_owned(),
                y: y.to_owned(),
                curves: methods.iter().map(|method| curve(method, point)).collect(),
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

/// The curve of a method: its only run, or the mean of several.
fn curve(method: &Plotted<'_>, point: impl Fn(&StepRecord) -> Option<(f64, f64)>) -> Curve {
    let points = |run: &Vec<StepRecord>| run.iter().filter_map(&point).collect();
    let runs: Vec<Vec<(f64, f64)>> = method.runs.iter().map(points).collect();
    let (points, band) = means(&runs);
    Curve {
        label: method.label.clone(),
        emphasis: method.emphasis,
        points,
        band: if runs.len() > 1 { band } else { Vec::new() },
    }
}

/// The points of a curve, and the lowest and highest values around it.
type Means = (Vec<(f64, f64)>, Vec<(f64, [f64; 2])>);

/// The mean of the first points of all runs, of the second ones and so on, and of the last ones.
fn means(runs: &[Vec<(f64, f64)>]) -> Means {
    let points = runs.iter().map(Vec::len).min().unwrap_or_default();
    let mean = |at: usize| {
        let of = |run: &Vec<(f64, f64)>| match points - at {
            1 => run[run.len() - 1],
            _ => run[at],
        };
        let (xs, ys): (Vec<f64>, Vec<f64>) = runs.iter().map(of).unzip();
        let [[x, _], [y, _]] = [&xs, &ys].map(|values| mean_and_deviation(values));
        let low = ys.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ys.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        ((x, y), (x, [low, high]))
    };
    let whole = |((_, y), _): &((f64, f64), _)| y.is_finite();
    (0..points).map(mean).filter(whole).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_different_lengths_meet_at_start_and_end() {
        let runs = [
            vec![(0.0, 9.0), (1.0, 4.0), (2.0, 3.0), (3.0, 1.0)],
            vec![(0.0, 9.0), (2.0, 6.0), (4.0, 2.0)],
        ];
        let (points, band) = means(&runs);
        assert_eq!(points, [(0.0, 9.0), (1.5, 5.0), (3.5, 1.5)]);
        let expected = [(0.0, [9.0, 9.0]), (1.5, [4.0, 6.0]), (3.5, [1.0, 2.0])];
        assert_eq!(band, expected);
        assert_eq!(means(&[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_mean_that_is_no_number_is_left_out_with_its_band() {
        let runs = [
            vec![(0.0, 9.0), (1.0, f64::NAN)],
            vec![(0.0, 9.0), (1.0, 4.0)],
        ];
        let (points, band) = means(&runs);
        assert_eq!((points.len(), band.len()), (1, 1));
    }
}
