//! What a run is made from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Limit, TrainOptions};
use crate::{
    checkpoint::CheckpointPlan,
    data::FashionPart,
    task::{Task, TaskData},
    version::VERSIONS,
};

/// The file of it in the folder of a run.
pub(super) const CONFIG: &str = "config.json";

/// What `config.json` and each checkpoint hold: all that is needed to repeat the run, and to go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunConfig {
    /// What the command was built from.
    pub version: Value,
    /// The command line; bytes that are no text are told as such.
    pub command: Vec<String>,
    /// Where it is computed.
    pub device: String,
    /// The number of threads, on which the last bits of sums depend.
    pub threads: usize,
    /// One line about the data.
    pub data: String,
    /// Where the data come from.
    pub source: DataSource,
    /// The checkpoints, where it has some.
    pub checkpoints: Option<CheckpointPlan>,
    /// The training.
    #[serde(flatten)]
    pub options: TrainOptions,
}

/// Which cases of a task's data set are taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSource {
    /// Folder of the fetched data sets.
    #[serde(with = "super::path_text")]
    pub folder: PathBuf,
    /// All of Fashion-MNIST instead of the embedded part.
    pub full: bool,
    /// Only the first so many training cases.
    pub cases: Option<usize>,
    /// Part of the training cases that is held out.
    pub hold_out: Option<f64>,
}

impl RunConfig {
    /// The configuration of a run of this process.
    ///
    /// # Errors
    /// Where there is no working directory, from which the folder of the data is found.
    pub fn new(options: TrainOptions, source: DataSource, data: &TaskData) -> Result<Self> {
        let arguments = std::env::args_os();
        let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
        let folder = std::path::absolute(&source.folder);
        let folder = folder.with_context(|| format!("cannot find {}", source.folder.display()))?;
        Ok(Self {
            version: serde_json::to_value(VERSIONS)?,
            command: arguments.collect(),
            device: "flex (CPU)".to_owned(),
            threads: rayon::current_num_threads(),
            data: data.description.clone(),
            source: DataSource { folder, ..source },
            checkpoints: None,
            options,
        })
    }

    /// That of a run's folder.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(CONFIG);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// The first setting, by name, in which another run is not this one; when it ends is none.
    ///
    /// # Errors
    /// Where a setting cannot be written down.
    pub fn first_difference(&self, other: &Self) -> Result<Option<String>> {
        let settings = |config: &Self| {
            let options = TrainOptions {
                limit: Limit::default(),
                ..config.options.clone()
            };
            serde_json::to_value(options)
        };
        let [own, others] = [settings(self)?, settings(other)?];
        Ok(difference(&own, &others))
    }

    /// The same with checkpoints.
    #[must_use]
    pub fn with_checkpoints(self, plan: CheckpointPlan) -> Self {
        Self {
            checkpoints: Some(plan),
            ..self
        }
    }
}

/// The path to the first value that is not the same in both; empty where they have no fields in common.
fn difference(own: &Value, other: &Value) -> Option<String> {
    if own == other {
        return None;
    }
    let (Some(own), Some(other)) = (own.as_object(), other.as_object()) else {
        return Some(String::new());
    };
    let mut within = own.iter().filter_map(|(name, value)| {
        let path = difference(value, other.get(name).unwrap_or(&Value::Null))?;
        Some(match path.as_str() {
            "" => name.clone(),
            path => format!("{name}.{path}"),
        })
    });
    Some(within.next().unwrap_or_default())
}

impl DataSource {
    /// Loads the data of a task.
    ///
    /// # Errors
    /// As [`Task::load`].
    pub fn load(&self, task: &Task, seed: u64) -> Result<TaskData> {
        let fashion = if self.full {
            FashionPart::Full
        } else {
            FashionPart::Embedded
        };
        let mut data = task.load(&self.folder, fashion, seed)?;
        if let Some(cases) = self.cases {
            data.keep_first(cases);
        }
        if let Some(fraction) = self.hold_out {
            data.hold_out(fraction);
        }
        Ok(data)
    }
}
