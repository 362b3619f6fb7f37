//! The checkpoints of a run: folders of files, each whole or not there.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::{Context, Result, anyhow};
use burn::tensor::Bytes;
use kfac::record::{LoadError, OptimizerRecord};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::files;

/// The folder of the checkpoints in that of a run.
const FOLDER: &str = "checkpoints";

/// The file that tells of the others.
const CHECKSUMS: &str = "checksums.json";

/// The file with the run, and how far it came.
pub(crate) const RUN: &str = "run.json";

/// The file with the model.
pub(crate) const MODEL: &str = "model.bpk";

/// When the checkpoints of a run are written, besides at its end and where it is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPlan {
    /// After every so many iterations.
    pub every: Option<u64>,
    /// So many are kept, the newest.
    pub keep: usize,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The run has no folder.
    #[error("{} is no folder: give that of a run", folder.display())]
    NoFolder {
        /// What was given.
        folder: PathBuf,
    },
    /// There is none.
    #[error(
        "{} has no checkpoint: give the folder of a run (of several seeds that of one, as `seed-1`), which has one at \
         its end, where it was interrupted, and with --checkpoint-every on the way",
        folder.display()
    )]
    None {
        /// The folder of the run.
        folder: PathBuf,
    },
    /// None is whole.
    #[error(
        "of the checkpoints in {} none is whole, which leaves nothing to go on from: put one there from a copy, or \
         train anew",
        folder.display()
    )]
    NoneWhole {
        /// The folder of the run.
        folder: PathBuf,
    },
    /// One cannot be read.
    #[error("cannot read {}: {error}: make it readable, or remove its checkpoint", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// One is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        why: String,
    },
}

/// What a checkpoint tells of itself.
#[derive(Serialize, Deserialize)]
struct Contents {
    /// The iteration that it was written after: that of the folder's name.
    iteration: u64,
    /// Of each file.
    checksums: BTreeMap<String, String>,
}

/// The files of a checkpoint, read and checked.
#[derive(Debug)]
pub struct CheckpointFiles {
    folder: PathBuf,
    files: BTreeMap<String, Bytes>,
}

/// Where the checkpoints of a run are written, by a thread of its own.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    plan: CheckpointPlan,
    writing: Option<JoinHandle<Result<()>>>,
    /// The iteration of the last one.
    last: Option<u64>,
}

/// A file of a checkpoint.
pub enum Part {
    /// Its content.
    Bytes(Bytes),
    /// A record of K-FAC, whose tensors stay where they are until it is written.
    Kfac(Box<OptimizerRecord>),
}

impl Part {
    /// The content of the file.
    ///
    /// # Errors
    /// Where it is too large for its form.
    pub fn into_bytes(self) -> Result<Bytes, LoadError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Kfac(record) => record.into_bytes(),
        }
    }
}

impl Checkpoints {
    /// The checkpoints of a run's folder.
    pub(crate) fn new(run: &Path, plan: CheckpointPlan) -> Self {
        Self {
            folder: run.join(FOLDER),
            plan,
            writing: None,
            last: None,
        }
    }

    /// Those of a run that goes on from the one of an iteration: later ones were not whole, and are set aside as
    /// `N.damaged`; what was never finished is removed, and so is what the writer, had it not been killed, would have.
    ///
    /// # Errors
    /// Where that cannot be.
    pub(crate) fn resumed(run: &Path, plan: CheckpointPlan, iteration: u64) -> Result<Self> {
        let new = Self::new(run, plan);
        let cannot = || format!("cannot put {} in order", new.folder.display());
        let found = iterations(&new.folder).with_context(cannot)?;
        for later in found.into_iter().filter(|found| *found > iteration) {
            let aside = new.folder.join(format!("{later}.damaged"));
            // An earlier one of that name, if any.
            let _ = fs::remove_dir_all(&aside);
            fs::rename(new.folder.join(later.to_string()), aside).with_context(cannot)?;
        }
        clear(&new.folder, plan.keep)?;
        Ok(Self {
            last: Some(iteration),
            ..new
        })
    }

    /// Whether one is to be written after an iteration.
    pub(crate) fn due(&self, iteration: u64) -> bool {
        let every = self.plan.every;
        every.is_some_and(|every| iteration.is_multiple_of(every))
    }

    /// Whether there is one of an iteration, written or being so.
    pub(crate) fn has(&self, iteration: u64) -> bool {
        self.last == Some(iteration)
    }

    /// Begins to write a checkpoint; the one before has to be finished.
    pub(crate) fn write(&mut self, iteration: u64, parts: Vec<(&'static str, Part)>) {
        let (folder, keep) = (self.folder.clone(), self.plan.keep);
        let work = move || write(&folder, iteration, parts).and_then(|()| clear(&folder, keep));
        self.writing = Some(std::thread::spawn(work));
        self.last = Some(iteration);
    }

    /// Waits for the checkpoint that is being written.
    ///
    /// # Errors
    /// Where it cannot be.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        let written = writing.join();
        let written = written.unwrap_or_else(|_| Err(anyhow!("writing a checkpoint panicked")));
        if written.is_err() {
            self.last = None;
        }
        written
    }
}

