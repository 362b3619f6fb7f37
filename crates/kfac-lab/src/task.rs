//! What can be trained: the paper's three autoencoders (section 13) and smaller companions.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use kfac::{Batch, BatchSchedule};
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, Cases, FashionPart, Source},
    loss::Loss,
    network::{Activation, Architecture},
    precision::Precision,
};

/// A task by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Deep autoencoder of generated curves, 784-400-200-100-50-25-6-...: nothing to download
    #[default]
    Curves,
    /// Deep autoencoder of MNIST, 784-1000-500-250-30-...: needs `data/fetch mnist`
    Mnist,
    /// Deep autoencoder of faces, 625-2000-1000-500-30-...: needs `data/fetch faces`
    Faces,
    /// The MNIST autoencoder on Fashion-MNIST: an embedded part, all with --full
    Fashion,
    /// Classifier of 8x8 digits, 64-50-30-10: embedded
    Digits,
    /// Autoencoder of 8x8 digits, 64-40-20-6-...: embedded
    DigitsAutoencoder,
    /// Convolutional classifier (LeNet, also: convnet) of Fashion-MNIST: an embedded part, all with --full
    #[value(aliases = ["convnet", "lenet"])]
    FashionLenet,
    /// Transformer encoder that classifies Fashion-MNIST: an embedded part, all with --full
    #[value(alias = "encoder")]
    FashionEncoder,
    /// Residual network with 20 layers that classifies Fashion-MNIST: an embedded part, all with --full
    #[value(name = "fashion-resnet20", alias = "resnet20")]
    FashionResnet20,
}

/// A task: network, loss, settings, but no data yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// What the network is built of.
    pub architecture: Architecture,
    /// The loss.
    pub loss: Loss,
    /// What the targets are.
    pub targets: Targets,
    /// Weight η of the penalty.
    pub l2: f64,
    /// First λ.
    pub initial_lambda: f64,
    /// Sizes of K-FAC's batches.
    pub schedule: BatchSchedule,
    /// Size of the first-order methods' batches.
    pub first_order_batch: usize,
    /// Iterations of K-FAC where the user sets no limit.
    pub iterations: u64,
}

/// What the targets of a task are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// The inputs: an autoencoder.
    Inputs,
    /// The classes, one-hot.
    Classes,
}

/// The data of a task: inputs and targets, row-major.
#[derive(Clone, Debug)]
pub struct TaskData {
    /// One line about the data.
    pub description: String,
    /// The training cases.
    pub train: Rows,
    /// The test cases.
    pub test: Rows,
    /// Cases that were held out of the training, to choose by.
    pub held_out: Option<Rows>,
}

impl TaskData {
    /// Keeps the first training cases.
    pub fn keep_first(&mut self, cases: usize) {
        if cases < self.train.len() {
            self.train.split_off(cases);
            let first = format!(", the first {cases} of the training cases");
            self.description.push_str(&first);
        }
    }

    /// Holds the last part of the training cases out of the training, at least one and not all.
    pub fn hold_out(&mut self, fraction: f64) {
        let cases = self.train.len();
        let held_out = ((fraction * cases as f64) as usize).clamp(1, cases.max(2) - 1);
        self.held_out = Some(self.train.split_off(cases - held_out));
        self.description = format!("{}, {held_out} held out", self.description);
    }
}

/// Inputs and targets of some cases.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Inputs, `[len, inputs]`.
    pub inputs: Vec<f32>,
    /// Targets, `[len, outputs]`; `None` where they are the inputs.
    pub targets: Option<Vec<f32>>,
    /// Number of inputs.
    pub d_in: usize,
    /// Number of outputs.
    pub d_out: usize,
}

