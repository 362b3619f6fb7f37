//! The figures, for people and for machines.

use std::fmt;

use kfac::{Layers, optim::Phase};
use serde::Serialize;

use super::{
    BenchOptions,
    contestant::{Contestant, Sample},
    flops::{LayerFlops, StepFlops},
};
use crate::{median::median, methods::MethodConfig, precision::Precision, task::TaskName};

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// The task.
    pub task: TaskName,
    /// One line about the data.
    pub data: String,
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

impl BatchBench {
    pub(super) fn new(
        options: &BenchOptions,
        (layers, batch, products): (&Layers, usize, &[f64]),
        contestants: &[Contestant],
    ) -> Self {
        let products_of = layers.iter().filter_map(LayerFlops::of);
        let products_of: Vec<LayerFlops> = products_of.collect();
        let method = |contestant: &Contestant| {
            let config = match &contestant.config {
                MethodConfig::Kfac(config) => config,
                _ => &options.kfac,
            };
            let flops = StepFlops {
                config,
                layers: products_of.clone(),
                cases: batch,
            };
            MethodBench::new(contestant, &flops, options.rounds)
        };
        Self {
            batch,
            product_rate: median(products.iter().map(|rate| rate / 1e9)),
            methods: contestants.iter().map(method).collect(),
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

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
        };
        writeln!(f, "{}, {precision}, {} threads", self.data, self.threads)?;
        writeln!(
            f,
            "medians of {} rounds of {} steps; a phase's time is its mean over a round",
            self.rounds, self.period
        )?;
        self.batches
            .iter()
            .try_for_each(|batch| write!(f, "\n{batch}"))
    }
}

impl fmt::Display for BatchBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.product_rate;
        writeln!(
            f,
            "batch {}; a plain matrix product has {rate:.0} GFLOP/s",
            self.batch
        )?;
        writeln!(
            f,
            "{:26} {:>8} {:>6} {:>7} {:>8} {:>11}",
            "", "ms", "share", "GFLOP", "GFLOP/s", "of product"
        )?;
        for method in &self.methods {
            let mut row = |name: &str, mean: f64, needs: f64| {
                let share = 100.0 * mean / method.mean;
                write!(f, "{name:26} {mean:8.1} {share:5.0}%")?;
                if needs > 0.0 && mean > 0.0 {
                    let reached = 1e3 * needs / mean;
                    let part = 100.0 * reached / rate;
                    write!(f, " {needs:7.2} {reached:8.0} {part:10.0}%")?;
                }
                writeln!(f)
            };
            row(&method.label, method.mean, method.needs)?;
            for phase in &method.phases {
                row(
                    &format!("  {}", phase_name(phase.phase)),
                    phase.mean,
                    phase.needs,
                )?;
            }
            let (median, longest, memory) = (method.median, method.longest, method.memory);
            writeln!(
                f,
                "  median {median:.1} ms, longest {longest:.1} ms ({:.2} of it), {memory:.0} MiB",
                longest / median
            )?;
        }
        self.ratios(f)
    }
}

impl BatchBench {
    /// Each method against the one before it, in time, and against the first, in memory.
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pair in self.methods.windows(2) {
            let [before, this] = pair else { continue };
            writeln!(
                f,
                "{} / {}: {:.2} of the time, {:.2} of the memory",
                this.label,
                before.label,
                this.mean / before.mean,
                this.memory / before.memory
            )?;
        }
        Ok(())
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Gradient => "gradient",
        Phase::CurvaturePass => "curvature pass",
        Phase::FactorUpdate => "factor update",
        Phase::Inverse => "inverse refresh",
        Phase::Proposal => "applying it",
        Phase::QuadraticModel => "quadratic model",
        Phase::Lambda => "lambda",
        Phase::Update => "update",
    }
}
