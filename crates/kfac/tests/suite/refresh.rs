//! Is an inverse that is worked out ahead the one that it claims to be, and in time?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Batch, Gaussian, InverseStructure, Kfac, KfacConfig, KroneckerFactors, ParameterVector,
    RefreshTiming, StepReport,
};

use crate::support::{
    self, Activation, Mlp, Spec, assert_close, bits, damped, dense, exact_config, solve,
};

/// Two solves with small damped matrices.
const ROUNDING: f64 = 1e-11;

const SPEC: Spec<'static> = Spec::new(&[3, 4, 2], Activation::Tanh);
const INVERSE_PERIOD: u64 = 8;
const GAMMA_PERIOD: u64 = 16;

fn config(timing: RefreshTiming) -> KfacConfig {
    exact_config()
        .map_curvature(|c| c.with_inverse_period(INVERSE_PERIOD))
        .with_gamma_period(GAMMA_PERIOD)
        .map_curvature(|c| c.with_refresh_timing(timing))
}

/// A run whose batches change, so that every iteration has other factors.
struct Run {
    model: Mlp,
    optimizer: Kfac<Gaussian>,
}

impl Run {
    fn new(config: &KfacConfig) -> Self {
        let model = SPEC.model(1);
        let optimizer = config.init(&model, Gaussian, &batch(1).inputs).unwrap();
        Self { model, optimizer }
    }

    fn step(&mut self) -> StepReport {
        let batch = batch(self.optimizer.iteration() + 1);
        self.optimizer.step(&mut self.model, &batch).unwrap()
    }
}

fn batch(iteration: u64) -> Batch<Tensor<2>> {
    SPEC.batch(&Gaussian, 9, iteration)
}

/// `(Ā + π γ I)⁻¹ V (G + γ/π I)⁻¹`.
fn product(factors: &KroneckerFactors, v: &Tensor<2>, (gamma, pi): (f64, f64)) -> Mat<f64> {
    let activation = damped(&dense(&factors.activation), pi * gamma);
    let gradient = damped(&dense(&factors.gradient), gamma / pi);
    let left = solve(&activation, &dense(v));
    solve(&gradient, &left.transpose().to_owned())
        .transpose()
        .to_owned()
}

#[test]
fn an_inverse_made_ahead_is_that_of_the_factors_when_its_refresh_began() {
    let mut run = Run::new(&config(RefreshTiming::Ahead));
    let mut began = Vec::new();
    for iteration in 1..=2 * GAMMA_PERIOD {
        let report = run.step();
        let candidates = if iteration % GAMMA_PERIOD == 0 { 3 } else { 1 };
        if iteration.is_multiple_of(INVERSE_PERIOD) {
            let factors: &Vec<KroneckerFactors> = &began[iteration as usize - 1 - candidates];
            assert_eq!(report.gamma_candidates.len(), candidates);
            assert_is_inverse_of(&run, factors, &report);
        }
        began.push(
            run.optimizer
                .factors()
                .kronecker()
                .into_iter()
                .cloned()
                .collect(),
        );
    }
}

fn assert_is_inverse_of(run: &Run, factors: &[KroneckerFactors], report: &StepReport) {
    let parameters = run.optimizer.layers().parameters(&run.model);
    let vector: ParameterVector = support::random_vector(&parameters, 7);
    let found = run.optimizer.inverse().unwrap().multiply(&vector);
    let pi = report.pi.as_ref().unwrap();
    for (layer, factors) in factors.iter().enumerate() {
        let damping = (report.gamma, pi[layer]);
        let expected = product(factors, &vector.blocks()[layer], damping);
        let what = format!("iteration {}, layer {layer}", report.iteration);
        assert_close(&what, &dense(&found.blocks()[layer]), &expected, ROUNDING);
    }
}

#[test]
fn refreshes_take_effect_in_the_same_iterations() {
    for structure in [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ] {
        let of = |timing| Run::new(&config(timing).map_curvature(|c| c.with_structure(structure)));
        let (mut ahead, mut at_once) = (of(RefreshTiming::Ahead), of(RefreshTiming::AtOnce));
        for iteration in 1..=2 * GAMMA_PERIOD {
            let (ahead, at_once) = (ahead.step(), at_once.step());
            assert_eq!(ahead.refreshed, at_once.refreshed, "iteration {iteration}");
            assert_eq!(
                ahead.gamma_candidates.len(),
                at_once.gamma_candidates.len(),
                "iteration {iteration}"
            );
        }
        assert_ne!(bits(&ahead.model), bits(&at_once.model), "no older inverse");
    }
}

#[test]
fn without_iterations_to_work_ahead_in_the_work_is_done_at_once() {
    let of = |timing| {
        let mut run = Run::new(
            &config(timing)
                .map_curvature(|c| c.with_inverse_period(1))
                .with_gamma_period(1)
                .map_curvature(|c| c.with_initial_refreshes(1)),
        );
        for _ in 0..9 {
            run.step();
        }
        bits(&run.model)
    };
    assert_eq!(of(RefreshTiming::Ahead), of(RefreshTiming::AtOnce));
}
