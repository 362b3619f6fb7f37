//! MNIST (LeCun, Cortes & Burges): handwritten digits of 28 × 28 pixels.

use std::path::Path;

use super::files::Fetched;
use super::idx;
use super::{DataError, DataSet};

pub(super) fn load(folder: &Path) -> Result<DataSet, DataError> {
    let set = Fetched {
        name: "MNIST",
        key: "mnist",
        folder,
    };
    let part = |part: &str, cases| {
        idx::labelled_images(
            set.read(&format!("{part}-images-idx3-ubyte"))?,
            set.read(&format!("{part}-labels-idx1-ubyte"))?,
            cases,
        )
    };
    Ok(DataSet {
        description: "MNIST: 60000 + 10000".into(),
        train: part("train", 60_000)?,
        test: part("t10k", 10_000)?,
    })
}
