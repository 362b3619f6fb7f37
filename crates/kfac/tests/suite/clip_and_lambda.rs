//! Do the KL clip and λ of a preconditioner follow the optimizer behind it?

use std::sync::Arc;

use burn::{
    module::Module,
    optim::{ModuleOptimizer, SgdConfig},
    tensor::Tensor,
};
use kfac::{
    Batch, ConfigFault, Gaussian, LambdaAction, Preconditioner, StepError,
    damping::{LevenbergMarquardt, ScheduledLambda},
};

use crate::support::preconditioning::{LAMBDA, SPEC, batch, config, preconditioner};
use crate::support::{self, Activation, Mlp, ROUNDING, Spec, assert_near, gradients};

fn observed(kl_clip: Option<f64>, model: &Mlp) -> Preconditioner<Gaussian> {
    let mut kfac = preconditioner(&config().with_kl_clip(kl_clip), model);
    kfac.observe(model, &batch(1)).unwrap();
    kfac
}

#[test]
fn the_clip_is_in_units_of_the_largest_rate() {
    let model = SPEC.model(1);
    let kappa = 1e-6;
    let mut kfac = observed(Some(kappa), &model);
    let mut report = |rate: f64| {
        let gradients = gradients(&model, &batch(2));
        kfac.precondition(&model, gradients, rate).unwrap().report
    };
    let first = report(0.1);
    assert!(first.clipped());
    let bound = kappa.sqrt() / (0.1 * first.squared_fisher_norm.sqrt());
    assert_near("ν", first.nu, bound, ROUNDING);
    assert_near("a longer rate", report(0.4).nu, bound / 4.0, ROUNDING);
    // A lower rate shortens the step: it is not clipped less.
    assert_near("a lower rate", report(0.01).nu, bound / 4.0, ROUNDING);
    assert_near("a rate of zero", report(0.0).nu, bound / 4.0, ROUNDING);

    let mut free = observed(None, &model);
    let plain = free.precondition(&model, gradients(&model, &batch(2)), 1e6);
    assert!(!plain.unwrap().report.clipped());
    for rate in [-0.1, f64::NAN, f64::INFINITY] {
        let refused = free.precondition(&model, gradients(&model, &batch(2)), rate);
        assert!(matches!(refused, Err(StepError::Rate { .. })), "{rate}");
    }
}

#[test]
fn settings_change_during_training_or_stay_as_they_were() {
    let model = SPEC.model(1);
    let mut kfac = observed(None, &model);
    kfac.set_lambda(0.5).unwrap();
    kfac.set_kl_clip(Some(0.25)).unwrap();
    kfac.set_periods(3, 6).unwrap();
    let curvature = &kfac.config().curvature;
    let periods = (curvature.statistics_period, curvature.inverse_period);
    assert_eq!(
        (kfac.lambda(), kfac.config().kl_clip, periods),
        (0.5, Some(0.25), (3, 6))
    );
    let reports: Vec<_> = (2..=7)
        .map(|call| kfac.observe(&model, &batch(call)).unwrap())
        .collect();
    let taken: Vec<_> = reports.iter().map(|r| (r.cases > 0, r.refreshed)).collect();
    let (no, statistics, both) = ((false, false), (true, false), (true, true));
    assert_eq!(taken, [no, no, statistics, no, no, both]);
    assert_near("λ", reports[5].lambda, 0.5, ROUNDING);

    let before = kfac.config().clone();
    assert!(kfac.set_lambda(0.0).is_err());
    assert!(kfac.set_kl_clip(Some(-1.0)).is_err());
    let fault = kfac.set_periods(2, 3).unwrap_err();
    assert!(matches!(fault, ConfigFault::InversePeriod { .. }));
    assert_eq!(*kfac.config(), before);
}

#[test]
fn a_schedule_gives_each_observation_its_lambda() {
    let model = SPEC.model(1);
    let rule = ScheduledLambda(|observation: u64| 1.0 / observation as f64);
    let mut kfac = preconditioner(&config(), &model).with_lambda_rule(Arc::new(rule));
    for call in 1..=4 {
        let report = kfac.observe(&model, &batch(call)).unwrap();
        assert_near("λ", report.lambda, 1.0 / call as f64, ROUNDING);
    }
}

/// A linear model: the loss is quadratic, and the Fisher its curvature.
const LINEAR: Spec<'static> = Spec::new(&[3, 2], Activation::Tanh);

fn adapted(rate: f64) -> (kfac::LambdaReport, f64) {
    let start = LINEAR.model(1);
    let batch: Batch<Tensor<2>> = LINEAR.batch(&Gaussian, 9, 2);
    let rule = LevenbergMarquardt {
        initial: LAMBDA,
        omega: 0.5,
        period: 1,
        bounds: [1e-8, 1e8],
    };
    let config = config().map_curvature(|c| c.with_inverse_period(1));
    let kfac = config.init(&start, Gaussian, &batch.inputs).unwrap();
    let mut kfac = kfac.with_lambda_rule(Arc::new(rule));
    let layers = kfac.layers().clone();
    let mut sgd: ModuleOptimizer = SgdConfig::new().init();
    kfac.observe(&start, &batch).unwrap();
    let step = kfac.precondition(&start, gradients(&start, &batch), rate);
    let moved = sgd.step(rate, start.clone(), step.unwrap().gradients);
    let report = kfac.adapt(&start, &moved, &batch).unwrap().unwrap();
    // A step is judged once.
    assert_eq!(kfac.adapt(&start, &moved, &batch), Ok(None));
    assert_near("λ", kfac.lambda(), report.after, ROUNDING);

    let loss = support::objective(&layers, &Gaussian, 0.0);
    let value = |model: &Mlp| {
        let model = model.valid().train();
        loss.value(&model, &layers.parameters(&model), &batch)
            .unwrap()
    };
    let change = value(&moved) - value(&start);
    let step = layers
        .parameters(&moved)
        .add_scaled(&layers.parameters(&start), -1.0);
    // The quadratic model is exact but for its damping.
    let ratio = change / (change + 0.5 * LAMBDA * step.dot(&step));
    (report, ratio)
}

/// The derivatives of the linear model are exact, the objective has the size of one.
const RATIO: f64 = 1e-8;

#[test]
fn lambda_follows_what_the_steps_of_the_optimizer_behind_do() {
    let (report, ratio) = adapted(0.5);
    assert_near("ρ", report.reduction_ratio.unwrap(), ratio, RATIO);
    assert_eq!(report.action, Some(LambdaAction::Decrease));
    assert_near("λ", report.after, 0.5 * LAMBDA, ROUNDING);

    let (report, _) = adapted(10.0);
    assert_eq!(report.action, Some(LambdaAction::Increase), "the loss rose");
    assert_near("λ", report.after, 2.0 * LAMBDA, ROUNDING);
}
