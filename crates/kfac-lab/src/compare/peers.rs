//! Other programs on the same problem: kfac-jax and PyTorch, by the Python programs in `peers/`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::train::StepRecord;

/// A program with its settings.
#[derive(Clone, Debug)]
pub enum Peer {
    /// kfac-jax with the settings of its own autoencoder example.
    KfacJax {
        /// Cases of a batch.
        batch: usize,
    },
    /// Nesterov's accelerated gradient with Sutskever's schedule, in PyTorch.
    TorchNag {
        /// Learning rate.
        rate: f64,
        /// Cases of a batch.
        batch: usize,
    },
    /// PyTorch's Adam.
    TorchAdam {
        /// Learning rate.
        rate: f64,
        /// Cases of a batch.
        batch: usize,
    },
}

impl Peer {
    /// The name in tables and pictures.
    pub fn label(&self) -> String {
        match self {
            Self::KfacJax { batch } => format!("kfac-jax, batch {batch}"),
            Self::TorchNag { rate, .. } => format!("PyTorch NAG {rate}"),
            Self::TorchAdam { rate, .. } => format!("PyTorch Adam {rate}"),
        }
    }

    fn arguments(&self, problem: &Path) -> Vec<OsString> {
        let first_order = |method: &str, rate: &f64, batch: &usize| {
            let rate = format!("--rate={rate}");
            (
                "first_order.py",
                vec![method.to_owned(), rate, format!("--batch={batch}")],
            )
        };
        let (program, settings) = match self {
            Self::KfacJax { batch } => ("second_order.py", vec![format!("--batch={batch}")]),
            Self::TorchNag { rate, batch } => first_order("nag", rate, batch),
            Self::TorchAdam { rate, batch } => first_order("adam", rate, batch),
        };
        let mut arguments = vec![program.into(), problem.into()];
        arguments.extend(settings.into_iter().map(OsString::from));
        arguments
    }
}

/// How long a program runs.
#[derive(Clone, Copy, Debug)]
pub struct PeerLimits {
    /// Seconds of training, evaluations not counted.
    pub seconds: f64,
    /// Seconds of training between evaluations.
    pub every: f64,
    /// Seed of batches and sampled targets.
    pub seed: u64,
}

/// The file of the initial weights of a seed in the folder of the problem.
pub fn initial_weights(seed: u64) -> String {
    format!("init-{seed}.npy")
}

/// The folder of the programs and of their Python.
#[derive(Clone, Debug)]
pub struct PeerPrograms {
    folder: PathBuf,
    python: PathBuf,
}

impl PeerPrograms {
    /// The programs in `folder`.
    ///
    /// # Errors
    /// Where their Python is not installed there, with the command that installs it.
    pub fn find(folder: &Path) -> Result<Self> {
        let python = folder.join(".venv/bin/python");
        ensure!(
            python.exists(),
            "{} is missing: run {} (needs Python 3.11)",
            python.display(),
            folder.join("install").display()
        );
        Ok(Self {
            python: std::path::absolute(python)?,
            folder: folder.to_owned(),
        })
    }

    /// Runs a program on an exported problem, and reads the steps that it leaves in `out`.
    ///
    /// # Errors
    /// Where it cannot be started, fails, or leaves something else.
    pub fn run(
        &self,
        peer: &Peer,
        problem: &Path,
        limits: &PeerLimits,
        out: &Path,
    ) -> Result<Vec<StepRecord>> {
        let (problem, out) = (std::path::absolute(problem)?, std::path::absolute(out)?);
        let threads = rayon::current_num_threads().to_string();
        let status = Command::new(&self.python)
            .current_dir(&self.folder)
            .args(peer.arguments(&problem))
            .arg(format!("--seconds={}", limits.seconds))
            .arg(format!("--every={}", limits.every))
            .arg(format!("--seed={}", limits.seed))
            .arg(format!("--init={}", initial_weights(limits.seed)))
            .arg("--out")
            .arg(&out)
            .env("OMP_NUM_THREADS", threads)
            .status()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        ensure!(status.success(), "{} failed: {status}", peer.label());
        read_steps(&out.join("steps.jsonl"))
    }
}

fn read_steps(path: &Path) -> Result<Vec<StepRecord>> {
    let malformed = || format!("{}: not the steps of a run", path.display());
    let text = fs::read_to_string(path).with_context(malformed)?;
    let steps = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>();
    steps.with_context(malformed)
}
