//! The figures.

use kfac::{Layers, Phase};
use serde::Serialize;

use super::{
    BenchOptions, StatisticsBench,
    contestant::{Contestant, Sample},
    flops::{LayerFlops, StepFlops},
};
use crate::{
    median::median, methods::MethodConfig, precision::Precision, task::TaskName, version::Versions,
};

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// What it was built from.
    pub version: Versions,
    /// The task.
    pub task: TaskName,
    /// One line about the data.
    pub data: String,
    /// Seed of initial weights, batches and sampled targets.
    pub seed: u64,
    /// Precision of the tensors.
    pub precision: Precision,
    /// Number of threads.
    pub threads: usize,
    /// Iterations of a round.
    pub period: u64,
    /// Number of rounds.
    pub rounds: usize,
    /// The figures of each size of the batch.
    pub batches: Vec<BatchBench>,
    /// The same of classifiers: K-FAC in front of another optimizer.
    pub statistics: Vec<StatisticsBench>,
}

/// The figures of one size of the batch.
#[derive(Clone, Debug, Serialize)]
pub struct BatchBench {
    /// Cases of a batch.
    pub batch: usize,
    /// GFLOP/s of a plain matrix product, measured in the same run.
    pub product_rate: f64,
    /// The methods; the first is SGD.
    pub methods: Vec<MethodBench>,
}

/// The figures of one method.
#[derive(Clone, Debug, Serialize)]
pub struct MethodBench {
    /// The method.
    pub label: String,
    /// Milliseconds of a step: the mean over a period, the median over the rounds.
    pub mean: f64,
    /// Milliseconds of the median step.
    pub median: f64,
    /// Milliseconds of the longest step of a period, the median over the rounds.
    pub longest: f64,
    /// The most MiB held at once: model, optimizer, batch and all that a step needs.
    pub memory: f64,
    /// GFLOP that the step's arithmetic needs.
    pub needs: f64,
    /// The phases of K-FAC.
    pub phases: Vec<PhaseBench>,
}

/// The figures of one phase, amortised over the period.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseBench {
    /// The phase.
    pub phase: Phase,
    /// Milliseconds a step: the mean over a period, the median over the rounds.
    pub mean: f64,
    /// GFLOP a step that its arithmetic needs.
    pub needs: f64,
}

/// What was measured with one size of the batch.
pub(super) struct Measured<'a> {
    pub(super) layers: &'a Layers,
    pub(super) batch: usize,
    /// FLOP/s of each plain matrix product.
    pub(super) products: &'a [f64],
    pub(super) contestants: &'a [Contestant],
}

impl BatchBench {
    pub(super) fn new(options: &BenchOptions, measured: &Measured<'_>) -> Self {
        let layers = measured.layers.iter().filter_map(LayerFlops::of);
        let layers: Vec<LayerFlops> = layers.collect();
        let method = |contestant: &Contestant| {
            let config = match &contestant.config {
                MethodConfig::Kfac(config) => config,
                _ => &options.kfac,
            };
            let flops = StepFlops {
                config,
                layers: layers.clone(),
                cases: measured.batch,
                subsets: contestant.mean_subsets(),
            };
            MethodBench::new(contestant, &flops, options.rounds)
        };
        Self {
            batch: measured.batch,
            product_rate: median(measured.products.iter().map(|rate| rate / 1e9)),
            methods: measured.contestants.iter().map(method).collect(),
        }
    }
}

impl MethodBench {
    fn new(contestant: &Contestant, flops: &StepFlops, rounds: usize) -> Self {
        let samples = &contestant.samples;
        let rounds = || samples.chunks((samples.len() / rounds).max(1));
        let milliseconds = |sample: &Sample| 1e3 * sample.seconds;
        let peak = samples.iter().map(|sample| sample.peak).max();
        let phases = samples.iter().all(|sample| sample.phases.is_some());
        let phase = |phase: Phase| {
            let of = |sample: &Sample| 1e3 * sample.phases.map_or(0.0, |times| times.of(phase));
            PhaseBench {
                phase,
                mean: median(rounds().map(|round| mean(round.iter().map(of)))),
                needs: flops.of(phase) / 1e9,
            }
        };
        let needs = if phases {
            flops.total()
        } else {
            flops.gradient()
        };
        Self {
            label: contestant.label.clone(),
            mean: median(rounds().map(|round| mean(round.iter().map(milliseconds)))),
            median: median(samples.iter().map(milliseconds)),
            longest: median(
                rounds().map(|round| round.iter().map(milliseconds).fold(0.0, f64::max)),
            ),
            memory: peak.unwrap_or_default() as f64 / f64::from(1 << 20),
            needs: needs / 1e9,
            phases: Phase::ALL
                .into_iter()
                .filter(|_| phases)
                .map(phase)
                .collect(),
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len();
    values.sum::<f64>() / n as f64
}
