//! The example network, trained part of the way.

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use faer::Mat;
use kfac::KfacConfig;
use serde::{Deserialize, Serialize};

use super::FiguresOptions;
use crate::{
    data::{self, Source},
    initialise::{self, LayerWeights},
    loss::Loss,
    network::{Activation, Mlp},
    precision::Precision,
    task::{Rows, Targets},
};

/// The widths of the example (section 3.1).
const WIDTHS: [usize; 7] = [256, 20, 20, 20, 20, 20, 10];
/// The side of the images.
const SIDE: usize = 16;
/// At most so many cases are used: the matrices are means over them and all ten targets.
const MAX_CASES: usize = 2_000;
/// Training stops once at most this part of the cases is misclassified.
const TRAINED_TO: f64 = 0.05;
/// Most iterations; the digits need about ten.
const MAX_ITERATIONS: u64 = 200;

/// Which digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DigitSource {
    /// The embedded digits of 8 x 8 pixels, enlarged
    Digits,
    /// MNIST, reduced: needs `data/fetch mnist`
    Mnist,
}

/// The network where training stopped.
pub(super) struct Trained {
    pub(super) weights: Vec<LayerWeights>,
    /// The inputs of the cases, `[n, 256]`.
    pub(super) inputs: Mat<f64>,
    pub(super) iterations: u64,
    /// The part of the cases that is misclassified.
    pub(super) error: f64,
}

/// Trains on all cases at once until few are misclassified.
pub(super) fn partly_trained(options: &FiguresOptions) -> Result<Trained> {
    let source = match options.digits {
        DigitSource::Digits => Source::Digits,
        DigitSource::Mnist => Source::Mnist,
    };
    let mut cases = data::load(source, &options.data)?.train.resized(SIDE);
    cases.truncate(MAX_CASES);
    let rows = Rows::new(cases, Targets::Classes, 10);
    let (device, precision) = (Device::flex(), Precision::F64);
    let all: Vec<usize> = (0..rows.len()).collect();
    let batch = rows.batch(&all, (&device, precision));
    let hidden = vec![Activation::Tanh; WIDTHS.len() - 2];
    let weights = initialise::sparse(&WIDTHS, &hidden, options.seed);
    let mut model = Mlp::new(&weights, hidden, (&device.clone().autodiff(), precision));
    let config = KfacConfig::paper()
        .with_initial_lambda(1.0)
        .map_curvature(|curvature| {
            curvature
                .with_statistics_fraction(Some(1.0))
                .with_seed(options.seed)
        })
        .with_model_fraction(Some(1.0));
    let mut optimizer = config.init(&model, Loss::Categorical.distribution(), &batch.inputs)?;
    let misclassified = |model: &Mlp| {
        let outputs = kfac::Network::forward(
            &burn::module::Module::valid(model),
            batch.inputs.clone(),
            &mut kfac::Tape::off(),
        );
        Loss::Categorical.error(outputs, batch.targets.clone()) / rows.len() as f64
    };
    let mut error = misclassified(&model);
    while error > TRAINED_TO && optimizer.iteration() < MAX_ITERATIONS {
        optimizer.step(&mut model, &batch).context("training")?;
        error = misclassified(&model);
    }
    ensure!(
        error <= TRAINED_TO,
        "{MAX_ITERATIONS} iterations left {error} of the cases misclassified, expected at most {TRAINED_TO}"
    );
    let pixel = |i: usize, j: usize| f64::from(rows.inputs[i * rows.d_in + j]);
    Ok(Trained {
        weights: model.weights(),
        inputs: Mat::from_fn(rows.len(), rows.d_in, pixel),
        iterations: optimizer.iteration(),
        error,
    })
}
