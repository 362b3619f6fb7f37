//! Draws a chart with plotters.

use std::io;

use plotters::{coord::Shift, data::float::pretty_print_float, prelude::*};

use super::{
    Chart, Curve, Emphasis, PlotError,
    axis::{log_multiples, log_range, log_ticks, range},
};

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = DrawingAreaErrorKind<io::Error>;

/// Width and height that a viewer shows, in pixels.
const SHOWN: (u32, u32) = (900, 520);
/// Plotters rounds coordinates to whole pixels. A canvas this many times finer than the size shown
/// keeps curves smooth.
const FINENESS: u32 = 4;
/// Pixels of a line's sample in the legend.
const SAMPLE: u32 = 22;
/// Points further from zero on the horizontal axis, and less than its reciprocal or more on the
/// vertical one, are left out: plotters cannot place ticks on an axis that reaches there.
const FURTHEST: f64 = 1e15;

/// Okabe and Ito's palette, which colour-blind readers can tell apart, with a grey for its yellow.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(140, 140, 140),
    RGBColor(0, 0, 0),
];
/// Opacity of a band.
const BAND: f64 = 0.15;
const TEXT: RGBColor = RGBColor(34, 34, 34);
const QUIET: RGBColor = RGBColor(95, 95, 95);
const AXIS: RGBColor = RGBColor(130, 130, 130);
const GRID: RGBColor = RGBColor(220, 220, 220);
const FINE_GRID: RGBColor = RGBColor(243, 243, 243);

/// The chart as an SVG document.
pub(super) fn svg(chart: &Chart) -> Result<String, PlotError> {
    let lines = lines(chart);
    if lines.is_empty() {
        return Err(PlotError::Empty {
            title: chart.title.clone(),
            points: chart.curves.iter().map(|curve| curve.points.len()).sum(),
        });
    }
    let (width, height) = (px(SHOWN.0), px(SHOWN.1));
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        canvas.fill(&WHITE)?;
        draw(chart, &lines, &canvas)?;
        canvas.present()?;
    }
    let drawn = format!(r#"width="{width}" height="{height}""#);
    let shown = format!(
        r#"width="{}" height="{}" stroke-linejoin="round" stroke-linecap="round""#,
        SHOWN.0, SHOWN.1
    );
    Ok(svg.replacen(&drawn, &shown, 1))
}

/// A curve as drawn.
struct Line<'a> {
    curve: &'a Curve,
    points: Vec<(f64, f64)>,
    /// Around the band, along its lower edge and back along its upper one; empty for none.
    outline: Vec<(f64, f64)>,
    last: f64,
    style: ShapeStyle,
}

/// The curves that have points: those to stand out last, and otherwise as they end, from top to
/// bottom, which becomes the order of the legend.
fn lines(chart: &Chart) -> Vec<Line<'_>> {
    let line = |(curve, color): (_, &RGBColor)| Line::new(curve, *color);
    let colored = chart.curves.iter().zip(COLORS.iter().cycle());
    let mut lines: Vec<Line<'_>> = colored.filter_map(line).collect();
    lines.sort_by(|a, b| {
        let by_emphasis = a.curve.emphasis.cmp(&b.curve.emphasis);
        by_emphasis.then(b.last.total_cmp(&a.last))
    });
    lines
}

impl<'a> Line<'a> {
    fn new(curve: &'a Curve, color: RGBColor) -> Option<Self> {
        let drawable =
            |&(x, y): &(f64, f64)| x.abs() < FURTHEST && (1.0 / FURTHEST..FURTHEST).contains(&y);
        let points: Vec<_> = curve.points.iter().copied().filter(drawable).collect();
        let edges = |&(x, [low, high]): &(f64, [f64; 2])| ((x, low), (x, high));
        let edges = curve.band.iter().map(edges);
        let edges = edges.filter(|(low, high)| drawable(low) && drawable(high));
        let (mut outline, upper): (Vec<_>, Vec<_>) = edges.unzip();
        outline.extend(upper.into_iter().rev());
        if outline.len() < 4 {
            outline.clear();
        }
        let width = match curve.emphasis {
            Emphasis::Main => 13,
            Emphasis::Baseline => 7,
        };
        Some(Self {
            curve,
            last: points.last()?.1,
            points,
            outline,
            style: color.stroke_width(width).filled(),
        })
    }

