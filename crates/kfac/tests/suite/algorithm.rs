//! Does each step do what Algorithm 2 says: when, on which cases, and with which numbers?

use burn::tensor::{Tensor, TensorData};
use faer::Mat;
use kfac::{
    Batch, FisherEstimate, Gaussian, InverseStructure, KfacConfig, LambdaAction, Momentum, Network,
    PredictiveDistribution, RandomStream, StepOutcome, StepReport, Subsets, Tape,
    damping::gamma_candidates,
};

use crate::support::exact;
use crate::support::{
    self, Activation, Spec, assert_near, bits, column, damped, exact_config, inner, run,
};

/// Sums of some hundred double precision products.
const ROUNDING: f64 = 1e-11;
/// Conjugate gradients amplify rounding by the condition number of the system, here about 1e3.
const CONJUGATE: f64 = 1e-9;
/// Steps whose λ is a billionth of the curvature.
const NEGLIGIBLE: f64 = 1e-9;

const SPEC: Spec<'static> = Spec::new(&[3, 4, 2], Activation::Tanh);
/// A period that never comes.
const NEVER: u64 = 1 << 40;

/// The inverse of the first iteration for good, and λ out of the way.
fn fixed_preconditioner() -> KfacConfig {
    exact_config()
        .map_curvature(|c| c.with_initial_refreshes(1).with_inverse_period(NEVER))
        .with_gamma_period(NEVER)
        .with_lambda_period(NEVER)
        .with_initial_lambda(1e-13)
}

/// Textbook preconditioned conjugate gradients on `½ xᵀ H x − bᵀ x`; the iterates after the start.
fn conjugate_gradients(
    h: &Mat<f64>,
    residual: Mat<f64>,
    start: Mat<f64>,
    precondition: impl Fn(&Mat<f64>) -> Mat<f64>,
) -> Vec<Mat<f64>> {
    let (mut x, mut r) = (start, residual);
    let mut z = precondition(&r);
    let mut p = z.clone();
    let mut iterates = Vec::new();
    for _ in 0..8 {
        let hp = h * &p;
        let old = inner(&r, &z);
        let alpha = old / inner(&p, &hp);
        x = &x + &p * faer::Scale(alpha);
        r = &r - &hp * faer::Scale(alpha);
        z = precondition(&r);
        p = &z + &p * faer::Scale(inner(&r, &z) / old);
        iterates.push(x.clone());
    }
    iterates
}

#[test]
fn momentum_on_a_quadratic_is_preconditioned_conjugate_gradients() {
    let spec = Spec::new(&[5, 4], Activation::Linear);
    let mut model = spec.model(1);
    let batch = spec.batch(&Gaussian, 30, 2);
    // A poor preconditioner (few cases, gradients of the targets) leaves eight steps to take.
    let config = fixed_preconditioner().map_curvature(|c| {
        c.with_statistics_fraction(Some(0.2))
            .with_subsets(Subsets::First)
            .with_fisher(FisherEstimate::Empirical)
    });
    let mut optimizer = config.init(&model, Gaussian, &batch.inputs).unwrap();
    let layers = optimizer.layers().clone();
    let start = layers.parameters(&model);
    let h = damped(
        &exact::fisher(&model, &layers, &Gaussian, &batch),
        config.l2,
    );
    let objective = support::objective(&layers, &Gaussian, config.l2);
    let (_, gradient) = objective.gradient(&model, &start, &batch).unwrap();
    let mut found = Vec::new();
    for _ in 0..8 {
        optimizer.step(&mut model, &batch).unwrap();
        found.push(column(&layers.parameters(&model)));
    }
    let inverse = optimizer.inverse().unwrap();
    let precondition = |r: &Mat<f64>| column(&inverse.multiply(&support::vector(r, &start)));
    let residual = column(&gradient) * faer::Scale(-1.0);
    let expected = conjugate_gradients(&h, residual.clone(), column(&start), precondition);
    let travelled = (&expected[7] - column(&start)).norm_l2();
    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).norm_l2() / travelled;
        assert!(error < CONJUGATE, "step {}: {error:e}", k + 1);
    }
    // The last steps must matter, or the comparison would say nothing about momentum.
    assert!((&expected[7] - &expected[6]).norm_l2() > 1e3 * CONJUGATE * travelled);
}

