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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emphasis {
    /// What the chart is about: thick, strong colour, on top.
    Main,
    /// What it is compared with: thin, below.
    Baseline,
}

/// The scale of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios; points at or below zero are left out.
    Log,
}

/// A line through points in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name in the legend.
    pub label: String,
    /// Pairs `(x, y)`. Non-finite ones are left out; a single point becomes a dot.
    pub points: Vec<(f64, f64)>,
    /// How strongly it is drawn.
    pub emphasis: Emphasis,
}

/// A chart of one or more curves. The legend appears when there are at least two.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What the chart shows, in a few words.
    pub title: String,
    /// The circumstances: task, seed, device. May be empty.
    pub subtitle: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
    /// The curves, in the order in which colours are given out.
    pub curves: Vec<Curve>,
}

/// Why a chart could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Every point was non-finite, or not positive on a logarithmic axis, or there were none.
    #[error("chart '{title}' is empty: none of its {points} points can be drawn")]
    Empty {
        /// Title of the chart.
        title: String,
        /// Number of points given, over all curves.
        points: usize,
    },
    /// The drawing library failed.
    #[error("chart '{title}' could not be drawn")]
    Draw {
        /// Title of the chart.
        title: String,
        /// What the drawing library said.
        source: DrawingAreaErrorKind<io::Error>,
    },
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
        let svg = self.to_svg()?;
        files::write(path, |file| file.write_all(svg.as_bytes()))?;
        Ok(())
    }

    fn to_svg(&self) -> Result<String, PlotError> {
        let title = || self.title.clone();
        match drawing::svg(self) {
            Ok(Some(svg)) => Ok(svg),
            Ok(None) => {
                let points = self.curves.iter().map(|curve| curve.points.len()).sum();
                Err(PlotError::Empty {
                    title: title(),
                    points,
                })
            }
            Err(source) => Err(PlotError::Draw {
                title: title(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn chart(y_scale: Scale, curves: Vec<Vec<(f64, f64)>>) -> Chart {
        let curve = |(index, points)| Curve {
            label: format!("curve {index}"),
            points,
            emphasis: if index == 0 {
                Emphasis::Main
            } else {
                Emphasis::Baseline
            },
        };
        Chart {
            title: "a < b & c".to_owned(),
            subtitle: String::new(),
            x: "step".to_owned(),
            y: "loss".to_owned(),
            y_scale,
            curves: curves.into_iter().enumerate().map(curve).collect(),
        }
    }

    fn count(svg: &str, tag: &str) -> usize {
        svg.matches(&format!("<{tag} ")).count()
    }

    #[test]
    fn a_chart_shows_its_texts_and_is_a_closed_document_of_the_stated_size() {
        let svg = chart(Scale::Linear, vec![vec![(0.0, 1.0), (1.0, 2.0)]; 2])
            .to_svg()
            .unwrap();
        assert!(
            svg.starts_with(r#"<svg width="900" height="520" "#),
            "{}",
            &svg[..80]
        );
        assert!(svg.contains(r#"viewBox="0 0 3600 2080""#));
        assert!(svg.trim_end().ends_with("</svg>"));
        for text in ["a &lt; b &amp; c", "step", "loss", "curve 0", "curve 1"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn one_curve_needs_no_legend_and_one_point_is_a_dot() {
        let svg = chart(Scale::Log, vec![vec![(3.0, 2.0)]]).to_svg().unwrap();
        assert_eq!((count(&svg, "circle"), svg.contains("curve 0")), (1, false));
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
            let error = chart(Scale::Log, curves).write_svg(&path).unwrap_err();
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
        let chart = chart(Scale::Linear, vec![vec![(0.0, 1.0), (1.0, 2.0)]]);
        chart.write_svg(&path).unwrap();
        chart.write_svg(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), chart.to_svg().unwrap());
        let in_the_way = folder.path().join("folder");
        fs::create_dir(&in_the_way).unwrap();
        assert!(matches!(
            chart.write_svg(&in_the_way),
            Err(PlotError::Write(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn legend_rows_keep_apart_and_inside_however_many() {
        for curves in [2, 9, 60] {
            let drawn = chart(Scale::Linear, vec![vec![(0.0, 1.0), (1.0, 0.0)]; curves]);
            let svg = drawn.to_svg().unwrap();
            let mut rows: Vec<i32> = Vec::new();
            for label in svg.split("<text ").filter(|text| text.contains("\ncurve ")) {
                let y = label
                    .split_once(" y=\"")
                    .unwrap()
                    .1
                    .split_once('"')
                    .unwrap()
                    .0;
                rows.push(y.parse().unwrap());
            }
            assert_eq!(rows.len(), curves);
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
            assert!(rows[0] >= 4 * 56 && rows[curves - 1] <= 4 * 458, "{rows:?}");
        }
    }
}
