//! Places and draws the parts of a chart.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::{Chart, Emphasis, Scale};

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = DrawingAreaErrorKind<io::Error>;

/// The size a viewer shows, in pixels.
const SHOWN: (u32, u32) = (900, 520);
/// Plotters rounds coordinates to whole pixels. Drawing on a canvas this many times finer than the
/// size shown keeps curves smooth.
const FINENESS: u32 = 4;
/// Font sizes.
const LARGE: f64 = 18.0;
const SMALL: f64 = 13.0;
const MAX_POINTS: usize = 2000;
/// Larger magnitudes are left out, and their reciprocals on a logarithmic axis: the length of an
/// axis reaching further, or its ticks, could overflow.
const MAX_MAGNITUDE: f64 = 1e300;

/// Blue, black, purple of Okabe and Ito's palette, which colour-blind readers can tell apart.
const MAIN: [RGBColor; 3] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 0, 0),
    RGBColor(204, 121, 167),
];
/// Vermilion, orange, green and sky blue of the same palette, and a grey.
const BASELINE: [RGBColor; 5] = [
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(140, 140, 140),
];
const TEXT: RGBColor = RGBColor(34, 34, 34);
const QUIET_TEXT: RGBColor = RGBColor(95, 95, 95);
const GRID: RGBColor = RGBColor(228, 228, 228);
const AXIS: RGBColor = RGBColor(130, 130, 130);

/// The chart as an SVG document, or `None` when it has no point that can be drawn.
pub(super) fn svg(chart: &Chart) -> Result<Option<String>, DrawError> {
    let lines = lines(chart);
    let Some(frame) = Frame::around(chart, &lines) else {
        return Ok(None);
    };
    let (width, height) = (SHOWN.0 * FINENESS, SHOWN.1 * FINENESS);
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        canvas.fill(&WHITE)?;
        draw_texts(chart, &canvas, &frame)?;
        frame.draw(&canvas)?;
        for line in &lines {
            let path = line.points.iter().map(|&point| frame.at(point));
            line.draw(&canvas, path.collect())?;
        }
        if lines.len() > 1 {
            draw_legend(&canvas, &frame, &lines)?;
        }
        canvas.present()?;
    }
    let drawn = format!(r#"width="{width}" height="{height}""#);
    let shown = format!(
        r#"width="{}" height="{}" stroke-linejoin="round" stroke-linecap="round""#,
        SHOWN.0, SHOWN.1
    );
    Ok(Some(svg.replacen(&drawn, &shown, 1)))
}

/// The curves that have points, in the order of drawing: those to stand out last, on top.
fn lines(chart: &Chart) -> Vec<Line> {
    let (mut mains, mut baselines) = (MAIN.iter().cycle(), BASELINE.iter().cycle());
    let mut lines = Vec::new();
    for curve in &chart.curves {
        let (color, width) = match curve.emphasis {
            Emphasis::Main => (mains.next(), 3.2),
            Emphasis::Baseline => (baselines.next(), 1.8),
        };
        let points = drawable(&curve.points, chart.y_scale);
        if let (Some(color), Some(&last)) = (color, points.last()) {
            lines.push(Line {
                label: fit(&curve.label, 210.0, SMALL),
                points,
                final_y: last.1,
                style: color.stroke_width(px(width).unsigned_abs()),
                emphasis: curve.emphasis,
            });
        }
    }
    lines.sort_by_key(|line| line.emphasis == Emphasis::Main);
    lines
}

