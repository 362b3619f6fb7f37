//! NumPy files.

use std::{fs::File, io::BufReader, path::Path};

use anyhow::{Context, Result, ensure};
use npyz::{AutoSerialize, NpyFile, WriteOptions, WriterBuilder};

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
    let open = || -> Result<NpyFile<BufReader<File>>> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        NpyFile::new(BufReader::new(file))
            .with_context(|| format!("{}: not a NumPy file", path.display()))
    };
    let file = open()?;
    ensure!(
        file.order() == npyz::Order::C,
        "{}: expected row-major order, found Fortran order",
        path.display()
    );
    let shape = file.shape().iter().map(|&n| n as usize).collect();
    let dtype = file.dtype().descr();
    let malformed = || format!("{}: the file is truncated or malformed", path.display());
    let values = match dtype.trim_matches('\'') {
        "<f8" => file.into_vec::<f64>().with_context(malformed)?,
        "<f4" => {
            let single = file.into_vec::<f32>().with_context(malformed)?;
            single.into_iter().map(f64::from).collect()
        }
        other => anyhow::bail!("{}: expected <f4 or <f8, found {other}", path.display()),
    };
    Ok(NpyArray { shape, values })
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
