//! Line charts as SVG files: the curves of one run, or several runs compared.

mod axis;
mod drawing;

use std::{
    io::{self, Write},
    path::Path,
};

use plotters::drawing::DrawingAreaErrorKind;

use crate::files::{self, WriteError};

/// How strongly a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emphasis {
    /// What the chart's subject is compared with: thin, below.
    Baseline,
    /// What the chart is about: thick, on top.
    Main,
}

/// A line through points in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name in the legend.
    pub label: String,
    /// Pairs `(x, y)`. Non-finite ones and those with no positive y are left out; a single point
    /// becomes a dot.
    pub points: Vec<(f64, f64)>,
    /// Places `x` with the lowest and the highest value there, for a band behind the line; none for no band.
    pub band: Vec<(f64, [f64; 2])>,
    /// How strongly it is drawn.
    pub emphasis: Emphasis,
}

/// A chart of one or more curves over a logarithmic vertical axis. The legend appears when there are
/// at least two.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What the chart shows, in a few words.
    pub title: String,
    /// The circumstances: task, seed, device.
    pub subtitle: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// The curves, in the order in which colours are given out.
    pub curves: Vec<Curve>,
}

/// Why a chart could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// No point has a place on the axes, or there is none.
    #[error("chart '{title}' is empty: none of its {points} points can be drawn")]
    Empty {
        /// Title of the chart.
        title: String,
        /// Number of points given, over all curves.
        points: usize,
    },
    /// The drawing library failed.
    #[error("the chart could not be drawn")]
    Draw(#[from] DrawingAreaErrorKind<io::Error>),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Chart {
    /// Writes the chart as an SVG file, replacing an older one; a failure leaves the older one.
    ///
    /// # Errors
    /// [`PlotError::Empty`] when no point can be drawn, [`PlotError::Write`] when the file cannot
    /// be written (its folder must exist), [`PlotError::Draw`] when drawing fails.
    pub fn write_svg(&self, path: &Path) -> Result<(), PlotError> {
        let svg = drawing::svg(self)?;
        files::write(path, |file| file.write_all(svg.as_bytes()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn chart(curves: Vec<Vec<(f64, f64)>>) -> Chart {
        let curve = |(index, points)| Curve {
            label: format!("curve {index}"),
            points,
            band: Vec::new(),
            emphasis: if index == 0 {
                Emphasis::Main
            } else {
                Emphasis::Baseline
            },
        };
        Chart {
            title: "a < b & c".to_owned(),
            subtitle: "seed 1".to_owned(),
            x: "step".to_owned(),
            y: "loss".to_owned(),
            curves: curves.into_iter().enumerate().map(curve).collect(),
        }
    }

    fn svg(curves: Vec<Vec<(f64, f64)>>) -> String {
        drawing::svg(&chart(curves)).unwrap()
    }

    #[test]
    fn a_chart_shows_its_texts_and_is_a_closed_document_of_the_stated_size() {
        let svg = svg(vec![vec![(0.0, 1.0), (1.0, 2.0)]; 2]);
        assert!(svg.starts_with(r#"<svg width="900" height="520" "#));
        assert!(svg.contains(r#"viewBox="0 0 3600 2080""#));
        assert!(svg.trim_end().ends_with("</svg>"));
        for text in [
            "a &lt; b &amp; c",
            "seed 1",
            "step",
            "loss",
            "curve 0",
            "curve 1",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn one_curve_needs_no_legend_and_one_point_is_a_dot() {
        let dots = |svg: &str| svg.matches("<circle ").count();
        let one = svg(vec![vec![(3.0, 2.0)]]);
        assert_eq!((dots(&one), one.contains("curve 0")), (1, false));
        assert_eq!(dots(&svg(vec![vec![(3.0, 2.0), (4.0, 2.0)]])), 0);
    }

    #[test]
    fn a_band_is_an_area_that_the_axes_have_room_for() {
        let mut chart = chart(vec![vec![(0.0, 2.0), (1.0, 3.0)]]);
        let areas = |chart: &Chart| drawing::svg(chart).unwrap().matches("<polygon ").count();
        assert_eq!(areas(&chart), 0);
        let narrow = drawing::svg(&chart).unwrap();
        let label = "\n50\n";
        chart.curves[0].band = vec![(0.0, [1.0, 4.0]), (1.0, [2.0, 90.0])];
        assert_eq!(areas(&chart), 1);
        let wide = drawing::svg(&chart).unwrap();
        assert!(!narrow.contains(label) && wide.contains(label));
        chart.curves[0].band.pop();
        assert_eq!(areas(&chart), 0);
    }

    #[test]
    fn the_main_curve_is_drawn_last_and_the_legend_has_the_others_as_they_end() {
        let svg = svg(vec![
            vec![(0.0, 9.0), (1.0, 1.0)],
            vec![(0.0, 9.0), (1.0, 4.0)],
            vec![(0.0, 9.0), (1.0, 5.0)],
        ]);
        let place = |label: &str| svg.find(label).unwrap();
        assert!(place("curve 2") < place("curve 1") && place("curve 1") < place("curve 0"));
    }

    #[test]
    fn nothing_to_draw_is_an_error_and_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        fs::write(&path, "older").unwrap();
        for curves in [
            vec![],
            vec![vec![]],
            vec![vec![(0.0, 0.0), (1.0, f64::NAN)]],
        ] {
            let points = curves.iter().map(Vec::len).sum::<usize>();
            let error = chart(curves).write_svg(&path).unwrap_err();
            assert!(
                matches!(error, PlotError::Empty { points: n, .. } if n == points),
                "{error}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "older");
    }

    #[test]
    fn writing_replaces_the_file_and_failing_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        let chart = chart(vec![vec![(0.0, 1.0), (1.0, 2.0)]]);
        chart.write_svg(&path).unwrap();
        chart.write_svg(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            drawing::svg(&chart).unwrap()
        );
        let in_the_way = folder.path().join("folder");
        fs::create_dir(&in_the_way).unwrap();
        assert!(matches!(
            chart.write_svg(&in_the_way),
            Err(PlotError::Write(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
