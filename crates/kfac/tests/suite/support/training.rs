//! Configurations whose steps can be compared, and steps with them.

use burn::tensor::Tensor;
use kfac::{
    Batch, Cases, FisherEstimate, Kfac, KfacConfig, Loss, Network, PhaseTimes,
    PredictiveDistribution, StepReport,
};

/// Whole-batch statistics and model with the exact Fisher: nothing is sampled.
pub(crate) fn exact_config() -> KfacConfig {
    KfacConfig::paper()
        .with_l2(0.01)
        .with_initial_lambda(0.5)
        .with_model_fraction(Some(1.0))
        .map_curvature(|curvature| {
            curvature
                .with_statistics_fraction(Some(1.0))
                .with_fisher(FisherEstimate::Exact)
        })
}

/// The same with sampled targets.
pub(crate) fn sampled_config() -> KfacConfig {
    exact_config().map_curvature(|curvature| curvature.with_fisher(FisherEstimate::MonteCarlo))
}

/// An optimizer for the model and its first steps on one batch.
pub(crate) fn run<M, L>(
    config: &KfacConfig,
    loss: L,
    model: &mut M,
    batch: &Batch<Tensor<2>>,
    steps: usize,
) -> (Kfac<L>, Vec<StepReport>)
where
    M: Network<Input = Tensor<2>, Output = Tensor<2>>,
    L: PredictiveDistribution + Clone,
{
    let mut optimizer = config.init(model, loss, &batch.inputs).unwrap();
    let reports = (0..steps)
        .map(|_| optimizer.step(model, batch).unwrap())
        .collect();
    (optimizer, reports)
}

/// The model after some steps on one batch, their reports, and the optimizer.
pub(crate) fn trained<M, T, L>(
    mut optimizer: Kfac<L>,
    mut model: M,
    batch: &Batch<M::Input, T>,
    steps: usize,
) -> (Kfac<L>, M, Vec<StepReport>)
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T>,
{
    let step = |_| optimizer.step(&mut model, batch).unwrap();
    let reports = (0..steps).map(step).collect();
    (optimizer, model, reports)
}

/// The reports without what depends on the clock.
pub(crate) fn without_times(reports: &[StepReport]) -> Vec<StepReport> {
    let without = |report: &StepReport| {
        let mut report = report.clone();
        report.times = PhaseTimes::default();
        report
    };
    reports.iter().map(without).collect()
}