fn draw_texts(chart: &Chart, canvas: &Canvas, frame: &Frame) -> Result<(), DrawError> {
    let (left, bottom) = (px(20.0), px(f64::from(SHOWN.1) - 10.0));
    let width = f64::from(SHOWN.0) - 40.0;
    let mut style = text(LARGE, TEXT, HPos::Left, VPos::Top);
    style.font = style.font.style(FontStyle::Bold);
    let title = fit(&chart.title, width, LARGE);
    canvas.draw_text(&title, &style, (left, px(16.0)))?;
    let style = text(SMALL, QUIET_TEXT, HPos::Left, VPos::Top);
    let subtitle = fit(&chart.subtitle, width, SMALL);
    canvas.draw_text(&subtitle, &style, (left, px(43.0)))?;

    let style = text(SMALL, TEXT, HPos::Center, VPos::Bottom);
    let middle = i32::midpoint(frame.left, frame.right);
    let name = fit(&chart.x, width, SMALL);
    canvas.draw_text(&name, &style, (middle, bottom))?;
    let style = text(SMALL, TEXT, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    let middle = i32::midpoint(frame.top, frame.bottom);
    let name = fit(&chart.y, 400.0, SMALL);
    canvas.draw_text(&name, &style, (px(16.0), middle))
}

/// Labels stand in the right margin, each as near as possible to the height where its curve ends.
fn draw_legend(canvas: &Canvas, frame: &Frame, lines: &[Line]) -> Result<(), DrawError> {
    let mut rows: Vec<_> = lines
        .iter()
        .map(|line| (frame.row(line.final_y), line))
        .collect();
    rows.sort_by_key(|row| row.0);
    let even = f64::from(frame.bottom - frame.top) / rows.len() as f64;
    let gap = px(20.0).min(even as i32);
    let mut highest = frame.top;
    for (y, _) in &mut rows {
        *y = (*y).max(highest);
        highest = *y + gap;
    }
    let mut lowest = frame.bottom;
    for (y, _) in rows.iter_mut().rev() {
        *y = (*y).min(lowest);
        lowest = *y - gap;
    }
    let left = frame.right + px(12.0);
    for (y, line) in rows {
        let sample = match line.points.len() {
            1 => vec![(left + px(10.0), y)],
            _ => vec![(left, y), (left + px(20.0), y)],
        };
        line.draw(canvas, sample)?;
        let mut style = text(SMALL, TEXT, HPos::Left, VPos::Center);
        if line.emphasis == Emphasis::Main {
            style.font = style.font.style(FontStyle::Bold);
        }
        canvas.draw_text(&line.label, &style, (left + px(28.0), y))?;
    }
    Ok(())
}

/// A curve as drawn.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
    final_y: f64,
    style: ShapeStyle,
    emphasis: Emphasis,
}

impl Line {
    fn draw(&self, canvas: &Canvas, path: Vec<(i32, i32)>) -> Result<(), DrawError> {
        if let [dot] = path[..] {
            let radius = self.style.stroke_width * 3 / 2;
            return canvas.draw(&Circle::new(dot, radius, self.style.filled()));
        }
        canvas.draw(&PathElement::new(path, self.style))
    }
}

/// The rectangle that the curves share, in canvas pixels, and its axes.
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    x: Axis,
    y: Axis,
}

impl Frame {
    fn around(chart: &Chart, lines: &[Line]) -> Option<Self> {
        let points = || lines.iter().flat_map(|line| &line.points);
        let x = Axis::around(points().map(|point| point.0), Scale::Linear, 0.0)?;
        let y = Axis::around(points().map(|point| point.1), chart.y_scale, 0.04)?;
        let header = if chart.subtitle.is_empty() {
            56.0
        } else {
            78.0
        };
        let margin = match lines.len() {
            1 => 42.0,
            _ => 64.0 + widest(lines.iter().map(|line| line.label.as_str())),
        };
        Some(Self {
            left: px(52.0 + widest(y.ticks().iter().map(|tick| tick.1.as_str()))),
            right: px(f64::from(SHOWN.0) - margin),
            top: px(header),
            bottom: px(f64::from(SHOWN.1) - 62.0),
            x,
            y,
        })
    }

    fn column(&self, x: f64) -> i32 {
        self.left + (f64::from(self.right - self.left) * self.x.position(x)).round() as i32
    }

