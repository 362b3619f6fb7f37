//! Files that appear whole or not at all.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

/// What the names of files and folders begin with until they are whole.
const UNFINISHED: &str = ".unfinished-";

/// A file that could not be written; an older one of that name is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Writes a file beside its place with `fill`, then moves it there, over an older one.
///
/// # Errors
/// Where `fill` fails, or the file cannot be made or moved; its folder must exist.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut NamedTempFile>) -> io::Result<()>,
) -> Result<(), WriteError> {
    let written = unfinished(path).and_then(|mut file| {
        let mut buffer = BufWriter::new(&mut file);
        fill(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        file.persist(path).map_err(io::Error::from)
    });
    let failed = |source| WriteError {
        path: path.to_owned(),
        source,
    };
    written.map(|_| ()).map_err(failed)
}

/// Writes a value as JSON for people to read.
///
/// # Errors
/// As [`write()`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), WriteError> {
    write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        writeln!(file)
    })
}

/// Writes a folder of files beside its place, onto the disk, then moves it there; there must be none of that name.
///
/// # Errors
/// As [`write()`].
pub fn write_folder<'a>(
    path: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), WriteError> {
    let parent = parent(path);
    let written = fs::create_dir_all(parent).and_then(|()| {
        let folder = Builder::new().prefix(UNFINISHED).tempdir_in(parent)?;
        for (name, content) in files {
            let mut file = File::create_new(folder.path().join(name))?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        sync_folder(folder.path())?;
        fs::rename(folder.path(), path)?;
        // Nothing is left of it under its first name.
        let _ = folder.keep();
        sync_folder(parent)
    });
    written.map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

/// Removes what a process that was killed left half-written in a folder.
///
/// # Errors
/// Where the folder cannot be read, or something in it cannot be removed.
pub fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// What a folder lists is on the disk with its files only once the folder itself is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The folder that a path is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// An empty file in the folder of `path`, with the permissions of any new file.
fn unfinished(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(UNFINISHED);
    // Temporary files are for their owner alone unless told otherwise; the umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(parent(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write_text(path: &Path, text: &str) -> Result<(), WriteError> {
        write(path, |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_text(&path, "older").unwrap();
        write_text(&path, "newer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_older_file_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_text(&path, "older").unwrap();
        let error = write(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(error.unwrap_err().to_string().contains("file"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "older");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let in_no_folder = folder.path().join("missing/file");
        let error = write_text(&in_no_folder, "").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing/file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn the_permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let file = fs::metadata(folder.path().join(name)).unwrap();
            file.permissions().mode()
        };
        fs::write(folder.path().join("plain"), "").unwrap();
        write_text(&folder.path().join("whole"), "").unwrap();
        assert_eq!(mode("whole"), mode("plain"));
    }
}
