//! Files of data sets: those the program carries, and those that were fetched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DataError;

/// The folder into which `data/fetch` puts sets when it is given none.
const DEFAULT_FOLDER: &str = "data/cache";

/// The bytes of one file, with the path that errors name.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl File {
    pub(super) fn embedded(path: &str, bytes: &[u8]) -> Self {
        Self {
            path: path.into(),
            bytes: bytes.to_vec(),
        }
    }
}

/// A set in the folder of fetched sets.
pub(super) struct Fetched<'a> {
    /// What readers call it, e.g. `Fashion-MNIST`.
    pub(super) name: &'static str,
    /// What `data/fetch` calls it, which is also the folder it ends in.
    pub(super) key: &'static str,
    /// The folder of all fetched sets.
    pub(super) folder: &'a Path,
}

impl Fetched<'_> {
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(self.key).join(file)
    }

    pub(super) fn read(&self, file: &str) -> Result<File, DataError> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(bytes) => Ok(File { path, bytes }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(self.missing()),
            Err(source) => Err(DataError::Io { path, source }),
        }
    }

    fn missing(&self) -> DataError {
        let mut command = format!("data/fetch {}", self.key);
        if !self.folder.ends_with(DEFAULT_FOLDER) {
            command = format!("{command} '{}'", self.folder.display());
        }
        DataError::Missing {
            name: self.name,
            folder: self.folder.to_owned(),
            command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_a_folder_only_where_it_is_not_the_default() {
        let at = |folder| Fetched {
            name: "MNIST",
            key: "mnist",
            folder: Path::new(folder),
        };
        let command = |folder| match at(folder).missing() {
            DataError::Missing { command, .. } => command,
            other => panic!("{other}"),
        };
        assert_eq!(command("data/cache"), "data/fetch mnist");
        assert_eq!(command("elsewhere"), "data/fetch mnist 'elsewhere'");
    }
}