#[test]
fn refreshes_searches_and_updates_of_lambda_come_in_their_periods() {
    let config = exact_config()
        .with_lambda_period(3)
        .map_curvature(|c| c.with_inverse_period(4))
        .with_gamma_period(8)
        .with_gamma_max(None);
    let mut model = SPEC.model(1);
    let (_, reports) = run(
        &config,
        Gaussian,
        &mut model,
        &SPEC.batch(&Gaussian, 9, 2),
        18,
    );
    for report in &reports {
        let k = report.iteration;
        let refresh = k <= 3 || k.is_multiple_of(4);
        assert_eq!(report.refreshed, refresh, "iteration {k}");
        assert_eq!(report.pi.is_some(), refresh, "iteration {k}");
        let candidates = if k.is_multiple_of(8) { 3 } else { 1 };
        assert_eq!(report.gamma_candidates.len(), candidates, "iteration {k}");
        assert_eq!(
            report.lambda.action.is_some(),
            k.is_multiple_of(3),
            "iteration {k}"
        );
        assert_eq!(report.lambda.trial_objective.is_some(), k.is_multiple_of(3));
        assert_gamma(&config, report);
        assert_lambda(&config, report);
    }
    for (before, after) in reports.iter().zip(&reports[1..]) {
        assert_eq!(before.iteration + 1, after.iteration);
        assert_near(
            "λ carried over",
            after.lambda.used,
            before.lambda.after,
            f64::EPSILON,
        );
        assert_near(
            "γ carried over",
            after.gamma_before,
            before.gamma,
            f64::EPSILON,
        );
        assert_near(
            "δ₀ is the last δ",
            after.previous_step_norm,
            before.step_norm,
            ROUNDING,
        );
    }
    assert_near("γ₀", reports[0].gamma, 0.51f64.sqrt(), f64::EPSILON);
}

/// γ is the candidate with the lowest model, and the candidates are those of section 6.6.
fn assert_gamma(config: &KfacConfig, report: &StepReport) {
    let gammas: Vec<f64> = report.gamma_candidates.iter().map(|c| c.gamma).collect();
    if gammas.len() == 3 {
        let omega = 0.95f64.sqrt().powi(8);
        let expected = gamma_candidates(report.gamma_before, omega, config.gamma_bounds());
        for (found, expected) in gammas.iter().zip(expected) {
            assert_near("candidate", *found, expected, ROUNDING);
        }
    } else {
        assert_near(
            "γ between searches",
            report.gamma,
            report.gamma_before,
            f64::EPSILON,
        );
    }
    let changes = report
        .gamma_candidates
        .iter()
        .map(|c| c.model_change.unwrap());
    let lowest = changes.fold(f64::INFINITY, f64::min);
    assert_near(
        "M(δ) − M(0)",
        report.quadratic.model_change,
        lowest,
        f64::EPSILON,
    );
    let chosen = report
        .gamma_candidates
        .iter()
        .find(|c| c.model_change == Some(lowest))
        .unwrap();
    assert_near("γ", report.gamma, chosen.gamma, f64::EPSILON);
    assert_eq!((chosen.alpha, chosen.mu), (Some(report.alpha), report.mu));
}

/// λ after the step follows from the reported ratio, and the ratio from the reported objectives.
fn assert_lambda(config: &KfacConfig, report: &StepReport) {
    let lambda = &report.lambda;
    let Some(ratio) = lambda.reduction_ratio else {
        assert_near("λ between updates", lambda.after, lambda.used, f64::EPSILON);
        return;
    };
    let change = lambda.trial_objective.unwrap() - report.objective;
    assert_near("ρ", ratio, change / report.quadratic.model_change, ROUNDING);
    let omega = config.lambda_decay.powf(config.lambda_period as f64);
    let (action, factor) = match ratio {
        ratio if ratio > 0.75 => (LambdaAction::Decrease, omega),
        ratio if ratio < 0.25 => (LambdaAction::Increase, 1.0 / omega),
        _ => (LambdaAction::Keep, 1.0),
    };
    assert_eq!(lambda.action, Some(action));
    assert_near("λ", lambda.after, lambda.used * factor, ROUNDING);
}

