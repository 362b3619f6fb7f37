//! What can go wrong while a data set is loaded.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a data set could not be loaded.
#[derive(Debug, Error)]
pub enum DataError {
    /// The set, or one of its files, has not been fetched.
    #[error("{name} is not complete in {}: run `{command}`", folder.display())]
    Missing {
        /// What the set is called, e.g. `MNIST`.
        name: &'static str,
        /// The folder in which the set was looked for.
        folder: PathBuf,
        /// The one command that fetches it.
        command: String,
    },
    /// A file is not what it should be; nothing of it is used.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file; for an embedded file its place in the repository.
        path: PathBuf,
        /// What the file should hold.
        expected: String,
        /// What it holds instead.
        found: String,
    },
    /// A file is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file that could not be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataError {
    pub(super) fn malformed(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
