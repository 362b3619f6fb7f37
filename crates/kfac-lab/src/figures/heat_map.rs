//! Heat maps of matrices, side by side on one scale.

use std::path::Path;

use faer::Mat;

use crate::files::{self, WriteError};

/// Pixels of a panel's side.
const SIDE: usize = 420;
/// Pixels between panels.
const GAP: usize = 12;
/// The scale spans so many powers of ten below the largest value.
const DECADES: f64 = 4.0;

/// Writes the absolute values of some matrices of one size as panels, darker for larger, on a
/// logarithmic scale that all panels share: black is the largest value of all, white 10⁻⁴ of it.
/// Thin lines separate the layers' blocks.
pub(super) fn write_heat_maps(
    path: &Path,
    panels: &[&Mat<f64>],
    block: usize,
) -> Result<(), WriteError> {
    let reduced: Vec<Mat<f64>> = panels.iter().map(|matrix| reduce(matrix)).collect();
    let largest = reduced
        .iter()
        .fold(0.0, |max: f64, panel| max.max(panel.norm_max()));
    let width = panels.len() * SIDE + (panels.len() - 1) * GAP;
    let mut pixels = vec![u8::MAX; width * SIDE];
    for (index, panel) in reduced.iter().enumerate() {
        let left = index * (SIDE + GAP);
        for row in 0..SIDE {
            for column in 0..SIDE {
                pixels[row * width + left + column] = grey(panel[(row, column)], largest);
            }
        }
        let blocks = panels[index].nrows() / block;
        for line in (1..blocks).map(|number| number * SIDE / blocks) {
            for at in 0..SIDE {
                pixels[line * width + left + at] = LINE;
                pixels[at * width + left + line] = LINE;
            }
        }
    }
    files::write(path, |file| {
        let mut encoder = png::Encoder::new(file, width as u32, SIDE as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(())
    })
}

/// The grey of the lines between blocks.
const LINE: u8 = 160;

fn grey(value: f64, largest: f64) -> u8 {
    let below = -(value / largest).log10() / DECADES;
    (below.clamp(0.0, 1.0) * f64::from(u8::MAX)).round() as u8
}

/// The mean absolute value of the elements under each pixel.
fn reduce(matrix: &Mat<f64>) -> Mat<f64> {
    let n = matrix.nrows();
    let range = |pixel: usize| {
        let start = pixel * n / SIDE;
        start..((pixel + 1) * n / SIDE).max(start + 1)
    };
    Mat::from_fn(SIDE, SIDE, |row, column| {
        let (rows, columns) = (range(row), range(column));
        let part = matrix.submatrix(rows.start, columns.start, rows.len(), columns.len());
        part.norm_l1() / (rows.len() * columns.len()) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_goes_from_black_to_white_in_four_decades() {
        assert_eq!(grey(1.0, 1.0), 0);
        assert_eq!(grey(1e-2, 1.0), 128);
        assert_eq!([grey(1e-4, 1.0), grey(0.0, 1.0)], [255, 255]);
    }

    #[test]
    fn a_pixel_is_the_mean_of_what_it_covers() {
        let matrix = Mat::from_fn(
            2 * SIDE,
            2 * SIDE,
            |i, _| if i % 2 == 0 { 1.0 } else { -3.0 },
        );
        let reduced = reduce(&matrix);
        assert!((reduced[(7, 9)] - 2.0).abs() < 1e-15);
        let small = reduce(&Mat::full(10, 10, 5.0));
        assert!((small[(SIDE - 1, 0)] - 5.0).abs() < 1e-15);
    }
}