fn write(folder: &Path, iteration: u64, parts: Vec<(&'static str, Part)>) -> Result<()> {
    let contents = parts
        .into_iter()
        .map(|(name, part)| Ok((name, part.into_bytes()?)));
    let contents: Vec<(&str, Bytes)> = contents.collect::<Result<_>>()?;
    let checksum = |(name, content): &(&str, Bytes)| ((*name).to_owned(), checksum(content));
    let checksums = serde_json::to_vec_pretty(&Contents {
        iteration,
        checksums: contents.iter().map(checksum).collect(),
    })?;
    let path = folder.join(iteration.to_string());
    if path.symlink_metadata().is_ok() {
        // Of a run that was resumed before it.
        fs::remove_dir_all(&path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    let contents = contents.iter().map(|(name, content)| (*name, &**content));
    let checksums = std::iter::once((CHECKSUMS, &*checksums));
    Ok(files::write_folder(&path, contents.chain(checksums))?)
}

/// Removes all but the newest checkpoints, and what is left of those that were never whole.
fn clear(folder: &Path, keep: usize) -> Result<()> {
    let cannot = || format!("cannot remove what is old from {}", folder.display());
    let found = iterations(folder).with_context(cannot)?;
    for iteration in found.into_iter().rev().skip(keep.max(1)) {
        fs::remove_dir_all(folder.join(iteration.to_string())).with_context(cannot)?;
    }
    files::remove_unfinished(folder).with_context(cannot)
}

/// The iterations of the checkpoints in a folder, in order.
fn iterations(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link to one, on another disk, is one.
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_str();
        // Written as it was made, without zeros or a sign before it.
        let number =
            name.and_then(|name| name.parse::<u64>().ok().filter(|n| n.to_string() == name));
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a folder holds checkpoints.
pub(crate) fn has_checkpoints(run: &Path) -> bool {
    iterations(&run.join(FOLDER)).is_ok_and(|found| !found.is_empty())
}

fn checksum(content: &[u8]) -> String {
    format!("{:032x}", xxh3_128(content))
}

impl CheckpointFiles {
    /// The newest whole checkpoint of a run; of others that are newer, what is wrong with them is told to `left_out`.
    ///
    /// # Errors
    /// Where there is none, or none is whole, or the system does not let one be read.
    pub fn newest(
        run: &Path,
        mut left_out: impl FnMut(&CheckpointError),
    ) -> Result<Self, CheckpointError> {
        if !run.is_dir() {
            return Err(CheckpointError::NoFolder {
                folder: run.to_owned(),
            });
        }
        let folder = run.join(FOLDER);
        let none = || CheckpointError::None {
            folder: run.to_owned(),
        };
        let iterations = match iterations(&folder) {
            Ok(iterations) => iterations,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(error) => {
                return Err(CheckpointError::Unreadable {
                    path: folder,
                    error,
                });
            }
        };
        if iterations.is_empty() {
            return Err(none());
        }
        for iteration in iterations.into_iter().rev() {
            match Self::read(&folder, iteration) {
                Err(damaged @ CheckpointError::Damaged { .. }) => left_out(&damaged),
                read => return read,
            }
        }
        Err(CheckpointError::NoneWhole {
            folder: run.to_owned(),
        })
    }

    /// The checkpoint of an iteration in a folder of them.
    fn read(folder: &Path, iteration: u64) -> Result<Self, CheckpointError> {
        let folder = folder.join(iteration.to_string());
        let damaged = |why: &dyn std::fmt::Display| CheckpointError::Damaged {
            path: folder.join(CHECKSUMS),
            why: why.to_string(),
        };
        let contents = read(folder.join(CHECKSUMS))?;
        let contents: Contents =
            serde_json::from_slice(&contents).map_err(|error| damaged(&error))?;
        if contents.iteration != iteration {
            let written = contents.iteration;
            return Err(damaged(&format_args!(
                "it is that of iteration {written}: rename the folder to `{written}`"
            )));
        }
        let mut files = BTreeMap::new();
        for (name, expected) in contents.checksums {
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                return Err(damaged(&format_args!("`{name}` is no name of a file")));
            }
            let path = folder.join(&name);
            let content = read(path.clone())?;
            let found = checksum(&content);
            if found != expected {
                let why = format!("its checksum is {found}, {expected} was written");
                return Err(CheckpointError::Damaged { path, why });
            }
            files.insert(name, Bytes::from_bytes_vec(content));
        }
        let whole = Self { folder, files };
        for name in [RUN, MODEL] {
            whole.get(name)?;
        }
        Ok(whole)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The content of a file.
    ///
    /// # Errors
    /// Where there is no such file.
    pub fn get(&self, name: &str) -> Result<&Bytes, CheckpointError> {
        let found = self.files.get(name);
        found.ok_or_else(|| CheckpointError::Damaged {
            path: self.folder.clone(),
            why: format!("it has no {name}"),
        })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files.values().map(Bytes::len).sum()
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, CheckpointError> {
    let content = match fs::metadata(&path) {
        // A pipe or a device may have no end.
        Ok(found) if !found.is_file() => {
            let why = "it is no file".to_owned();
            return Err(CheckpointError::Damaged { path, why });
        }
        Ok(_) => fs::read(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "it is missing".to_owned();
            return Err(CheckpointError::Damaged { path, why });
        }
        Err(error) => Err(error),
    };
    content.map_err(|error| CheckpointError::Unreadable { path, error })
}
