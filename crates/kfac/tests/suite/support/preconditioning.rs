//! The preconditioner that the suites about it share: its settings, network and batches.

use burn::tensor::Tensor;
use kfac::{
    Batch, CoveragePolicy, DampingScheme, Eigenvalues, FisherEstimate, Gaussian, Preconditioner,
    PreconditionerConfig,
};

use super::{Activation, Mlp, Spec};

pub(crate) const SPEC: Spec<'static> = Spec::new(&[3, 4, 2], Activation::Tanh);
pub(crate) const LAMBDA: f64 = 0.01;

pub(crate) fn config() -> PreconditionerConfig {
    PreconditionerConfig::new()
        .with_lambda(LAMBDA)
        .with_kl_clip(None)
        .with_kl_clip_cases(None)
        .map_curvature(|c| {
            c.with_fisher(FisherEstimate::Exact)
                .with_statistics_period(1)
                .with_statistics_cap(0.95)
                .with_initial_refreshes(1)
                .with_coverage(CoveragePolicy::Report)
        })
}

pub(crate) fn exact_damping() -> PreconditionerConfig {
    config().map_curvature(|c| c.with_damping(DampingScheme::ExactTikhonov))
}

pub(crate) fn ekfac() -> PreconditionerConfig {
    exact_damping().map_curvature(|c| c.with_eigenvalues(Eigenvalues::PerCase))
}

pub(crate) fn batch(seed: u64) -> Batch<Tensor<2>> {
    SPEC.batch(&Gaussian, 9, seed)
}

pub(crate) fn preconditioner(
    config: &PreconditionerConfig,
    model: &Mlp,
) -> Preconditioner<Gaussian> {
    config.init(model, Gaussian, &batch(1).inputs).unwrap()
}
