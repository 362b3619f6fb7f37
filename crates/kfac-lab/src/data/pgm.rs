//! The photographs of the ORL faces as PGM files, with their damage undone.
//!
//! 152 of the 400 files, as packaged, once went through a conversion of line ends: every pixel of
//! value 13 (carriage return) became 10 (line feed), a pixel 13 followed by a pixel 10 became one
//! pixel 10, and then every 10 was written as 13, 10. The last step is undone exactly. The second
//! lost one pixel in each of two photographs, which is put back where it fits best. The first
//! cannot be undone: about one pixel in 5,000 of those files stays 10 where it was 13.

use std::path::Path;

use super::DataError;
use super::files::File;

pub(super) const WIDTH: usize = 92;
pub(super) const HEIGHT: usize = 112;
const HEADER: &[u8] = b"P5\n92 112\n255\n";
const CONVERTED_HEADER: &[u8] = b"P5\r\n";
const CARRIAGE_RETURN: u8 = 13;
const LINE_FEED: u8 = 10;

/// The repaired pixels of one photograph, `[112, 92]` row by row.
///
/// # Errors
/// [`DataError::Malformed`] where the header is another one, or where pixels are missing or left
/// over that the damage described above does not explain.
pub(super) fn parse(file: File) -> Result<Vec<u8>, DataError> {
    let File { path, bytes } = file;
    if !bytes.starts_with(CONVERTED_HEADER) {
        return exact(pixels(&bytes, &path)?, &path);
    }
    let mut pixels = pixels(&undo_line_ends(&bytes), &path)?;
    if pixels.len() == WIDTH * HEIGHT - 1 {
        put_back_lost_pixel(&mut pixels);
    }
    exact(pixels, &path)
}

fn pixels(bytes: &[u8], path: &Path) -> Result<Vec<u8>, DataError> {
    bytes
        .strip_prefix(HEADER)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| {
            let found = &bytes[..bytes.len().min(HEADER.len())];
            DataError::malformed(
                path,
                format!("the header {:?}", String::from_utf8_lossy(HEADER)),
                format!("{:?}", String::from_utf8_lossy(found)),
            )
        })
}

fn exact(pixels: Vec<u8>, path: &Path) -> Result<Vec<u8>, DataError> {
    if pixels.len() == WIDTH * HEIGHT {
        return Ok(pixels);
    }
    let expected = format!("{} pixels", WIDTH * HEIGHT);
    Err(DataError::malformed(
        path,
        expected,
        format!("{}", pixels.len()),
    ))
}

fn undo_line_ends(bytes: &[u8]) -> Vec<u8> {
    let follows = |position: usize| bytes.get(position + 1) == Some(&LINE_FEED);
    bytes
        .iter()
        .enumerate()
        .filter(|&(position, &byte)| byte != CARRIAGE_RETURN || !follows(position))
        .map(|(_, &byte)| byte)
        .collect()
}

/// Put a pixel 13 before that pixel 10 which makes neighbouring rows most alike.
///
/// The lost pixel is known to have been a 13 before a 10, but not before which: a wrong choice
/// shifts all pixels between the two places by one column, which shows in their vertical
/// neighbours. Without any 10 nothing is put back, and the photograph stays one pixel short.
fn put_back_lost_pixel(pixels: &mut Vec<u8>) {
    let candidates = (0..pixels.len()).filter(|&position| pixels[position] == LINE_FEED);
    let best = candidates.min_by_key(|&position| {
        let mut repaired = pixels.clone();
        repaired.insert(position, CARRIAGE_RETURN);
        vertical_differences(&repaired)
    });
    if let Some(position) = best {
        pixels.insert(position, CARRIAGE_RETURN);
    }
}

fn vertical_differences(pixels: &[u8]) -> u32 {
    pixels
        .iter()
        .zip(&pixels[WIDTH..])
        .map(|(&up, &down)| u32::from(up.abs_diff(down)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: Vec<u8>) -> File {
        File {
            path: "s1/1.pgm".into(),
            bytes,
        }
    }

    /// Vertical stripes with a few dark pixels, none of value 13.
    fn photograph() -> Vec<u8> {
        let mut pixels: Vec<u8> = (0..WIDTH * HEIGHT)
            .map(|i| 20 + ((i % WIDTH) * 37 % 200) as u8)
            .collect();
        for dark in [500, 3_000, 3_001, 7_000] {
            pixels[dark] = LINE_FEED;
        }
        pixels
    }

    fn with_header(pixels: &[u8]) -> Vec<u8> {
        [HEADER, pixels].concat()
    }

    /// What the conversion of line ends did to a file.
    fn damage(bytes: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        for (position, &byte) in bytes.iter().enumerate() {
            let follows = bytes.get(position + 1) == Some(&LINE_FEED);
            match byte {
                CARRIAGE_RETURN if follows => {}
                CARRIAGE_RETURN | LINE_FEED => lines.extend([CARRIAGE_RETURN, LINE_FEED]),
                _ => lines.push(byte),
            }
        }
        lines
    }

    #[test]
    fn an_intact_file_is_taken_as_it_is() {
        let mut pixels = photograph();
        pixels[4_000..4_002].copy_from_slice(&[CARRIAGE_RETURN, LINE_FEED]);
        assert_eq!(parse(file(with_header(&pixels))).unwrap(), pixels);
    }

    #[test]
    fn converted_line_ends_are_undone() {
        let damaged = damage(&with_header(&photograph()));
        assert_eq!(damaged.len(), HEADER.len() + WIDTH * HEIGHT + 7);
        assert_eq!(parse(file(damaged)).unwrap(), photograph());
    }

    #[test]
    fn a_lost_pixel_is_put_back_where_it_was() {
        for place in [100, 2_500, 6_950, 9_000] {
            let mut pixels = photograph();
            pixels[place..place + 2].copy_from_slice(&[CARRIAGE_RETURN, LINE_FEED]);
            assert_eq!(parse(file(damage(&with_header(&pixels)))).unwrap(), pixels);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let short = with_header(&photograph()[1..]);
        let long = with_header(&[&photograph()[..], &[0]].concat());
        let two_lost = damage(&with_header(&photograph()[2..]));
        let other = b"P5\n64 64\n255\n".to_vec();
        for (bytes, found) in [
            (short, "10303"),
            (long, "10305"),
            (two_lost, "10302"),
            (other, "64 64"),
        ] {
            let message = parse(file(bytes)).unwrap_err().to_string();
            assert!(message.starts_with("s1/1.pgm: expected"), "{message}");
            assert!(message.contains(found), "{message}");
        }
    }
}
