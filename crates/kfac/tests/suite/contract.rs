//! Does training work for every loss, inverse and layer shape, with reports that add up?

use burn::tensor::{DType, Tensor};
use kfac::{
    Batch, Bernoulli, Categorical, FactorAction, FactorKind, FisherEstimate, Gaussian,
    InverseMethod, KfacConfig, PredictiveDistribution, StepOutcome, StepReport,
};

use crate::support::{Activation, Spec, assert_near, bits, column, exact_config, normal, run};

/// Norms of the same vectors, summed in another order.
const ROUNDING: f64 = 1e-10;
const STEPS: usize = 10;

/// The paper's settings, with damping for a small problem.
fn config(method: InverseMethod) -> KfacConfig {
    KfacConfig::paper()
        .map_curvature(|c| c.with_inverse_method(method))
        .with_initial_lambda(0.1)
        .map_curvature(|c| c.with_statistics_fraction(Some(0.5)).with_inverse_period(4))
        .with_gamma_period(4)
        .with_lambda_period(2)
}

fn assert_finite(report: &StepReport) {
    let numbers = [
        report.objective,
        report.gradient_norm,
        report.proposal_norm,
        report.step_norm,
        report.parameter_norm,
        report.alpha,
        report.mu.unwrap_or(0.0),
        report.gamma,
        report.lambda.after,
        report.quadratic.model_change,
        report.times.total(),
    ];
    assert!(
        numbers.iter().all(|number| number.is_finite()),
        "{report:?}"
    );
    assert!(report.gradient_norm > 0.0 && report.proposal_norm > 0.0 && report.step_norm > 0.0);
    assert!(report.quadratic.model_change < 0.0 && report.quadratic.proposal_proposal > 0.0);
    assert!(
        report.quadratic.slope_proposal < 0.0,
        "the proposal does not descend"
    );
    assert_eq!(report.outcome, StepOutcome::Taken);
    assert!(report.repairs.is_empty());
}

fn assert_contract<L: PredictiveDistribution + Clone>(loss: &L) {
    for method in [InverseMethod::Cholesky, InverseMethod::Eigen] {
        for bias in [true, false] {
            let spec = Spec::new(&[4, 6, 3], Activation::Tanh).with_bias(bias);
            let batch = spec.batch(loss, 32, 2);
            let mut model = spec.model(1);
            let mut optimizer = config(method)
                .init(&model, loss.clone(), &batch.inputs)
                .unwrap();
            let layers = optimizer.layers().clone();
            let first = optimizer.objective(&model, &batch).unwrap();
            let mut last_norm = 0.0;
            for k in 1..=STEPS {
                let before = layers.parameters(&model);
                let objective = optimizer.objective(&model, &batch).unwrap();
                let report = optimizer.step(&mut model, &batch).unwrap();
                let after = layers.parameters(&model);
                let step = column(&after) - column(&before);
                let near = |what: &str, x: f64, y: f64| assert_near(what, x, y, ROUNDING);
                near("h", report.objective, objective);
                near("‖θ‖ before", report.parameter_norm_before, before.norm());
                near("‖θ‖", report.parameter_norm, after.norm());
                near("‖δ‖", report.step_norm, step.norm_l2());
                assert_near("‖δ₀‖", report.previous_step_norm, last_norm, ROUNDING);
                near("λ", optimizer.lambda(), report.lambda.after);
                near("γ", optimizer.gamma(), report.gamma);
                assert_eq!((report.iteration, report.batch_size), (k as u64, 32));
                assert_eq!(report.mu.is_some(), k > 1);
                assert_finite(&report);
                last_norm = report.step_norm;
            }
            let last = optimizer.objective(&model, &batch).unwrap();
            let what = format!("{loss:?}, {method:?}, bias {bias}: {first} -> {last}");
            assert!(last < 0.9 * first, "{what}");
        }
    }
}

#[test]
fn ten_steps_with_bernoulli_outputs() {
    assert_contract(&Bernoulli);
}

#[test]
fn ten_steps_with_categorical_outputs() {
    assert_contract(&Categorical);
}

#[test]
fn ten_steps_with_gaussian_outputs() {
    assert_contract(&Gaussian);
}

/// A single precision layer whose inputs are all ones: `Ā` has rank one, and a damping below the
/// rounding of its entries leaves it singular.
fn singular_run(method: InverseMethod, l2: f64) -> Vec<StepReport> {
    let spec = Spec::new(&[3, 2], Activation::Linear).with_bias(false);
    let mut model = spec.model_in(DType::F32, 1);
    let ones = normal([6, 3], 1).ones_like().cast(DType::F32);
    let batch = Batch::new(ones, normal([6, 2], 2).cast(DType::F32));
    let config = exact_config()
        .with_initial_lambda(l2)
        .with_l2(l2)
        .map_curvature(|c| c.with_inverse_method(method));
    let (_, reports) = run(&config, Gaussian, &mut model, &batch, 2);
    assert!(
        bits(&model)
            .into_iter()
            .all(|bits| f64::from_bits(bits).is_finite())
    );
    reports
}

#[test]
fn singular_factors_are_repaired_by_name() {
    // γ = √(2e-17) = 4.5e-9, and one plus that is one in single precision.
    let reports = singular_run(InverseMethod::Cholesky, 1e-17);
    let repair = reports[0].repairs.first().expect("a repair is reported");
    assert_eq!(
        (repair.layer.as_str(), repair.factor),
        ("layers.0", FactorKind::Activation)
    );
    let FactorAction::DoublePrecision { smallest_pivot } = repair.action else {
        panic!("{repair:?} is not a repetition in double precision")
    };
    assert!(
        smallest_pivot > 0.0 && smallest_pivot < 1e-7,
        "pivot {smallest_pivot}"
    );
    // Eigenvalues need no repair: those that rounding made negative count as zero.
    let reports = singular_run(InverseMethod::Eigen, 1e-10);
    assert!(reports.iter().all(|report| report.repairs.is_empty()));
}

#[test]
fn comfortable_damping_needs_no_repair() {
    let reports = singular_run(InverseMethod::Cholesky, 1e-2);
    assert!(reports.iter().all(|report| report.repairs.is_empty()));
}

#[test]
fn a_perfect_fit_stays() {
    // Empirical gradients at a perfect fit: every G is zero, and so is the step.
    let spec = Spec::new(&[3, 4, 2], Activation::Tanh);
    let mut model = spec.model(1);
    let inputs: Tensor<2> = normal([5, 3], 2);
    let outputs = kfac::Network::forward(&model, inputs.clone(), &mut kfac::Tape::off()).inner();
    let config = exact_config()
        .with_l2(0.0)
        .map_curvature(|c| c.with_fisher(FisherEstimate::Empirical));
    let before = bits(&model);
    let (_, reports) = run(
        &config,
        Gaussian,
        &mut model,
        &Batch::new(inputs, outputs),
        2,
    );
    assert_eq!(before, bits(&model));
    assert!(
        reports
            .iter()
            .all(|report| report.gradient_norm < f64::MIN_POSITIVE)
    );
}
