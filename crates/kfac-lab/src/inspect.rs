//! What a checkpoint tells of a run.

use std::fmt;

use anyhow::{Result, anyhow};
use burn::tensor::Device;
use faer::Side;
use kfac::{
    FactorKind, RecordedFactor, RecordedState, blocks::FactorForm, record::OptimizerRecord,
};
use serde::Serialize;

use crate::{
    checkpoint::CheckpointFiles,
    matrix,
    methods::KFAC,
    text_table::NumberTable,
    train::{Evaluation, RunPoint, StepRecord},
};

/// A run at its newest checkpoint.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The folder of the checkpoint.
    pub checkpoint: String,
    /// Task and method.
    pub run: String,
    /// Iterations so far.
    pub iterations: u64,
    /// Iterations planned, where that is what limits the run.
    pub planned: Option<u64>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The objective of the last batch.
    pub objective: Option<f64>,
    /// The last evaluation.
    pub evaluation: Option<Evaluation>,
    /// Bytes of all files.
    pub bytes: usize,
    /// K-FAC's state; `None` for other methods.
    pub kfac: Option<KfacInspection>,
}

/// K-FAC's state.
#[derive(Debug, Serialize)]
pub struct KfacInspection {
    /// λ.
    pub lambda: f64,
    /// γ.
    pub gamma: f64,
    /// Batches in the averages of the factors.
    pub updates: u64,
    /// The factors of each layer.
    pub factors: Vec<FactorInspection>,
}

/// A factor of a layer.
#[derive(Debug, Serialize)]
pub struct FactorInspection {
    /// The parameters of the layer.
    pub parameters: Vec<String>,
    /// `activation`, `gradient`, or `block` where the block is no product.
    pub kind: FactorKind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The least eigenvalue.
    pub smallest: f64,
    /// The largest eigenvalue.
    pub largest: f64,
    /// `largest / smallest`; `None` for a factor that is singular to double precision.
    pub condition: Option<f64>,
    /// `exp(−Σ p log p)`, with p the eigenvalues over their sum: as many equal ones would have that entropy.
    pub effective_rank: f64,
    /// Bytes that the running estimate takes.
    pub bytes: usize,
}

impl Inspection {
    /// What a checkpoint, and the steps of its run, tell.
    ///
    /// # Errors
    /// Where its files are of another version.
    pub fn new(files: &CheckpointFiles, steps: &[StepRecord]) -> Result<Self> {
        let RunPoint { config, state } = RunPoint::of(files)?;
        let steps = steps
            .iter()
            .filter(|step| step.iteration <= state.iteration);
        let kfac = files.get(KFAC).ok().map(|file| {
            let record = OptimizerRecord::from_bytes(file.clone())?;
            KfacInspection::new(&record)
        });
        let options = config.options;
        Ok(Self {
            checkpoint: files.folder().display().to_string(),
            run: format!("{}: {}", options.task.label(), options.method.label()),
            iterations: state.iteration,
            planned: options.limit.iterations,
            seconds: state.seconds,
            objective: steps.clone().filter_map(|step| step.objective).next_back(),
            evaluation: steps.rev().find_map(|step| step.evaluation),
            bytes: files.bytes(),
            kfac: kfac.transpose()?,
        })
    }
}

impl KfacInspection {
    fn new(record: &OptimizerRecord) -> Result<Self> {
        let state: RecordedState = record.inspect(&Device::flex())?;
        let element = record.parameters().first();
        let element = element.map_or(4, |row| row.bytes_per_element);
        let factors = state.factors.iter();
        let factors = factors.map(|factor| FactorInspection::new(factor, element));
        Ok(Self {
            lambda: state.lambda,
            gamma: state.gamma,
            updates: state.updates,
            factors: factors.collect::<Result<_>>()?,
        })
    }
}

impl FactorInspection {
    fn new(factor: &RecordedFactor, element: usize) -> Result<Self> {
        let shape = factor.tensor.dims();
        let eigenvalues = match factor.form {
            FactorForm::Diagonal => matrix::values(&factor.tensor),
            FactorForm::SecondMoment => {
                let found = matrix::of_tensor(&factor.tensor).self_adjoint_eigenvalues(Side::Lower);
                found.map_err(|error| {
                    anyhow!(
                        "the eigenvalues of a factor of {:?}: {error:?}",
                        factor.parameters
                    )
                })?
            }
        };
        let smallest = eigenvalues.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
        let regular = smallest > largest * f64::EPSILON;
        Ok(Self {
            parameters: factor.parameters.clone(),
            kind: factor.kind,
            shape,
            smallest,
            largest,
            condition: regular.then(|| largest / smallest),
            effective_rank: effective_rank(&eigenvalues),
            bytes: shape[0] * shape[1] * element,
        })
    }
}

/// The exponential of the entropy of eigenvalues (Roy and Vetterli 2007); zero where all are.
fn effective_rank(eigenvalues: &[f64]) -> f64 {
    let positive = eigenvalues.iter().copied().filter(|value| *value > 0.0);
    let sum: f64 = positive.clone().sum();
    if sum == 0.0 {
        return 0.0;
    }
    let entropy: f64 = positive.map(|value| value / sum).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.run)?;
        let planned = self.planned.map(|planned| format!(" of {planned}"));
        writeln!(
            f,
            "{}: {}{} iterations, {:.1} s of training, {:.1} MiB",
            self.checkpoint,
            self.iterations,
            planned.unwrap_or_default(),
            self.seconds,
            mebibytes(self.bytes)
        )?;
        if let Some(objective) = self.objective {
            writeln!(f, "objective of the last batch: {objective:.5}")?;
        }
        if let Some(evaluation) = self.evaluation {
            writeln!(
                f,
                "last evaluation: objective {:.5}, error {:.5}, of the test cases {:.5}",
                evaluation.train_objective, evaluation.train_error, evaluation.test_error
            )?;
        }
        self.kfac.iter().try_for_each(|kfac| write!(f, "{kfac}"))
    }
}

impl fmt::Display for KfacInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "λ {:.4e}, γ {:.4e}, factors of {} batches",
            self.lambda, self.gamma, self.updates
        )?;
        let mut table = NumberTable::new([
            "parameters",
            "factor",
            "size",
            "eigenvalues from",
            "to",
            "condition",
            "effective rank",
            "MiB",
        ]);
        for factor in &self.factors {
            table.add(factor.row());
        }
        write!(f, "{table}")
    }
}

impl FactorInspection {
    fn row(&self) -> Vec<String> {
        let kind = match self.kind {
            FactorKind::Activation => "activation",
            FactorKind::Gradient => "gradient",
            FactorKind::Block => "block",
        };
        let [rows, columns] = self.shape;
        let condition = self.condition.map(|condition| format!("{condition:.1e}"));
        vec![
            self.parameters.join(", "),
            kind.to_owned(),
            format!("{rows} x {columns}"),
            format!("{:.1e}", self.smallest),
            format!("{:.1e}", self.largest),
            condition.unwrap_or_else(|| "singular".to_owned()),
            format!("{:.1}", self.effective_rank),
            format!("{:.2}", mebibytes(self.bytes)),
        ]
    }
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_eigenvalues_count_each_and_one_alone_counts_one() {
        for (eigenvalues, expected) in [
            (vec![2.0; 5], 5.0),
            (vec![0.0, 3.0, 0.0], 1.0),
            (vec![0.0; 3], 0.0),
            (vec![-1e-20, 1.0, 1.0], 2.0),
        ] {
            let found = effective_rank(&eigenvalues);
            assert!((found - expected).abs() < 1e-12, "{eigenvalues:?}: {found}");
        }
    }
}
