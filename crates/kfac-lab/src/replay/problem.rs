//! The problem of a case: network, data, initial weights.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use kfac::BatchSchedule;
use serde::Deserialize;

use super::case::Case;
use crate::{
    initialise::{self, LayerWeights},
    loss::Loss,
    network::Activation,
    npy,
};

/// Data, network and initial weights of a case.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) inputs: Matrix,
    pub(super) targets: Matrix,
    pub(super) weights: Vec<LayerWeights>,
    pub(super) hidden: Vec<Activation>,
    pub(super) loss: Loss,
    pub(super) batches: Batches,
}

/// Rows of numbers, `[len, features]` row-major.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) features: usize,
    pub(super) values: Vec<f64>,
}

/// How the batches are made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Batches {
    /// All cases in stored order.
    Full,
    /// Random batches of a scheduled size.
    Random(BatchSchedule),
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the names of the format")]
struct DataFile {
    widths: Vec<usize>,
    activations: Vec<String>,
    loss: String,
    X: Vec<Vec<f64>>,
    T: Option<Vec<Vec<f64>>>,
    init: Init,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the names of the format")]
struct Init {
    W: Vec<Vec<Vec<f64>>>,
    b: Vec<Vec<f64>>,
}

impl Matrix {
    fn new(rows: &[Vec<f64>], features: usize, what: &str) -> Result<Self> {
        ensure!(
            rows.iter().all(|row| row.len() == features),
            "{what}: expected rows of {features} values"
        );
        Ok(Self {
            features,
            values: rows.concat(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.features
    }
}

impl Problem {
    /// Reads the files beside a case.
    pub(super) fn read(case: &Case, path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        match case.config.m_start {
            Some(initial) => stochastic(case, folder, initial),
            None => deterministic(&folder.join(format!("{}_data.json", case.problem))),
        }
    }
}

fn deterministic(path: &Path) -> Result<Problem> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let data: DataFile = serde_json::from_str(&text)
        .with_context(|| format!("{}: not the data of a problem", path.display()))?;
    let name = path.display().to_string();
    let layers = data.widths.len().saturating_sub(1);
    ensure!(
        layers > 0 && data.init.W.len() == layers && data.init.b.len() == layers,
        "{name}: expected {layers} layers of initial weights, found {} and {}",
        data.init.W.len(),
        data.init.b.len()
    );
    let weights = data
        .widths
        .windows(2)
        .zip(data.init.W.iter().zip(&data.init.b));
    let weights = weights
        .map(|(w, (weight, bias))| {
            let (d_in, d_out) = (w[0], w[1]);
            let matrix = Matrix::new(weight, d_in, &name)?;
            ensure!(
                matrix.len() == d_out && bias.len() == d_out,
                "{name}: expected {d_out} rows and biases, found {} and {}",
                matrix.len(),
                bias.len()
            );
            Ok(LayerWeights {
                d_in,
                d_out,
                weight: matrix.values,
                bias: bias.clone(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let inputs = Matrix::new(&data.X, data.widths[0], &name)?;
    let targets = match &data.T {
        Some(rows) => Matrix::new(rows, data.widths[layers], &name)?,
        None => inputs.clone(),
    };
    ensure!(
        inputs.len() == targets.len(),
        "{name}: expected as many rows in T as in X"
    );
    let (hidden, loss) = network(&data.activations, &data.loss)?;
    Ok(Problem {
        inputs,
        targets,
        weights,
        hidden,
        loss,
        batches: Batches::Full,
    })
}

fn stochastic(case: &Case, folder: &Path, initial: usize) -> Result<Problem> {
    let config = &case.config;
    let (Some(widths), Some(activations), Some(loss)) =
        (&config.widths, &config.activations, &config.loss)
    else {
        bail!("a case with m_start needs widths, activations and loss in its config");
    };
    let path = folder.join(format!("{}_X.npy", case.problem));
    let array = npy::read(&path)?;
    ensure!(
        array.shape.len() == 2 && array.shape[1] == widths[0],
        "{}: expected shape [n, {}], found {:?}",
        path.display(),
        widths[0],
        array.shape
    );
    let seed = config.octave_seed.unwrap_or(1);
    let init = folder.join(format!("{}_init_seed{seed}.npy", case.problem));
    let weights = initialise::read(&init, widths)?;
    let inputs = Matrix {
        features: widths[0],
        values: array.values,
    };
    let (hidden, loss) = network(activations, loss)?;
    let full_at = config.m_end_at.unwrap_or(500);
    let batches = Batches::Random(BatchSchedule::Exponential { initial, full_at });
    Ok(Problem {
        targets: inputs.clone(),
        inputs,
        weights,
        hidden,
        loss,
        batches,
    })
}

/// The hidden nonlinearities and the loss; the output's nonlinearity belongs to the loss.
fn network(activations: &[String], loss: &str) -> Result<(Vec<Activation>, Loss)> {
    let output = activations.last().map_or("linear", String::as_str);
    let loss = match (loss, output) {
        ("bernoulli", _) | (_, "logistic") => Loss::Bernoulli,
        ("softmax" | "multinomial" | "categorical", _) | (_, "softmax") => Loss::Categorical,
        (_, "linear") => Loss::Gaussian,
        (loss, output) => bail!("loss {loss} with {output} outputs: not known"),
    };
    let hidden = activations[..activations.len().saturating_sub(1)].iter();
    let hidden = hidden.map(|name| match name.as_str() {
        "logistic" => Ok(Activation::Logistic),
        "tanh" => Ok(Activation::Tanh),
        "linear" => Ok(Activation::Linear),
        other => bail!("activation {other}: expected logistic, tanh or linear"),
    });
    Ok((hidden.collect::<Result<_>>()?, loss))
}
