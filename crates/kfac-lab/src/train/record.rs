//! The run folder: everything that a run leaves behind.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use burn::{
    module::Module,
    store::{ModuleSnapshot, SafetensorsStore},
};
use kfac::{ObserveReport, PreconditionReport, StepReport};
use serde::{Deserialize, Serialize};

use super::{config::CONFIG, evaluate::Evaluation};
use crate::{checkpoint::has_checkpoints, files, methods::StepSummary, network::Model};

/// A line of `steps.jsonl`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// The iteration; zero is the initial point.
    pub iteration: u64,
    /// Epochs so far, where batches come in such.
    #[serde(default)]
    pub epoch: Option<f64>,
    /// Cases of the batch.
    pub batch_size: usize,
    /// Seconds of training so far, evaluations not counted.
    pub seconds: f64,
    /// The objective on the batch before the step.
    pub objective: Option<f64>,
    /// Objective and error after the step, where they were evaluated.
    pub evaluation: Option<Evaluation>,
    /// K-FAC's report.
    pub kfac: Option<StepReport>,
    /// The reports of K-FAC in front of another optimizer.
    #[serde(default)]
    pub preconditioned: Option<(ObserveReport, PreconditionReport)>,
}

impl StepRecord {
    pub(super) fn new(iteration: u64, batch_size: usize, seconds: f64, step: StepSummary) -> Self {
        let objective = Some(step.objective);
        Self {
            iteration,
            epoch: None,
            batch_size,
            seconds,
            objective,
            evaluation: None,
            kfac: step.kfac,
            preconditioned: step.preconditioned,
        }
    }
}

/// The file with a line for each step.
const STEPS: &str = "steps.jsonl";

/// A folder for one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    steps: BufWriter<File>,
}

impl RunFolder {
    /// Makes `path`, or, without one, the first free folder `runs/NAME-1`, `runs/NAME-2`, ...
    ///
    /// # Errors
    /// Where the folder cannot be made, or already holds a run.
    pub fn create(path: Option<&Path>, name: &str) -> Result<Self> {
        let path = output_folder(path, name)?;
        if has_checkpoints(&path) {
            bail!(
                "{} holds checkpoints of a run: give another folder with --out",
                path.display()
            );
        }
        let steps = path.join(STEPS);
        let steps = File::create_new(&steps).with_context(|| {
            format!(
                "cannot make {}: give another folder with --out",
                steps.display()
            )
        })?;
        Self::locked(path, steps)
    }

    /// Opens the folder of a run that goes on after an iteration, with the steps until then. What follows them in
    /// the file is cut off: it is made again, or is part of a line.
    ///
    /// # Errors
    /// Where another process writes to the run, or the steps cannot be read or written.
    pub fn reopen(path: &Path, iteration: u64) -> Result<(Self, Vec<StepRecord>)> {
        let file = path.join(STEPS);
        let cannot = || format!("cannot open {}", file.display());
        let options = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(&file);
        let mut folder = Self::locked(path.to_owned(), options.with_context(cannot)?)?;
        let text = fs::read(&file).with_context(cannot)?;
        let kept = kept_bytes(&text, iteration);
        let steps = folder.steps.get_mut();
        steps.set_len(kept as u64).with_context(cannot)?;
        if kept > 0 && text[kept - 1] != b'\n' {
            writeln!(steps).with_context(cannot)?;
        }
        Ok((folder, steps_of(&text[..kept])))
    }

    fn locked(path: PathBuf, steps: File) -> Result<Self> {
        match steps.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self {
                path,
                steps: BufWriter::new(steps),
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "another process is writing to {}: wait until it has ended",
                path.display()
            ),
        }
    }

    /// Has all steps so far on the disk.
    ///
    /// # Errors
    /// Where that fails.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.steps.get_ref().sync_data();
        synced.with_context(|| format!("cannot write to {}", self.path.display()))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        Ok(files::write_json(&self.path.join(CONFIG), config)?)
    }

    /// Writes a model as `best.bpk`, Burn's own form, and as `best.safetensors`.
    ///
    /// # Errors
    /// Where one cannot be written.
    pub(super) fn keep_best(&self, model: &Model) -> Result<()> {
        let own = self.path.join("best.bpk");
        let saved = model.clone().save_file(&own);
        saved.map_err(|error| anyhow!("cannot write {}: {error}", own.display()))?;
        let common = self.path.join("best.safetensors");
        let mut store = SafetensorsStore::from_file(&common).overwrite(true);
        let saved = model.save_into(&mut store);
        saved.map_err(|error| anyhow!("cannot write {}: {error}", common.display()))
    }

    /// Writes settings and steps once more where somebody has removed them in mid-run.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn complete(&self, config: &impl Serialize, steps: &[StepRecord]) -> Result<()> {
        let file = self.path.join(STEPS);
        if file.exists() {
            return Ok(());
        }
        eprintln!("{} is gone: it is written once more", file.display());
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        self.write_config(config)?;
        Ok(files::write(&file, |file| {
            let mut steps = steps.iter();
            steps.try_for_each(|step| write_line(file, step))
        })?)
    }

    /// Appends a line to `steps.jsonl`.
    pub(super) fn append(&mut self, record: &StepRecord) -> Result<()> {
        write_line(&mut self.steps, record)
            .and_then(|()| self.steps.flush())
            .with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

/// The steps of a run.
///
/// # Errors
/// Where they cannot be read.
pub fn read_steps(run: &Path) -> Result<Vec<StepRecord>> {
    let file = run.join(STEPS);
    let text = fs::read(&file);
    let text = text.with_context(|| format!("cannot open {}", file.display()))?;
    Ok(steps_of(&text))
}

fn write_line(file: &mut impl Write, step: &StepRecord) -> io::Result<()> {
    serde_json::to_writer(&mut *file, step)?;
    writeln!(file)
}

/// The lines that are steps.
fn steps_of(text: &[u8]) -> Vec<StepRecord> {
    let lines = text.split(|byte| *byte == b'\n');
    let steps = lines.filter_map(|line| serde_json::from_slice(line).ok());
    steps.collect()
}

/// The bytes until the end of the last line of a step that is not after an iteration.
fn kept_bytes(text: &[u8], iteration: u64) -> usize {
    #[derive(Deserialize)]
    struct Numbered {
        iteration: u64,
    }
    let mut kept = 0;
    let mut end = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if let Ok(Numbered { iteration: found }) = serde_json::from_slice(line)
            && found <= iteration
        {
            kept = end;
        }
    }
    kept
}

/// Makes `path`, or, without one, the first free folder `runs/NAME-1`, `runs/NAME-2`, ...
///
/// # Errors
/// Where the folder cannot be made.
pub fn output_folder(path: Option<&Path>, name: &str) -> Result<PathBuf> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => free_folder(Path::new("runs"), name)?,
    };
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn free_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    for number in 1u32.. {
        let path = parent.join(format!("{name}-{number}"));
        match fs::exists(&path) {
            Ok(false) => return Ok(path),
            Ok(true) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look for {}", path.display()));
            }
        }
    }
    anyhow::bail!("no free folder in {}", parent.display())
}
