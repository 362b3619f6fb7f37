//! Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747): clothes of 28 × 28 pixels.

use std::path::Path;

use super::files::{Fetched, File};
use super::idx;
use super::{DataError, DataSet};

macro_rules! embedded_file {
    ($name:literal) => {
        File::embedded(
            concat!("data/fashion/", $name),
            include_bytes!(concat!("../../../../data/fashion/", $name)),
        )
    };
}

/// The first 200 training and 50 test images of each class, in their original order.
pub(super) fn embedded() -> Result<DataSet, DataError> {
    Ok(DataSet {
        description: "Fashion-MNIST, first images of each class: 2000 + 500".into(),
        train: idx::labelled_images(
            embedded_file!("train-images-idx3-ubyte.gz"),
            embedded_file!("train-labels-idx1-ubyte.gz"),
            2_000,
        )?,
        test: idx::labelled_images(
            embedded_file!("t10k-images-idx3-ubyte.gz"),
            embedded_file!("t10k-labels-idx1-ubyte.gz"),
            500,
        )?,
    })
}

pub(super) fn full(folder: &Path) -> Result<DataSet, DataError> {
    let set = Fetched {
        name: "Fashion-MNIST",
        key: "fashion",
        folder,
    };
    let part = |part: &str, cases| {
        idx::labelled_images(
            set.read(&format!("{part}-images-idx3-ubyte.gz"))?,
            set.read(&format!("{part}-labels-idx1-ubyte.gz"))?,
            cases,
        )
    };
    Ok(DataSet {
        description: "Fashion-MNIST: 60000 + 10000".into(),
        train: part("train", 60_000)?,
        test: part("t10k", 10_000)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::class_counts;
    use super::*;

    #[test]
    fn the_embedded_part_has_equal_classes() {
        let set = embedded().unwrap();
        assert_eq!(class_counts(&set.train), [200; 10]);
        assert_eq!(class_counts(&set.test), [50; 10]);
        assert_eq!((set.train.len(), set.test.len()), (2_000, 500));
    }

    #[test]
    fn the_embedded_part_begins_like_the_full_set() {
        let labels = embedded().unwrap().train.labels.unwrap();
        assert_eq!(labels[..5], [9, 0, 0, 3, 0]);
    }
}