    fn row(&self, y: f64) -> i32 {
        self.bottom - (f64::from(self.bottom - self.top) * self.y.position(y)).round() as i32
    }

    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (self.column(x), self.row(y))
    }

    fn draw(&self, canvas: &Canvas) -> Result<(), DrawError> {
        let grid = GRID.stroke_width(px(1.0).unsigned_abs());
        let below = text(SMALL, QUIET_TEXT, HPos::Center, VPos::Top);
        for (value, label) in self.x.ticks() {
            let x = self.column(value);
            canvas.draw(&PathElement::new([(x, self.top), (x, self.bottom)], grid))?;
            canvas.draw_text(&label, &below, (x, self.bottom + px(8.0)))?;
        }
        let beside = text(SMALL, QUIET_TEXT, HPos::Right, VPos::Center);
        for (value, label) in self.y.ticks() {
            let y = self.row(value);
            canvas.draw(&PathElement::new([(self.left, y), (self.right, y)], grid))?;
            canvas.draw_text(&label, &beside, (self.left - px(8.0), y))?;
        }
        let corner = [
            (self.left, self.top),
            (self.left, self.bottom),
            (self.right, self.bottom),
        ];
        let axes = AXIS.stroke_width(px(1.0).unsigned_abs());
        canvas.draw(&PathElement::new(corner, axes))
    }
}

/// The points that the scale can show, at most [`MAX_POINTS`]. Of a longer curve the first and last
/// are kept, and between them the lowest and highest of each of equally long stretches, so that
/// spikes stay.
fn drawable(points: &[(f64, f64)], y_scale: Scale) -> Vec<(f64, f64)> {
    let shown = |&(x, y): &(f64, f64)| {
        x.abs() <= MAX_MAGNITUDE
            && y.abs() <= MAX_MAGNITUDE
            && (y_scale == Scale::Linear || y >= 1.0 / MAX_MAGNITUDE)
    };
    let points: Vec<_> = points.iter().copied().filter(shown).collect();
    let [first, inner @ .., last] = points.as_slice() else {
        return points;
    };
    if points.len() <= MAX_POINTS {
        return points;
    }
    let mut thinned = vec![*first];
    for stretch in inner.chunks(inner.len().div_ceil(MAX_POINTS / 2 - 1)) {
        let indices = || 0..stretch.len();
        let height = |a: &usize, b: &usize| stretch[*a].1.total_cmp(&stretch[*b].1);
        if let (Some(low), Some(high)) = (indices().min_by(height), indices().max_by(height)) {
            thinned.extend([stretch[low.min(high)], stretch[low.max(high)]]);
        }
    }
    thinned.push(*last);
    thinned
}

fn px(shown: f64) -> i32 {
    (shown * f64::from(FINENESS)).round() as i32
}

fn text(size: f64, color: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    // The SVG backend of plotters divides font sizes by 1.24.
    let font = ("sans-serif", 1.24 * size * f64::from(FINENESS)).into_font();
    font.color(&color).pos(Pos::new(horizontal, vertical))
}

/// An upper estimate: no font is at hand to measure with, and the viewer's is not known.
fn text_width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().count() as f64
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts
        .map(|text| text_width(text, SMALL))
        .fold(0.0, f64::max)
}

/// The text, cut to the width if need be, without characters that XML forbids.
fn fit(text: &str, width: f64, size: f64) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let most = (width / text_width("x", size)) as usize;
    if text.chars().count() <= most {
        return text;
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_cannot_be_drawn_are_left_out() {
        let points = [
            (0.0, f64::NAN),
            (1.0, f64::INFINITY),
            (f64::NAN, 1.0),
            (2.0, f64::MAX),
            (3.0, 0.0),
            (4.0, -1.0),
            (5.0, 1.0),
        ];
        assert_eq!(drawable(&points, Scale::Linear), points[4..]);
        assert_eq!(drawable(&points, Scale::Log), points[6..]);
    }

    #[test]
    fn a_long_curve_is_thinned_but_keeps_its_ends_and_its_spike() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 9.0;
        let thinned = drawable(&points, Scale::Log);
        assert!(thinned.len() <= MAX_POINTS && thinned.len() > MAX_POINTS / 2);
        assert_eq!(
            (thinned[0].0, thinned[thinned.len() - 1].0),
            (0.0, 99_999.0)
        );
        assert!(thinned.contains(&points[54_321]));
        assert!(thinned.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn long_texts_are_cut_to_their_width_without_control_characters() {
        assert_eq!(fit("short\u{0}\n", 100.0, 10.0), "short");
        assert_eq!(fit("0123456789", 36.0, 10.0), "01234…");
    }
}
