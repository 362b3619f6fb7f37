//! The IDX format of MNIST and its relatives, plain or compressed with gzip.
//!
//! Two zero bytes, the type of the values (8: unsigned bytes), the number of dimensions, each
//! dimension as four bytes (big end first), then the values.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::files::File;
use super::{Cases, DataError};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTES: [u8; 3] = [0, 0, 8];
const SIDE: usize = 28;
const CLASSES: u8 = 10;

/// Read images of 28 × 28 pixels, scaled to `[0, 1]`, and their classes.
///
/// # Errors
/// [`DataError::Malformed`] unless both files hold exactly `cases` cases and every class is
/// below 10.
pub(super) fn labelled_images(
    images: File,
    labels: File,
    cases: usize,
) -> Result<Cases, DataError> {
    let pixels = self::images(images, cases)?;
    let path = labels.path.clone();
    let labels = read(labels, &[cases])?;
    if let Some(label) = labels.iter().find(|&&label| label >= CLASSES) {
        return Err(DataError::malformed(
            &path,
            format!("classes below {CLASSES}"),
            format!("class {label}"),
        ));
    }
    let values = pixels
        .iter()
        .map(|&pixel| f32::from(pixel) / 255.0)
        .collect();
    Ok(Cases {
        features: SIDE * SIDE,
        values,
        labels: Some(labels),
    })
}

/// The pixels of images of 28 × 28.
pub(super) fn images(file: File, cases: usize) -> Result<Vec<u8>, DataError> {
    read(file, &[cases, SIDE, SIDE])
}

/// The values of an IDX file of unsigned bytes, which must have exactly the dimensions `dims`.
fn read(file: File, dims: &[usize]) -> Result<Vec<u8>, DataError> {
    let path = file.path;
    let header = 4 + 4 * dims.len();
    let expected = header + dims.iter().product::<usize>();
    let mut bytes = if file.bytes.starts_with(&GZIP) {
        // One byte more shows a file that is too long, however long it is.
        gunzip(&file.bytes, expected + 1, &path)?
    } else {
        file.bytes
    };
    let malformed = |expected, found| Err(DataError::malformed(&path, expected, found));

    if bytes.len() < header {
        return malformed(
            format!("an IDX header of {header} bytes"),
            format!("{} bytes", bytes.len()),
        );
    }
    let (magic, rest) = bytes.split_at(4);
    if magic[..3] != UNSIGNED_BYTES || usize::from(magic[3]) != dims.len() {
        let expected = format!("IDX magic 0000080{} (bytes in {0} dimensions)", dims.len());
        let found = format!(
            "{:08x}",
            magic
                .iter()
                .fold(0, |value, &byte| value << 8 | u32::from(byte))
        );
        return malformed(expected, found);
    }
    let found: Vec<usize> = rest[..4 * dims.len()]
        .chunks_exact(4)
        .map(|dim| {
            dim.iter()
                .fold(0, |value, &byte| value << 8 | usize::from(byte))
        })
        .collect();
    if found != dims {
        return malformed(format!("dimensions {dims:?}"), format!("{found:?}"));
    }
    if bytes.len() != expected {
        return malformed(
            format!("{expected} bytes"),
            format!("{} bytes", bytes.len()),
        );
    }
    bytes.drain(..header);
    Ok(bytes)
}

/// Decompress up to so many bytes, refusing a stream that is cut short or followed by anything else.
pub(super) fn gunzip(bytes: &[u8], most: usize, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut contents = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(most as u64)
        .read_to_end(&mut contents)
        .map_err(|error| DataError::malformed(path, "a complete gzip file", format!("{error}")))?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        File::embedded("some/file", bytes)
    }

    fn labels(count: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1, 0, 0, 0, count];
        bytes.extend(0..count);
        bytes
    }

    fn images(count: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28];
        bytes.extend(vec![255; usize::from(count) * SIDE * SIDE]);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_compressed_files_give_the_same_cases() {
        let plain = labelled_images(file(&images(3)), file(&labels(3)), 3).unwrap();
        let packed = labelled_images(file(&gzip(&images(3))), file(&gzip(&labels(3))), 3).unwrap();
        assert_eq!(plain, packed);
        assert_eq!(plain.labels.as_deref(), Some(&[0, 1, 2][..]));
        assert!(
            plain
                .values
                .iter()
                .all(|value| (value - 1.0).abs() < f32::EPSILON)
        );
    }

    #[test]
    fn malformed_files_say_what_was_expected_and_found() {
        let with = |edit: fn(&mut Vec<u8>)| {
            let mut bytes = labels(5);
            edit(&mut bytes);
            bytes
        };
        for (bytes, expected, found) in [
            (
                with(|b| b.truncate(6)),
                "an IDX header of 8 bytes",
                "6 bytes",
            ),
            (with(|b| b[2] = 9), "IDX magic 00000801", "00000901"),
            (with(|b| b[3] = 3), "IDX magic 00000801", "00000803"),
            (with(|b| b[7] = 6), "dimensions [5]", "[6]"),
            (with(|b| b.truncate(12)), "13 bytes", "12 bytes"),
            (with(|b| b.push(0)), "13 bytes", "14 bytes"),
        ] {
            let message = read(file(&bytes), &[5]).unwrap_err().to_string();
            assert!(message.starts_with("some/file: expected "), "{message}");
            assert!(
                message.contains(expected) && message.contains(found),
                "{message}"
            );
        }
    }

    #[test]
    fn a_damaged_gzip_stream_is_refused() {
        let whole = gzip(&labels(5));
        let cut = &whole[..whole.len() - 5];
        let followed = [&whole[..], b"more"].concat();
        for bytes in [cut, &followed[..]] {
            let message = read(file(bytes), &[5]).unwrap_err().to_string();
            assert!(message.contains("a complete gzip file"), "{message}");
        }
    }

    #[test]
    fn an_unknown_class_is_refused() {
        let message = labelled_images(file(&images(11)), file(&labels(11)), 11).unwrap_err();
        assert!(message.to_string().contains("class 10"), "{message}");
    }
}