#[test]
fn gamma_falls_to_its_bound_and_takes_the_shortcut_to_one() {
    let config = exact_config().with_initial_lambda(150.0).with_l2(1e-4);
    let bounds = config.gamma_bounds();
    assert_near("√η", bounds.min, 1e-2, ROUNDING);
    let config = config
        .map_curvature(|c| c.with_inverse_period(1))
        .with_gamma_period(1)
        .with_gamma_decay(0.5);
    let mut model = SPEC.model(1);
    let (_, reports) = run(
        &config,
        Gaussian,
        &mut model,
        &SPEC.batch(&Gaussian, 9, 2),
        12,
    );
    let third = reports[0].gamma_candidates[2].gamma;
    assert_near(
        "the higher candidate of 12.2 is the bound",
        third,
        1.0,
        f64::EPSILON,
    );
    let legal = |gamma: f64| gamma >= bounds.min && gamma <= reports[0].gamma_before;
    assert!(reports.iter().all(|report| legal(report.gamma)));
    assert!(
        reports
            .iter()
            .any(|report| report.gamma < report.gamma_before)
    );
}

/// Squared error whose Fisher is reported as `claim` times the true one.
#[derive(Clone, Debug)]
struct Misjudged {
    claim: f64,
}

impl PredictiveDistribution for Misjudged {
    fn negative_log_likelihood(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        Gaussian.negative_log_likelihood(outputs, targets)
    }
    fn output_gradient(&self, outputs: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
        outputs - targets
    }
    fn sample(&self, outputs: Tensor<2>, random: &mut RandomStream) -> Tensor<2> {
        Gaussian.sample(outputs, random)
    }
    fn fisher_factor_product(&self, _outputs: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        vectors * self.claim.sqrt()
    }
    fn fisher_factor_transpose_product(&self, _: Tensor<2>, vectors: Tensor<2>) -> Tensor<2> {
        vectors * self.claim.sqrt()
    }
}

/// On a quadratic with curvature 1 that is taken for `c`, the step is `1/c` times the best one and
/// the reduction ratio `ρ = 2 − 1/c`: any value can be had.
#[test]
fn lambda_follows_scripted_reduction_ratios() {
    use LambdaAction::{Decrease, Increase, Keep};
    let script = [
        (1.0, 1.0, Decrease),
        (0.81, 2.0 - 1.0 / 0.81, Decrease), // ρ = 0.765
        (0.79, 2.0 - 1.0 / 0.79, Keep),     // ρ = 0.734
        (0.58, 2.0 - 1.0 / 0.58, Keep),     // ρ = 0.276
        (0.56, 2.0 - 1.0 / 0.56, Increase), // ρ = 0.214
        (0.4, -0.5, Increase),              // the objective rises
        (1e4, 2.0 - 1e-4, Decrease),
    ];
    let spec = Spec::new(&[3, 2], Activation::Linear);
    for (claim, ratio, action) in script {
        let mut model = spec.model(1);
        let config = exact_config()
            .with_l2(0.0)
            .with_initial_lambda(1e-12)
            .with_lambda_period(1)
            .with_gamma_max(None);
        let batch = spec.batch(&Gaussian, 8, 2);
        let before = bits(&model);
        let (optimizer, reports) = run(&config, Misjudged { claim }, &mut model, &batch, 1);
        let lambda = &reports[0].lambda;
        assert_near("ρ", lambda.reduction_ratio.unwrap(), ratio, NEGLIGIBLE);
        assert_eq!(lambda.action, Some(action), "claim {claim}");
        let factor = match action {
            Increase => 1.0 / 0.95,
            Keep => 1.0,
            Decrease => 0.95,
        };
        assert_near("λ", optimizer.lambda(), 1e-12 * factor, ROUNDING);
        // The step is taken in any case, as in the released code.
        assert_ne!(before, bits(&model));
    }
}

