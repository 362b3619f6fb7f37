//! What K-FAC costs in front of another optimizer, beside a forward and backward pass.

use std::{fmt, time::Instant};

use anyhow::Result;
use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use kfac::{
    Batch, DampingScheme, Eigenvalues, Network, Preconditioner, PreconditionerConfig, Tape,
    WeightSharing,
};
use serde::Serialize;

use super::BenchOptions;
use crate::{
    loss::Distribution, median::median, methods::mean_gradients, network::Model, task::TaskData,
    text_table::NumberTable, train::Batches,
};

/// The costs with one size of the batch.
#[derive(Clone, Debug, Serialize)]
pub struct StatisticsBench {
    /// Cases of a batch.
    pub batch: usize,
    /// Milliseconds of a forward and backward pass over it, the median over the rounds.
    pub pass: f64,
    /// The costs of each kind of statistics.
    pub kinds: Vec<StatisticsCost>,
}

/// The costs of one kind of statistics, in milliseconds, medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct StatisticsCost {
    /// The kind.
    pub kind: Kind,
    /// Passes of the whole batch.
    pub passes: f64,
    /// Second moments and running averages.
    pub factors: f64,
    /// A refresh of the inverse.
    pub refresh: f64,
    /// Gradients preconditioned.
    pub precondition: f64,
    /// What all of it adds to a step, by the schedule of the settings.
    pub a_step: f64,
}

/// A kind of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Kronecker factors, each position on its own.
    Expand,
    /// Kronecker factors, positions together.
    Reduce,
    /// Corrected eigenvalues.
    Corrected,
}

/// A preconditioner that is measured.
struct Measured {
    kind: Kind,
    config: PreconditionerConfig,
    kfac: Preconditioner<Distribution>,
    samples: Vec<[f64; 4]>,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Expand, Self::Reduce, Self::Corrected];

    fn name(self) -> &'static str {
        match self {
            Self::Expand => "K-FAC, expand",
            Self::Reduce => "K-FAC, reduce",
            Self::Corrected => "EKFAC",
        }
    }

    /// The settings that it is used with.
    fn config(self) -> PreconditionerConfig {
        let config = PreconditionerConfig::new();
        config.map_curvature(|curvature| match self {
            Self::Expand => curvature.with_weight_sharing(WeightSharing::Expand),
            Self::Reduce => curvature.with_weight_sharing(WeightSharing::Reduce),
            Self::Corrected => {
                let refresh = 10 * curvature.statistics_period;
                curvature
                    .with_damping(DampingScheme::ExactTikhonov)
                    .with_eigenvalues(Eigenvalues::PerCase)
                    .with_inverse_period(refresh)
            }
        })
    }
}

impl Measured {
    fn new(kind: Kind, model: &Model, loss: &Distribution, example: &Tensor<2>) -> Result<Self> {
        let config = kind.config();
        // Each second observation of the whole batch refreshes the inverse.
        let each = config.clone().map_curvature(|curvature| {
            curvature
                .with_statistics_fraction(Some(1.0))
                .with_statistics_period(1)
                .with_inverse_period(2)
                .with_initial_refreshes(1)
        });
        Ok(Self {
            kind,
            config,
            kfac: each.init(model, loss.clone(), example)?,
            samples: Vec::new(),
        })
    }

    /// An observation with a refresh, one without, and gradients preconditioned.
    fn measure(
        &mut self,
        model: &Model,
        batch: &Batch<Tensor<2>>,
        gradients: GradientsParams,
    ) -> Result<()> {
        let refreshed = self.kfac.observe(model, batch)?.times;
        let observed = self.kfac.observe(model, batch)?.times;
        let applied = self.kfac.precondition(model, gradients, 0.1)?.report;
        self.samples.push([
            observed.curvature_pass,
            observed.factor_update,
            refreshed.inverse,
            applied.seconds,
        ]);
        Ok(())
    }

    fn cost(&self) -> StatisticsCost {
        let of = |at: usize| 1e3 * median(self.samples.iter().map(|sample| sample[at]));
        let [passes, factors, refresh, precondition] = [of(0), of(1), of(2), of(3)];
        let curvature = &self.config.curvature;
        let of_batch = curvature.statistics_fraction.unwrap_or(1.0) * (passes + factors);
        let a_step = of_batch / curvature.statistics_period as f64
            + refresh / curvature.inverse_period as f64
            + precondition;
        StatisticsCost {
            kind: self.kind,
            passes,
            factors,
            refresh,
            precondition,
            a_step,
        }
    }
}

/// Measures a forward and backward pass over a batch, and each kind of statistics, in turn.
///
/// # Errors
/// Where a batch is refused.
pub(super) fn run(options: &BenchOptions, data: &TaskData, size: usize) -> Result<StatisticsBench> {
    let device = Device::flex();
    let place = (device.clone(), options.precision);
    let mut batches = Batches::new(&data.train, options.seed, place);
    let task = &options.task;
    let place = (&device.autodiff(), options.precision);
    let model = task.architecture.build((None, options.seed), place)?;
    let loss = task.loss.distribution();
    let example = batches.rows(&[0]).inputs;
    let kinds = Kind::ALL.iter();
    let mut measured = kinds
        .map(|kind| Measured::new(*kind, &model, &loss, &example))
        .collect::<Result<Vec<_>>>()?;
    let mut passes = Vec::new();
    for round in 0..=options.rounds {
        let batch = batches.next(size);
        let (seconds, _) = pass(&model, &loss, &batch);
        passes.push(seconds);
        for kind in &mut measured {
            let (_, gradients) = pass(&model, &loss, &batch);
            kind.measure(&model, &batch, gradients)?;
            if round == 0 {
                kind.samples.clear(); // the first touches memory
            }
        }
    }
    Ok(StatisticsBench {
        batch: size,
        pass: 1e3 * median(passes.into_iter().skip(1)),
        kinds: measured.iter().map(Measured::cost).collect(),
    })
}

/// Seconds of a plain training pass, and its gradients.
fn pass(model: &Model, loss: &Distribution, batch: &Batch<Tensor<2>>) -> (f64, GradientsParams) {
    let start = Instant::now();
    let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
    let gradients = mean_gradients(model, loss, (outputs, batch));
    (start.elapsed().as_secs_f64(), gradients)
}

impl fmt::Display for StatisticsBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "batch {}; a forward and backward pass takes {:.1} ms, and all else is in such passes",
            self.batch, self.pass
        )?;
        let header = [
            "",
            "passes",
            "moments",
            "statistics",
            "a refresh",
            "applying it",
            "a step, by the schedule",
        ];
        let mut table = NumberTable::new(header);
        for cost in &self.kinds {
            let parts = [
                cost.passes,
                cost.factors,
                cost.passes + cost.factors,
                cost.refresh,
                cost.precondition,
                cost.a_step,
            ];
            let cells = parts.map(|milliseconds| format!("{:.2}", milliseconds / self.pass));
            let name = cost.kind.name().to_owned();
            table.add(std::iter::once(name).chain(cells));
        }
        write!(f, "{table}")
    }
}
