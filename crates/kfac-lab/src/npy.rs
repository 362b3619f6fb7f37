//! NumPy files.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use npyz::{AutoSerialize, NpyFile, NpyHeader, WriteOptions, WriterBuilder};

use crate::files::{self, WriteError};

/// The numbers of a NumPy file.
pub struct NpyArray {
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f64>,
}

/// Reads a NumPy file of `f32` or `f64`.
///
/// # Errors
/// Where the file cannot be read or is of another type or order.
pub fn read(path: &Path) -> Result<NpyArray> {
    let bytes = fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    parse(&bytes).map_err(|error| anyhow!("{}: {error:#}", path.display()))
}

/// The numbers of a NumPy file's content.
pub(crate) fn parse(bytes: &[u8]) -> Result<NpyArray> {
    let header = header_length(bytes).and_then(|length| bytes.get(..length));
    // Time that grows exponentially with the depth of brackets is spent on a header by the reader.
    let shallow = |header: &[u8]| {
        let pieces = |bracket| header.split(|byte| *byte == bracket).count();
        pieces(b'{') <= 2 && pieces(b'(') <= 2 && pieces(b'[') == 1
    };
    ensure!(
        header.is_some_and(shallow),
        "not a NumPy file of plain numbers"
    );
    let mut rest = bytes;
    let header = NpyHeader::from_reader(&mut rest).context("not a NumPy file")?;
    ensure!(
        header.order() == npyz::Order::C,
        "expected row-major order, found Fortran order"
    );
    let dtype = header.dtype().descr();
    let size = match dtype.trim_matches('\'') {
        "<f4" => 4,
        "<f8" => 8,
        other => bail!("expected <f4 or <f8, found {other}"),
    };
    let shape: Option<Vec<usize>> = header
        .shape()
        .iter()
        .map(|n| usize::try_from(*n).ok())
        .collect();
    let shape = shape.context("the file is malformed")?;
    let numbers = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    let needed = numbers.and_then(|numbers| numbers.checked_mul(size));
    ensure!(
        needed == Some(rest.len()),
        "the file is truncated or malformed: {} bytes of numbers for the shape {shape:?}",
        rest.len()
    );
    let file = NpyFile::with_header(header, rest);
    let values = if size == 8 {
        file.into_vec::<f64>()?
    } else {
        let single = file.into_vec::<f32>()?;
        single.into_iter().map(f64::from).collect()
    };
    Ok(NpyArray { shape, values })
}

/// Where a file states that its header ends: its length, after which the reader allocates, is in two bytes in version
/// 1, and in four in the others.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(8..12)?;
    if bytes[6] == 1 {
        return Some(10 + usize::from(u16::from_le_bytes([length[0], length[1]])));
    }
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    12usize.checked_add(length as usize)
}

/// Writes values, row-major, in their own type.
///
/// # Errors
/// Where the file cannot be written.
pub fn write<T: AutoSerialize + Copy>(
    path: &Path,
    shape: &[usize],
    values: &[T],
) -> Result<(), WriteError> {
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    files::write(path, |file| {
        let options = WriteOptions::new().default_dtype().shape(&shape);
        let mut writer = options.writer(file).begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_brackets_are_refused_at_once() {
        let mut file = b"\x93NUMPY\x01\0\x76\0{'descr': ".to_vec();
        file.resize(128, b'{');
        let error = parse(&file).err().unwrap();
        assert!(error.to_string().contains("not a NumPy file"), "{error}");
    }
}