#[test]
fn a_step_that_more_than_trebles_the_objective_is_not_taken() {
    // Curvature and quadratic model see the first case alone, and the objective is nearly all that of the last, whose curvature
    // is |x|² / 8 = 37.6: with λ = 10 the step is more than three times as long as to its minimum.
    let spec = Spec::new(&[3, 2], Activation::Linear);
    let like = spec.batch(&Gaussian, 1, 2).inputs;
    let filled = |columns: usize, first: f64, last: f64| {
        let values = (0..8 * columns).map(|at| if at < 7 * columns { first } else { last });
        let data = TensorData::new(values.collect::<Vec<f64>>(), [8, columns]);
        Tensor::<2>::from_data(data, (&like.device(), like.dtype()))
    };
    let batch = Batch::new(filled(3, 0.1, 10.0), filled(2, 0.0, 50.0));
    for (lambda, outcome) in [(10.0, StepOutcome::Rejected), (200.0, StepOutcome::Taken)] {
        let config = exact_config()
            .with_l2(0.0)
            .with_initial_lambda(lambda)
            .with_lambda_period(1)
            .with_gamma_max(None)
            .with_model_fraction(Some(0.1))
            .with_model_min_cases(0)
            .map_curvature(|c| {
                c.with_statistics_fraction(Some(0.1))
                    .with_subsets(Subsets::First)
            });
        let mut model = spec.model(1);
        let before = bits(&model);
        let (_, reports) = run(&config, Gaussian, &mut model, &batch, 1);
        let report = &reports[0];
        assert_eq!(report.outcome, outcome, "{report:?}");
        assert_eq!(before == bits(&model), outcome == StepOutcome::Rejected);
        let rise = report.lambda.trial_objective.unwrap() / report.objective;
        match outcome {
            // Finite, and far from a hundred times what it was.
            StepOutcome::Rejected => {
                assert!(3.0 < rise && rise < 20.0, "{rise}");
                assert_eq!(report.lambda.action, Some(LambdaAction::Increase));
            }
            StepOutcome::Taken => assert!(rise < 1.0, "{rise}"),
        }
    }
}

#[test]
fn without_momentum_the_step_is_the_rescaled_proposal() {
    let mut model = SPEC.model(1);
    let config = exact_config().with_momentum(Momentum::None);
    let (_, reports) = run(
        &config,
        Gaussian,
        &mut model,
        &SPEC.batch(&Gaussian, 9, 2),
        4,
    );
    for report in reports {
        assert_eq!(report.mu, None);
        assert_near(
            "‖δ‖",
            report.step_norm,
            report.alpha * report.proposal_norm,
            ROUNDING,
        );
    }
    let (_, reports) = run(
        &exact_config(),
        Gaussian,
        &mut model,
        &SPEC.batch(&Gaussian, 9, 2),
        3,
    );
    assert_eq!(
        reports.iter().map(|r| r.mu.is_some()).collect::<Vec<_>>(),
        [false, true, true]
    );
}

#[test]
fn a_gradient_of_zero_moves_nothing() {
    let model = SPEC.model(1);
    let inputs = SPEC.batch(&Gaussian, 30, 2).inputs;
    let fitted = model.forward(inputs.clone(), &mut Tape::off()).inner();
    let batch = Batch::new(inputs, fitted);
    for momentum in [Momentum::None, Momentum::Adaptive] {
        let config = exact_config().with_l2(0.0).with_momentum(momentum);
        let mut stepped = model.clone();
        let (optimizer, reports) = run(&config, Gaussian, &mut stepped, &batch, 12);
        for report in &reports {
            let numbers = [report.alpha, report.mu.unwrap_or(0.0), report.step_norm];
            let none = numbers.iter().all(|number| number.abs() == 0.0);
            assert!(none, "iteration {}: {numbers:?}", report.iteration);
            assert_eq!(report.outcome, StepOutcome::Taken);
        }
        assert_eq!(bits(&stepped), bits(&model));
        assert_eq!(
            optimizer.lambda().to_bits(),
            config.initial_lambda.to_bits()
        );
    }
}

#[test]
fn factors_of_rank_one_train_to_the_end() {
    // One case, many times over: every factor and the Fisher have the rank of a case.
    let one = SPEC.batch(&Gaussian, 1, 2);
    let rows = |tensor: &Tensor<2>| tensor.clone().repeat_dim(0, 40);
    let batch = Batch::new(rows(&one.inputs), rows(&one.targets));
    for structure in [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ] {
        let config = exact_config()
            .with_l2(0.0)
            .with_initial_lambda(1e-6)
            .map_curvature(|c| c.with_structure(structure));
        let mut model = SPEC.model(1);
        let (_, reports) = run(&config, Gaussian, &mut model, &batch, 60);
        let [first, last] = [0, 59].map(|at| reports[at].objective);
        assert!(last < 1e-12 * first, "{structure:?}: {first} to {last:e}");
    }
}
