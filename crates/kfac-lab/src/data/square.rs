//! Square images, and views of them that are turned, enlarged and reduced.

/// A square image, `[side, side]` row by row.
pub(super) struct Square {
    side: usize,
    pixels: Vec<f32>,
}

/// How a square is looked at, about its centre.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// How far the view is turned, in radians.
    pub(super) angle: f32,
    /// How much the square is enlarged: the view shows `1 / zoom` of its side.
    pub(super) zoom: f32,
}

impl View {
    /// The square as it is.
    pub(super) const WHOLE: Self = Self {
        angle: 0.0,
        zoom: 1.0,
    };
}

impl Square {
    /// A picture that is as high as wide.
    ///
    /// # Panics
    /// Where it is not.
    pub(super) fn new(pixels: &[f32]) -> Self {
        let side = pixels.len().isqrt();
        assert_eq!(side * side, pixels.len(), "the pixels of a square");
        Self {
            side,
            pixels: pixels.to_vec(),
        }
    }

    /// The middle of a picture `[pixels.len() / width, width]` that is at least as high as wide.
    pub(super) fn middle(pixels: &[u8], width: usize) -> Self {
        let above = (pixels.len() / width - width) / 2;
        let rows = &pixels[above * width..(above + width) * width];
        Self {
            side: width,
            pixels: rows.iter().map(|&pixel| f32::from(pixel)).collect(),
        }
    }

    /// Write a view of `[side, side]` pixels into `out`.
    ///
    /// Each pixel is the mean of 2 × 2 points between the pixels of the square: one point would
    /// pick single pixels of a square that is reduced by two or more.
    pub(super) fn look(&self, view: View, side: usize, out: &mut [f32]) {
        const POINTS: usize = 2;
        let (sin, cos) = view.angle.sin_cos();
        let centre = (self.side as f32 - 1.0) / 2.0;
        let step = self.side as f32 / view.zoom / (side * POINTS) as f32;
        let middle = ((side * POINTS) as f32 - 1.0) / 2.0;
        out.fill(0.0);
        for row in 0..side * POINTS {
            let down = (row as f32 - middle) * step;
            for column in 0..side * POINTS {
                let right = (column as f32 - middle) * step;
                let x = centre + right * cos - down * sin;
                let y = centre + right * sin + down * cos;
                out[row / POINTS * side + column / POINTS] += self.between(x, y);
            }
        }
        for pixel in out {
            *pixel /= (POINTS * POINTS) as f32;
        }
    }

    /// The value between pixels, bilinear; beyond the border it is that of the border.
    fn between(&self, x: f32, y: f32) -> f32 {
        let last = self.side as f32 - 1.0;
        let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
        let (left, top) = (x as usize, y as usize);
        let (right, below) = ((left + 1).min(self.side - 1), (top + 1).min(self.side - 1));
        let (across, down) = (x - left as f32, y - top as f32);
        let row = |row: usize| {
            let row = &self.pixels[row * self.side..];
            row[left] + across * (row[right] - row[left])
        };
        row(top) + down * (row(below) - row(top))
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_PI_2;

    use super::*;

    const SIDE: usize = 10;

    /// Brightness grows by 5 per column: any view of it is known in closed form.
    fn ramp() -> Square {
        let pixels: Vec<u8> = (0..SIDE * SIDE).map(|i| (i % SIDE * 5) as u8).collect();
        Square::middle(&pixels, SIDE)
    }

    #[test]
    fn the_middle_leaves_out_as_much_above_as_below() {
        let picture: Vec<u8> = (0..8).flat_map(|row| [row; 4]).collect();
        let middle = Square::middle(&picture, 4);
        let firsts: Vec<f32> = middle.pixels.chunks(4).map(|row| row[0]).collect();
        assert_eq!(format!("{firsts:?}"), "[2.0, 3.0, 4.0, 5.0]");
    }

    #[test]
    fn a_view_of_a_ramp_is_a_ramp() {
        let mut out = [0.0; 25];
        ramp().look(
            View {
                angle: 0.0,
                zoom: 1.0,
            },
            5,
            &mut out,
        );
        for (i, value) in out.iter().enumerate() {
            // The centre of output pixel c lies between columns 2c and 2c + 1.
            let expected = 5.0 * (2.0 * (i % 5) as f32 + 0.5);
            assert!(
                (value - expected).abs() < 1e-4,
                "{i}: {value} is not {expected}"
            );
        }
    }

    #[test]
    fn zoom_narrows_and_a_quarter_turn_swaps_rows_and_columns() {
        let mut out = [0.0; 25];
        ramp().look(
            View {
                angle: FRAC_PI_2,
                zoom: 2.0,
            },
            5,
            &mut out,
        );
        for (i, value) in out.iter().enumerate() {
            // Half the side is shown, so a pixel is one column wide; going down is going left.
            let expected = 5.0 * (4.5 - ((i / 5) as f32 - 2.0));
            assert!(
                (value - expected).abs() < 1e-4,
                "{i}: {value} is not {expected}"
            );
        }
    }
}
