//! Images that are moved and mirrored at random.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// What is done to the cases of each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// Nothing
    #[default]
    None,
    /// Square images are moved by up to two pixels along each axis, with zeros behind them
    Shift,
    /// The same, and every second image is mirrored
    ShiftFlip,
}

/// The farthest that an image is moved, in pixels.
const REACH: usize = 2;

impl Augmentation {
    /// Changes images of so many pixels each, one after another in `rows`.
    pub(super) fn apply(self, rows: &mut [f32], pixels: usize, random: &mut impl Rng) {
        let side = pixels.isqrt();
        if self == Self::None || side * side != pixels {
            return;
        }
        for image in rows.chunks_exact_mut(pixels) {
            let by = [(); 2].map(|()| random.random_range(0..=2 * REACH));
            let mirrored = self == Self::ShiftFlip && random.random();
            let moved = moved(image, side, by, mirrored);
            image.copy_from_slice(&moved);
        }
    }
}

/// A square image moved by `by − REACH` pixels down and right, mirrored before.
fn moved(image: &[f32], side: usize, by: [usize; 2], mirrored: bool) -> Vec<f32> {
    let mut moved = vec![0.0; image.len()];
    let source = |at: usize, by: usize| (at + REACH).checked_sub(by).filter(|from| *from < side);
    for row in 0..side {
        let Some(from_row) = source(row, by[0]) else {
            continue;
        };
        for column in 0..side {
            let Some(from) = source(column, by[1]) else {
                continue;
            };
            let from = if mirrored { side - 1 - from } else { from };
            moved[row * side + column] = image[from_row * side + from];
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_with_zeros_behind_them() {
        let image: Vec<f32> = (1..=9u8).map(f32::from).collect();
        assert_eq!(moved(&image, 3, [REACH, REACH], false), image);
        let down = moved(&image, 3, [REACH + 1, REACH], false);
        assert_eq!(down, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let left = moved(&image, 3, [REACH, REACH - 1], false);
        assert_eq!(left, [2.0, 3.0, 0.0, 5.0, 6.0, 0.0, 8.0, 9.0, 0.0]);
        let mirrored = moved(&image, 3, [REACH, REACH], true);
        assert_eq!(mirrored, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]);
    }
}
