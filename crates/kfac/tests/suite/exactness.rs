//! One step equals its dense formulas, whichever way the blocks are inverted.

use burn::tensor::{Tensor, activation::sigmoid};
use faer::Mat;
use kfac::{
    Batch, Bernoulli, DampingScheme, InverseMethod, Kfac, KfacConfig, Momentum, ParameterVector,
    StepReport,
};

use crate::support::{
    Activation, Mlp, Spec, column, damped, dense, deviation, exact_config, gradient_by_differences,
    inner, normal, objective, run, solve, vector,
};
use crate::support::{exact, kronecker};

/// Sums of a few hundred products of order one in `f64`.
const ROUNDING: f64 = 1e-11;

/// Central differences of outputs of order one in `f64`, squared in the model.
const DIFFERENCES: f64 = 1e-7;

/// A small network whose directional derivatives are differences.
fn network(widths: &[usize], activation: Activation) -> Mlp {
    Spec::new(widths, activation).without_jvp().model(1)
}

fn batch(cases: usize, d_in: usize, d_out: usize) -> Batch<Tensor<2>> {
    Batch::new(normal([cases, d_in], 1), sigmoid(normal([cases, d_out], 2)))
}

/// `−(Ā + πγI)⁻¹ ⊗ (G + γ/π I)⁻¹` times the gradient by dense solves, layer by layer.
fn dense_proposal(
    optimizer: &Kfac<Bernoulli>,
    report: &StepReport,
    gradient: &ParameterVector,
) -> Mat<f64> {
    let pi = report.pi.as_ref().unwrap();
    let layers = optimizer
        .factors()
        .kronecker()
        .into_iter()
        .zip(pi)
        .zip(gradient.blocks());
    let solutions = layers.flat_map(|((factors, pi), gradient)| {
        let a = damped(&dense(&factors.activation), pi * report.gamma);
        let g = damped(&dense(&factors.gradient), report.gamma / pi);
        let right = kronecker::vec_of_rows(&dense(gradient));
        let solution = solve(&kronecker::product(&a, &g), &right);
        (0..solution.nrows())
            .map(|i| -solution[(i, 0)])
            .collect::<Vec<_>>()
    });
    let values: Vec<f64> = solutions.collect();
    Mat::from_fn(values.len(), 1, |i, _| values[i])
}

#[test]
fn a_step_equals_its_dense_formulas() {
    let model = network(&[3, 4, 2], Activation::Tanh);
    let batch = batch(5, 3, 2);
    for method in [InverseMethod::Cholesky, InverseMethod::Eigen] {
        let config = exact_config().map_curvature(|c| c.with_inverse_method(method));
        let (optimizer, reports) = run(&config, Bernoulli, &mut model.clone(), &batch, 1);
        let (report, layers) = (&reports[0], optimizer.layers());
        let objective = objective(layers, &Bernoulli, config.l2);
        let g = gradient_by_differences(&objective, &model, &batch);
        let fisher = exact::fisher(&model, layers, &Bernoulli, &batch);
        assert!((g.norm_l2() - report.gradient_norm).abs() < DIFFERENCES);
        let gradient = vector(&g, &layers.parameters(&model));
        let proposal = dense_proposal(&optimizer, report, &gradient);
        assert!(
            (proposal.norm_l2() - report.proposal_norm).abs() < DIFFERENCES,
            "{method:?}"
        );
        let damping = config.initial_lambda + config.l2;
        let quadratic = inner(&proposal, &(damped(&fisher, damping) * &proposal));
        let slope = inner(&g, &proposal);
        assert!((quadratic - report.quadratic.proposal_proposal).abs() < DIFFERENCES);
        assert!((report.alpha + slope / quadratic).abs() < DIFFERENCES);
        assert!(
            (report.quadratic.model_change + 0.5 * slope * slope / quadratic).abs() < DIFFERENCES
        );
        assert!(report.mu.is_none());
    }
}

/// Parameters after some steps with a configuration.
fn train(config: &KfacConfig, steps: usize) -> Mat<f64> {
    let mut model = network(&[3, 4, 2], Activation::Tanh);
    let (optimizer, _) = run(config, Bernoulli, &mut model, &batch(9, 3, 2), steps);
    column(&optimizer.layers().parameters(&model))
}

#[test]
fn cholesky_and_eigen_paths_agree() {
    let with = |method| {
        train(
            &exact_config().map_curvature(|c| c.with_inverse_method(method)),
            22,
        )
    };
    // 22 steps, a search for γ among them, multiply rounding by the condition of the 2 × 2 systems.
    assert!(deviation(&with(InverseMethod::Cholesky), &with(InverseMethod::Eigen)) < 1e-6);
}

#[test]
fn chunks_change_rounding_only() {
    let with = |chunk| {
        train(
            &exact_config()
                .with_momentum(Momentum::None)
                .map_curvature(|c| c.with_chunk_size(chunk)),
            6,
        )
    };
    assert!(deviation(&with(2), &with(1000)) < 1e-8);
}

#[test]
fn exact_damping_is_a_dense_solve() {
    let model = network(&[3, 4, 2], Activation::Tanh);
    let batch = batch(5, 3, 2);
    let config = exact_config().map_curvature(|c| c.with_damping(DampingScheme::ExactTikhonov));
    let (optimizer, reports) = run(&config, Bernoulli, &mut model.clone(), &batch, 1);
    let v = normal([4, 4], 5);
    let factors = optimizer.factors().kronecker()[0];
    let block = kronecker::product(&dense(&factors.activation), &dense(&factors.gradient));
    let block = damped(&block, reports[0].gamma.powi(2));
    let expected = solve(&block, &kronecker::vec_of_rows(&dense(&v)));
    let product = optimizer.inverse().unwrap().blocks()[0].multiply(v);
    assert!(deviation(&kronecker::vec_of_rows(&dense(&product)), &expected) < ROUNDING);
}
