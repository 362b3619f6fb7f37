//! Is the quadratic model of a step, with its minimum, what dense matrices say?

use faer::Mat;
use kfac::{
    Bernoulli, Categorical, DirectionalDerivatives, Gaussian, KfacConfig, Momentum,
    PredictiveDistribution, StepReport,
};

use crate::support::exact;
use crate::support::{
    self, Activation, Mlp, Spec, assert_close, assert_near, column, damped, exact_config, inner,
};

/// Gradients by central differences with step 1e-5: truncation and rounding near 1e-10.
const DIFFERENCES: f64 = 1e-8;
/// The library's directional derivatives by differences, squared in the curvature: 1e-8 and some.
const DIRECTIONAL: f64 = 1e-7;
/// The same by one-sided differences: their outputs moved by up to sixteen times the root of the machine's ε, 2.4e-7, and
/// coefficients are ratios of differences of the products.
const ONE_SIDED: f64 = 1e-5;

const SPEC: Spec<'static> = Spec::new(&[3, 5, 4, 3], Activation::Tanh);

/// A step and everything that its quadratic model is made of, densely.
struct Recomputed {
    report: StepReport,
    curvature: Mat<f64>,
    gradient: Mat<f64>,
    proposal: Mat<f64>,
    previous: Mat<f64>,
    step: Mat<f64>,
}

/// The second step of a run, where there is a last step to add.
fn second_step<L: PredictiveDistribution + Clone>(
    loss: &L,
    spec: Spec<'_>,
    config: &KfacConfig,
) -> Recomputed {
    let mut model: Mlp = spec.model(1);
    let batches = [spec.batch(loss, 7, 2), spec.batch(loss, 7, 3)];
    let mut optimizer = config
        .init(&model, loss.clone(), &batches[0].inputs)
        .unwrap();
    let layers = optimizer.layers().clone();
    let place = |model: &Mlp| column(&layers.parameters(model));
    let start = place(&model);
    optimizer.step(&mut model, &batches[0]).unwrap();
    let middle = model.clone();
    let report = optimizer.step(&mut model, &batches[1]).unwrap();

    let fisher = exact::fisher(&middle, &layers, loss, &batches[1]);
    let damping = report.lambda.used + config.l2;
    let objective = support::objective(&layers, loss, config.l2);
    let gradient = support::gradient_by_differences(&objective, &middle, &batches[1]);
    let like = layers.parameters(&middle);
    let proposal = optimizer
        .inverse()
        .unwrap()
        .multiply(&support::vector(&gradient, &like));
    Recomputed {
        report,
        curvature: damped(&fisher, damping),
        gradient,
        proposal: column(&proposal.scaled(-1.0)),
        previous: place(&middle) - start,
        step: place(&model) - place(&middle),
    }
}

/// Compares the reported inner products; `tolerance` covers the derivatives of either side.
fn assert_products(
    Recomputed {
        report,
        curvature: c,
        gradient,
        proposal,
        previous,
        step,
    }: &Recomputed,
    tolerance: f64,
) {
    let quadratic = &report.quadratic;
    let mut pairs = vec![
        ("‖∇h‖", report.gradient_norm, gradient.norm_l2()),
        ("‖Δ‖", report.proposal_norm, proposal.norm_l2()),
        ("‖δ₀‖", report.previous_step_norm, previous.norm_l2()),
        ("‖δ‖", report.step_norm, step.norm_l2()),
        (
            "ΔᵀCΔ",
            quadratic.proposal_proposal,
            inner(proposal, &(c * proposal)),
        ),
        ("∇hᵀΔ", quadratic.slope_proposal, inner(gradient, proposal)),
    ];
    let momentum = (
        quadratic.proposal_previous,
        quadratic.previous_previous,
        quadratic.slope_previous,
    );
    if let (Some(mixed), Some(square), Some(slope)) = momentum {
        pairs.push(("ΔᵀCδ₀", mixed, inner(proposal, &(c * previous))));
        pairs.push(("δ₀ᵀCδ₀", square, inner(previous, &(c * previous))));
        pairs.push(("∇hᵀδ₀", slope, inner(gradient, previous)));
    } else {
        assert_eq!(momentum, (None, None, None));
    }
    assert_eq!(momentum.0.is_some(), report.mu.is_some());
    for (what, found, expected) in pairs {
        assert_near(what, found, expected, tolerance);
    }
}

/// Compares the coefficients, the step that was taken and the model's value there.
fn assert_minimum(
    Recomputed {
        report,
        curvature: c,
        gradient,
        proposal,
        previous,
        step,
    }: &Recomputed,
    tolerance: f64,
) {
    let columns = if report.mu.is_some() {
        vec![proposal, previous]
    } else {
        vec![proposal]
    };
    let span = Mat::from_fn(proposal.nrows(), columns.len(), |i, j| columns[j][(i, 0)]);
    let small = span.transpose() * c * &span;
    let right = span.transpose() * gradient * faer::Scale(-1.0);
    let coefficients = support::solve(&small, &right);
    assert_near("α", report.alpha, coefficients[(0, 0)], tolerance);
    if let Some(mu) = report.mu {
        assert_near("μ", mu, coefficients[(1, 0)], tolerance);
    }
    assert_close("δ", step, &(&span * &coefficients), tolerance);
    let change = 0.5 * inner(step, &(c * step)) + inner(gradient, step);
    assert!(change < 0.0);
    assert_near(
        "M(δ) − M(0)",
        report.quadratic.model_change,
        change,
        tolerance,
    );
}

fn assert_recomputed(step: &Recomputed, tolerance: f64) {
    assert_products(step, tolerance);
    assert_minimum(step, tolerance);
}

fn assert_steps<L: PredictiveDistribution + Clone>(loss: &L) {
    for momentum in [Momentum::Adaptive, Momentum::None] {
        let config = exact_config().with_momentum(momentum);
        let exact = second_step(loss, SPEC, &config);
        assert_eq!(exact.report.mu.is_some(), momentum == Momentum::Adaptive);
        assert_recomputed(&exact, DIFFERENCES);
        // Without a forward mode, the curvature comes from the library's differences.
        let without = SPEC.without_jvp();
        assert_recomputed(&second_step(loss, without, &config), ONE_SIDED);
        let central = config.with_derivatives(DirectionalDerivatives::CentralDifferences);
        assert_recomputed(&second_step(loss, without, &central), DIRECTIONAL);
    }
}

#[test]
fn coefficients_and_model_change_of_a_step_are_the_dense_ones() {
    assert_steps(&Bernoulli);
    assert_steps(&Categorical);
    assert_steps(&Gaussian);
}

#[test]
fn the_setting_switches_the_exact_forward_mode_off() {
    let step = |derivatives| {
        let config = exact_config().with_derivatives(derivatives);
        second_step(&Gaussian, SPEC, &config).report.quadratic
    };
    let exact = step(DirectionalDerivatives::Automatic);
    let differences = step(DirectionalDerivatives::OneSidedDifferences);
    let central = step(DirectionalDerivatives::CentralDifferences);
    let missing = second_step(&Gaussian, SPEC.without_jvp(), &exact_config())
        .report
        .quadratic;
    assert_eq!(differences, missing);
    assert_ne!(exact, differences);
    assert_ne!(central, differences);
}