    fn band(&self) -> Polygon<(f64, f64)> {
        Polygon::new(self.outline.clone(), self.style.color.mix(BAND).filled())
    }

    /// The radius of a point where it is the only one.
    fn radius(&self) -> u32 {
        match self.points.len() {
            1 => self.style.stroke_width + px(2),
            _ => 0,
        }
    }
}

fn draw(chart: &Chart, lines: &[Line<'_>], canvas: &Canvas<'_>) -> Result<(), DrawError> {
    let bold = TextStyle {
        font: text(18, TEXT).font.style(FontStyle::Bold),
        ..text(18, TEXT)
    };
    let body = canvas
        .margin(px(10), 0, 0, 0)
        .titled(&chart.title, bold)?
        .titled(&chart.subtitle, text(13, QUIET))?;
    if lines.len() < 2 {
        return draw_lines(chart, lines, &body);
    }
    // Plotters draws legends over the curves; an area of its own hides none of them.
    let mut widest = 0;
    for line in lines {
        let (width, _) = canvas.estimate_text_size(&line.curve.label, &text(13, TEXT))?;
        widest = widest.max(width);
    }
    let legend = (widest + px(SAMPLE + 34)).min(px(SHOWN.0) / 2);
    let (left, right) = body.split_horizontally(px(SHOWN.0) - legend);
    draw_lines(chart, lines, &left)?;
    draw_legend(lines, &right)
}

fn draw_lines(chart: &Chart, lines: &[Line<'_>], area: &Canvas<'_>) -> Result<(), DrawError> {
    let points = || {
        lines
            .iter()
            .flat_map(|line| line.points.iter().chain(&line.outline))
    };
    let x = range(points().map(|point| point.0));
    let y = log_range(points().map(|point| point.1));
    let ticks = log_ticks(&y);
    let fine = log_multiples(&y, &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = y.log_scale().with_key_points(ticks).with_light_points(fine);
    let mut context = ChartBuilder::on(area)
        .margin_top(px(12))
        .margin_right(px(24))
        .margin_bottom(px(10))
        .margin_left(px(12))
        .x_label_area_size(px(48))
        .y_label_area_size(px(64))
        .build_cartesian_2d(x, y)?;
    context
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(FINENESS))
        .light_line_style(FINE_GRID.stroke_width(FINENESS))
        .axis_style(AXIS.stroke_width(FINENESS))
        .x_labels(9)
        .x_max_light_lines(1)
        .x_label_formatter(&|value| pretty_print_float(*value, false))
        .y_label_formatter(&|value| pretty_print_float(*value, true))
        .set_all_tick_mark_size(px(4))
        .label_style(text(13, QUIET))
        .axis_desc_style(text(13, TEXT))
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .draw()?;
    let with_band = lines.iter().filter(|line| !line.outline.is_empty());
    context.draw_series(with_band.map(Line::band))?;
    for line in lines {
        let series = LineSeries::new(line.points.iter().copied(), line.style);
        context.draw_series(series.point_size(line.radius()))?;
    }
    Ok(())
}

/// A chart without points has a legend all the same.
fn draw_legend(lines: &[Line<'_>], area: &Canvas<'_>) -> Result<(), DrawError> {
    let mut context = ChartBuilder::on(area).build_cartesian_2d(0..1, 0..1)?;
    for line in lines {
        let (style, sample) = (line.style, px(SAMPLE).cast_signed());
        context
            .draw_series(LineSeries::new([], style))?
            .label(&line.curve.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + sample, y)], style));
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::Coordinate(0, px(4).cast_signed()))
        .margin(px(4))
        .legend_area_size(px(SAMPLE + 6))
        .label_font(text(13, TEXT))
        .draw()
}

fn px(shown: u32) -> u32 {
    shown * FINENESS
}

fn text(size: u32, color: RGBColor) -> TextStyle<'static> {
    // The SVG backend of plotters divides font sizes by 1.24.
    let font = ("sans-serif", 1.24 * f64::from(px(size))).into_font();
    font.color(&color)
}
