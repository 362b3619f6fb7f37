//! A problem as files that other programs can read: network, loss, data and initial weights.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::{
    files::{self, WriteError},
    initialise::{self, LayerWeights},
    loss::Loss,
    network::Activation,
    npy,
    task::{Rows, Task, TaskData},
    train::EvaluationCases,
};

/// What the file `problem.json` names itself.
const FORMAT: &str = "kfac problem 1";

/// What to write.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The task.
    pub task: Task,
    /// Initial weights from a file.
    pub init: Option<PathBuf>,
    /// Seed of the initial weights, where there is no file.
    pub seed: u64,
}

/// `problem.json`.
#[derive(Debug, Serialize)]
struct Description<'a> {
    format: &'static str,
    task: &'static str,
    data: &'a str,
    widths: &'a [usize],
    /// The nonlinearities of the hidden layers.
    hidden: &'a [Activation],
    loss: Loss,
    /// Weight η of `½ η ‖θ‖²` on all parameters, beside the mean loss of the cases.
    l2: f64,
    seed: u64,
}

/// Writes `problem.json`, `init.npy` (for each layer W, row-major `[d_out, d_in]`, then b), and
/// `train_inputs.npy`, `test_inputs.npy`, with `…_targets.npy` where the targets are not the inputs.
///
/// # Errors
/// Where the network has other than dense layers, the initial weights cannot be read, or a file cannot be
/// written.
pub fn write(options: &ExportOptions, data: &TaskData, folder: &Path) -> Result<()> {
    let task = &options.task;
    let (widths, hidden) = task.architecture.dense()?;
    write_initial(options, &folder.join("init.npy"))?;
    write_rows(&data.train, folder, "train")?;
    write_rows(&data.test, folder, "test")?;
    let description = Description {
        format: FORMAT,
        task: task.label(),
        data: &data.description,
        widths,
        hidden,
        loss: task.loss,
        l2: task.l2,
        seed: options.seed,
    };
    Ok(files::write_json(
        &folder.join("problem.json"),
        &description,
    )?)
}

/// Writes the initial weights alone.
///
/// # Errors
/// As [`write()`].
pub fn write_initial(options: &ExportOptions, path: &Path) -> Result<()> {
    let dense = options.task.architecture.dense()?;
    let weights = initialise::initial_weights(dense, options.init.as_deref(), options.seed)?;
    Ok(initialise::write(path, &LayerWeights::values(&weights))?)
}

/// Writes which cases are evaluated between the start and the end of a run, counted from zero, as
/// `train_evaluated.npy` and `test_evaluated.npy`; without these files all are.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_evaluated(cases: EvaluationCases, data: &TaskData, folder: &Path) -> Result<()> {
    if cases == EvaluationCases::All {
        return Ok(());
    }
    for (part, rows) in [("train", &data.train), ("test", &data.test)] {
        let picked = cases.picked(rows.len()).into_iter();
        let picked: Vec<u32> = picked.map(|case| case as u32).collect();
        let path = folder.join(format!("{part}_evaluated.npy"));
        npy::write(&path, &[picked.len()], &picked)?;
    }
    Ok(())
}

fn write_rows(rows: &Rows, folder: &Path, part: &str) -> Result<(), WriteError> {
    let path = |what: &str| folder.join(format!("{part}_{what}.npy"));
    npy::write(&path("inputs"), &[rows.len(), rows.d_in], &rows.inputs)?;
    match &rows.targets {
        Some(targets) => npy::write(&path("targets"), &[rows.len(), rows.d_out], targets),
        None => Ok(()),
    }
}
