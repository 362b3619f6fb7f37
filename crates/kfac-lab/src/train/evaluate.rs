//! Objective and error on many cases.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use kfac::{Batch, Network, Tape};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    loss::Loss,
    matrix,
    network::Model,
    precision::Precision,
    task::{Rows, TaskData},
};

/// Cases evaluated at once.
const CHUNK: usize = 5000;

/// Objective and error of a model on training and test cases, all or a sample of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The training objective, the penalty included.
    #[serde(deserialize_with = "number")]
    pub train_objective: f64,
    /// Mean error of the training cases.
    #[serde(deserialize_with = "number")]
    pub train_error: f64,
    /// Mean error of the test cases.
    #[serde(deserialize_with = "number")]
    pub test_error: f64,
    /// Mean loss of the test cases.
    #[serde(default)]
    pub test_loss: Option<f64>,
    /// Mean error of the cases that were held out of the training, where some were.
    #[serde(default)]
    pub held_out_error: Option<f64>,
}

/// A number; JSON has none that is not finite, and writes `null`.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

impl Evaluation {
    /// Evaluates a model.
    pub fn new(
        model: &Model,
        (loss, l2): (Loss, f64),
        data: &TaskData,
        place: (&Device, Precision),
    ) -> Self {
        let model = model.valid();
        let (train_loss, train_error) = means(&model, loss, &data.train, place);
        let (test_loss, test_error) = means(&model, loss, &data.test, place);
        let held_out = data.held_out.as_ref();
        let held_out = held_out.map(|rows| means(&model, loss, rows, place).1);
        let train_objective = train_loss + 0.5 * l2 * squared_norm(&model);
        Self {
            train_objective,
            train_error,
            test_error,
            test_loss: Some(test_loss),
            held_out_error: held_out,
        }
    }
}

fn means(model: &Model, loss: Loss, rows: &Rows, place: (&Device, Precision)) -> (f64, f64) {
    let (mut total_loss, mut total_error) = (0.0, 0.0);
    let distribution = loss.distribution();
    let all: Vec<usize> = (0..rows.len()).collect();
    for chunk in all.chunks(CHUNK) {
        let Batch { inputs, targets } = rows.batch(chunk, place);
        let outputs = model.forward(inputs, &mut Tape::off());
        total_error += loss.error(outputs.clone(), targets.clone());
        total_loss += matrix::sum(distribution.negative_log_likelihood(outputs, targets));
    }
    let cases = rows.len() as f64;
    (total_loss / cases, total_error / cases)
}

/// `‖θ‖²` over all parameters, biases included.
fn squared_norm(model: &Model) -> f64 {
    struct SquaredNorm(f64);
    impl ModuleVisitor for SquaredNorm {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val().inner();
            self.0 += matrix::sum(value.clone() * value);
        }
    }
    let mut norm = SquaredNorm(0.0);
    model.visit(&mut norm);
    norm.0
}