impl Rows {
    /// The number of cases.
    pub fn len(&self) -> usize {
        self.inputs.len() / self.d_in
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Takes the cases from a number on off.
    fn split_off(&mut self, cases: usize) -> Self {
        let (d_in, d_out) = (self.d_in, self.d_out);
        let targets = self.targets.as_mut();
        Self {
            inputs: self.inputs.split_off(cases * d_in),
            targets: targets.map(|targets| targets.split_off(cases * d_out)),
            d_in,
            d_out,
        }
    }

    /// Some cases, in the order given.
    pub(crate) fn picked(&self, picked: &[usize]) -> Self {
        let gather = |values: &[f32], features: usize| {
            let mut gathered = Vec::with_capacity(picked.len() * features);
            for row in picked {
                gathered.extend_from_slice(&values[row * features..(row + 1) * features]);
            }
            gathered
        };
        let targets = self.targets.as_ref();
        Self {
            inputs: gather(&self.inputs, self.d_in),
            targets: targets.map(|targets| gather(targets, self.d_out)),
            d_in: self.d_in,
            d_out: self.d_out,
        }
    }

    /// Some cases as tensors, in the order given.
    pub fn batch(&self, picked: &[usize], place: (&Device, Precision)) -> Batch<Tensor<2>> {
        self.changed_batch(picked, |_| {}, place)
    }

    /// The same with the inputs changed, row after row.
    pub(crate) fn changed_batch(
        &self,
        picked: &[usize],
        change: impl FnOnce(&mut [f32]),
        (device, precision): (&Device, Precision),
    ) -> Batch<Tensor<2>> {
        let matrix = |values, features| precision.matrix(values, [picked.len(), features], device);
        let Self {
            mut inputs,
            targets,
            d_in,
            d_out,
        } = self.picked(picked);
        change(&mut inputs);
        let inputs = matrix(inputs, d_in);
        let targets = match targets {
            Some(targets) => matrix(targets, d_out),
            None => inputs.clone(),
        };
        Batch::new(inputs, targets)
    }

    pub(crate) fn new(cases: Cases, targets: Targets, d_out: usize) -> Self {
        let one_hot = |labels: &Vec<u8>| {
            let mut rows = vec![0.0; labels.len() * d_out];
            for (case, label) in labels.iter().enumerate() {
                rows[case * d_out + usize::from(*label)] = 1.0;
            }
            rows
        };
        let targets = match targets {
            Targets::Inputs => None,
            Targets::Classes => cases.labels.as_ref().map(one_hot),
        };
        Self {
            d_in: cases.features,
            d_out,
            inputs: cases.values,
            targets,
        }
    }
}

fn architecture(name: TaskName) -> Architecture {
    match name {
        TaskName::Curves => autoencoder(&[784, 400, 200, 100, 50, 25, 6]),
        TaskName::Mnist | TaskName::Fashion => autoencoder(&[784, 1000, 500, 250, 30]),
        TaskName::Faces => autoencoder(&[625, 2000, 1000, 500, 30]),
        TaskName::DigitsAutoencoder => autoencoder(&[64, 40, 20, 6]),
        TaskName::Digits => Architecture::Dense {
            widths: vec![64, 50, 30, 10],
            hidden: vec![Activation::Logistic; 2],
        },
        TaskName::FashionLenet => Architecture::LeNet,
        TaskName::FashionEncoder => Architecture::Encoder,
        TaskName::FashionResnet20 => Architecture::ResNet,
    }
}

/// An autoencoder with this encoder: logistic, with a linear code.
fn autoencoder(encoder: &[usize]) -> Architecture {
    let code = encoder.len() - 1;
    let widths: Vec<usize> = encoder
        .iter()
        .chain(encoder.iter().rev().skip(1))
        .copied()
        .collect();
    let hidden = (1..widths.len() - 1).map(|layer| {
        if layer == code {
            Activation::Linear
        } else {
            Activation::Logistic
        }
    });
    Architecture::Dense {
        hidden: hidden.collect(),
        widths,
    }
}

impl Task {
    /// The task of a name.
    pub fn new(name: TaskName) -> Self {
        let architecture = architecture(name);
        let base = Self {
            name,
            architecture,
            loss: Loss::Bernoulli,
            targets: Targets::Inputs,
            l2: 1e-5,
            initial_lambda: 150.0,
            schedule: BatchSchedule::Automatic,
            first_order_batch: 500,
            iterations: 200,
        };
        match name {
            TaskName::Curves => Self {
                first_order_batch: 250,
                iterations: 250,
                ..base
            },
            TaskName::Mnist | TaskName::Fashion => base,
            // The authors' code halves η with the loss: ½ ‖y − z‖² instead of ‖y − z‖².
            TaskName::Faces => Self {
                loss: Loss::Gaussian,
                l2: 0.5e-5,
                iterations: 100,
                ..base
            },
            TaskName::Digits => base.classifying(),
            TaskName::DigitsAutoencoder => Self {
                first_order_batch: 50,
                iterations: 400,
                ..base
            },
            TaskName::FashionLenet | TaskName::FashionEncoder | TaskName::FashionResnet20 => Self {
                l2: 1e-4,
                iterations: 60,
                ..base.classifying()
            },
        }
    }

    /// The task with the settings of a small classifier.
    fn classifying(self) -> Self {
        Self {
            loss: Loss::Categorical,
            targets: Targets::Classes,
            initial_lambda: 1.0,
            first_order_batch: 50,
            ..self
        }
    }

    /// The task with the batches of the paper's experiments, where it is one of them.
    #[must_use]
    pub fn as_in_the_paper(self) -> Self {
        let schedule = match self.name {
            TaskName::Curves | TaskName::Mnist | TaskName::Faces | TaskName::Fashion => {
                BatchSchedule::PAPER
            }
            TaskName::Digits
            | TaskName::DigitsAutoencoder
            | TaskName::FashionLenet
            | TaskName::FashionEncoder
            | TaskName::FashionResnet20 => self.schedule,
        };
        Self { schedule, ..self }
    }

    /// Loads the data; fetched sets are looked for in `folder`.
    ///
    /// # Errors
    /// Where a set has not been fetched, with the command that fetches it, or is malformed.
    pub fn load(&self, folder: &Path, fashion: FashionPart, seed: u64) -> Result<TaskData> {
        let source = match self.name {
            TaskName::Curves => Source::Curves { seed },
            TaskName::Mnist => Source::Mnist,
            TaskName::Faces => Source::Faces { seed },
            TaskName::Fashion
            | TaskName::FashionLenet
            | TaskName::FashionEncoder
            | TaskName::FashionResnet20 => Source::Fashion(fashion),
            TaskName::Digits | TaskName::DigitsAutoencoder => Source::Digits,
        };
        let set = data::load(source, folder)?;
        let d_out = self.architecture.outputs();
        Ok(TaskData {
            description: set.description,
            train: Rows::new(set.train, self.targets, d_out),
            test: Rows::new(set.test, self.targets, d_out),
            held_out: None,
        })
    }

    /// Whether it is one of the classifiers that are usually trained on mini-batches.
    pub fn is_classifier(&self) -> bool {
        !matches!(self.architecture, Architecture::Dense { .. })
    }

    /// The name as it is typed.
    pub fn label(&self) -> &'static str {
        match self.name {
            TaskName::Curves => "curves",
            TaskName::Mnist => "mnist",
            TaskName::Faces => "faces",
            TaskName::Fashion => "fashion",
            TaskName::Digits => "digits",
            TaskName::DigitsAutoencoder => "digits-autoencoder",
            TaskName::FashionLenet => "fashion-lenet",
            TaskName::FashionEncoder => "fashion-encoder",
            TaskName::FashionResnet20 => "fashion-resnet20",
        }
    }
}
