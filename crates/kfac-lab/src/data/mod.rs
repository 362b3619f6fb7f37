//! The data sets of the experiments, as plain rows of `f32`.
//!
//! | set | file | where it comes from |
//! |---|---|---|
//! | CURVES | `curves.rs` | generated from a seed |
//! | digits | `digits.rs` | embedded |
//! | Fashion-MNIST | `fashion.rs` | a part embedded, the full set fetched |
//! | MNIST | `mnist.rs` | fetched |
//! | FACES | `faces.rs` | photographs fetched, variants drawn from a seed |
//!
//! Fetched sets are put into a folder by the script `data/fetch`.

mod curves;
mod digits;
mod error;
mod faces;
mod fashion;
mod files;
mod idx;
mod mnist;
mod pgm;
mod square;
mod streams;

use std::path::{Path, PathBuf};

pub use error::DataError;

/// Cases of one data set, one per row.
///
/// # Shapes
/// `values` is row-major `[len, features]`; `labels`, where the set has classes, is `[len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases {
    /// How many values one case has.
    pub features: usize,
    /// All cases, row after row.
    pub values: Vec<f32>,
    /// The class of each case, or `None` where the set has no classes.
    pub labels: Option<Vec<u8>>,
}

impl Cases {
    /// How many cases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.features).unwrap_or(0)
    }

    /// Whether there is no case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cases as square images of another side, each pixel the mean of what it covers.
    ///
    /// # Panics
    /// Where the features are not the pixels of a square.
    #[must_use]
    pub fn resized(&self, side: usize) -> Self {
        let mut values = vec![0.0; self.len() * side * side];
        for (index, out) in values.chunks_exact_mut(side * side).enumerate() {
            square::Square::new(self.row(index)).look(square::View::WHOLE, side, out);
        }
        Self {
            features: side * side,
            values,
            labels: self.labels.clone(),
        }
    }

    /// Keeps the first cases.
    pub fn truncate(&mut self, cases: usize) {
        self.values.truncate(cases * self.features);
        if let Some(labels) = &mut self.labels {
            labels.truncate(cases);
        }
    }

    /// The values of one case, `[features]`.
    ///
    /// # Panics
    /// Where `index` is not below [`Cases::len`], as indexing a slice does.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.features..(index + 1) * self.features]
    }
}

/// A data set, split into what is trained on and what is held back.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// One line for logs and reports: name, origin, seed where there is one, numbers of cases.
    pub description: String,
    /// The cases to train on.
    pub train: Cases,
    /// The cases to test on.
    pub test: Cases,
}

/// Which data set to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// CURVES: 20,000 + 10,000 generated strokes of 28 × 28 pixels in `[0, 1]`, no labels.
    Curves {
        /// Equal seeds give equal images, bit for bit.
        seed: u64,
    },
    /// Handwritten digits of 8 × 8 pixels in `[0, 1]`: 1,497 + 300, ten classes, embedded.
    Digits,
    /// Fashion-MNIST: clothes of 28 × 28 pixels in `[0, 1]`, ten classes.
    Fashion(FashionPart),
    /// MNIST: 60,000 + 10,000 digits of 28 × 28 pixels in `[0, 1]`, ten classes, fetched.
    Mnist,
    /// FACES: 103,500 + 41,400 variants of photographs, 25 × 25 pixels, standardised, no labels.
    Faces {
        /// Equal seeds give equal variants.
        seed: u64,
    },
}

/// How much of Fashion-MNIST to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FashionPart {
    /// The first 200 + 50 images of each class, embedded in the program.
    Embedded,
    /// All 60,000 + 10,000 images, fetched.
    Full,
}

/// Load a data set; sets that are fetched are looked for in `folder`, e.g. `data/cache`.
///
/// # Errors
/// [`DataError::Missing`] where the set has not been fetched, [`DataError::Malformed`] where a file
/// is not what it should be, [`DataError::Io`] where a file cannot be read.
pub fn load(source: Source, folder: &Path) -> Result<DataSet, DataError> {
    match source {
        Source::Curves { seed } => Ok(curves::load(seed)),
        Source::Digits => digits::load(),
        Source::Fashion(FashionPart::Embedded) => fashion::embedded(),
        Source::Fashion(FashionPart::Full) => fashion::full(folder),
        Source::Mnist => mnist::load(folder),
        Source::Faces { seed } => faces::load(folder, seed),
    }
}

/// The images of an IDX file, as those of Fashion-MNIST, of so many cases.
pub(crate) fn check_images(bytes: &[u8], cases: usize) -> Result<Vec<u8>, DataError> {
    idx::images(files::File::embedded("file", bytes), cases)
}

/// The cases of the text of the handwritten digits.
pub(crate) fn check_digits(text: &[u8], path: &Path) -> Result<Cases, DataError> {
    digits::parse(text, path)
}

/// The pixels of a photograph.
pub(crate) fn check_photograph(bytes: &[u8], path: PathBuf) -> Result<Vec<u8>, DataError> {
    let bytes = bytes.to_vec();
    pgm::parse(files::File { path, bytes })
}

#[cfg(test)]
fn class_counts(cases: &Cases) -> [usize; 10] {
    let mut counts = [0; 10];
    for &label in cases.labels.as_deref().unwrap_or_default() {
        counts[usize::from(label)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_was_not_fetched_names_the_command() {
        let folder = tempfile::tempdir().unwrap();
        for (source, command) in [
            (Source::Mnist, "data/fetch mnist"),
            (Source::Fashion(FashionPart::Full), "data/fetch fashion"),
            (Source::Faces { seed: 1 }, "data/fetch faces"),
        ] {
            let message = load(source, folder.path()).unwrap_err().to_string();
            assert!(message.contains(command), "{message}");
            assert!(
                message.contains(&folder.path().display().to_string()),
                "{message}"
            );
        }
    }

    #[test]
    fn rows_are_the_cases() {
        let cases = Cases {
            features: 2,
            values: vec![1.0, 2.0, 3.0, 4.0],
            labels: None,
        };
        assert_eq!(cases.len(), 2);
        assert_eq!(cases.row(1), [3.0, 4.0]);
        let none = Cases {
            features: 0,
            values: vec![],
            labels: None,
        };
        assert!(none.is_empty());
    }
}
