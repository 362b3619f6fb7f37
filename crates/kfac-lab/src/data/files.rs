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

    /// The file under the first of its names that is there: packed or not, and as other packages write
    /// `-idx3-ubyte`.
    pub(super) fn read(&self, file: &str) -> Result<File, DataError> {
        for name in published_names(file) {
            let path = self.path(&name);
            match fs::read(&path) {
                Ok(bytes) => return Ok(File { path, bytes }),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DataError::Io { path, source }),
            }
        }
        Err(self.missing())
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

/// The names under which a file is published, the given one first.
fn published_names(file: &str) -> Vec<String> {
    let plain = file.strip_suffix(".gz").unwrap_or(file);
    let dotted = plain.replace("-idx", ".idx");
    let mut names = vec![file.to_owned()];
    for name in [plain, dotted.as_str()] {
        names.extend([name.to_owned(), format!("{name}.gz")]);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_packed_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let set = Fetched {
            name: "MNIST",
            key: "mnist",
            folder: folder.path(),
        };
        fs::create_dir(folder.path().join("mnist")).unwrap();
        for (asked, there) in [
            ("a-idx3-ubyte", "a-idx3-ubyte.gz"),
            ("b-idx3-ubyte.gz", "b-idx3-ubyte"),
            ("c-idx1-ubyte", "c.idx1-ubyte"),
        ] {
            assert!(set.read(asked).is_err());
            fs::write(set.path(there), there).unwrap();
            assert_eq!(set.read(asked).unwrap().bytes, there.as_bytes());
        }
    }

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
