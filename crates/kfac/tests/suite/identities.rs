//! Do the fast products equal the dense algebra they stand for, on random networks and settings?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{Batch, DampingScheme, FactorKind, Gaussian, InverseMethod, KroneckerFactors, PiNorm};
use proptest::prelude::*;

use crate::support::{
    self, Activation, Spec, assert_close, assert_near, cases, column, damped, dense, exact_config,
    inner, normal, random_vector, run, settings, solve,
};
use crate::support::{kronecker, kronecker::append_ones, kronecker::second_moment};

/// Products and solves of small matrices whose condition number is at most about 1e3.
const ROUNDING: f64 = 1e-11;
/// The same after the condition numbers of two factors of an undamped-looking layer, 1e4 together.
const CONDITIONED: f64 = 1e-9;

fn schemes() -> impl Strategy<Value = DampingScheme> {
    let factored = |pi| DampingScheme::FactoredTikhonov { pi };
    prop::sample::select(vec![
        factored(PiNorm::Trace),
        factored(PiNorm::Frobenius),
        factored(PiNorm::One),
        DampingScheme::ExactTikhonov,
    ])
}

fn matrices(factors: &KroneckerFactors) -> (Mat<f64>, Mat<f64>) {
    (dense(&factors.activation), dense(&factors.gradient))
}

/// The damped block of a layer as section 6.3 writes it.
fn damped_block(
    factors: &KroneckerFactors,
    scheme: DampingScheme,
    (pi, gamma): (f64, f64),
) -> Mat<f64> {
    let (a, g) = matrices(factors);
    match scheme {
        DampingScheme::FactoredTikhonov { .. } => {
            kronecker::product(&damped(&a, pi * gamma), &damped(&g, gamma / pi))
        }
        DampingScheme::ExactTikhonov => damped(&kronecker::product(&a, &g), gamma * gamma),
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn the_inverse_times_a_vector_is_a_dense_solve(
        setting in settings(),
        scheme in schemes(),
        eigen in any::<bool>(),
    ) {
        let method = if eigen { InverseMethod::Eigen } else { InverseMethod::Automatic };
        let config = setting.config().map_curvature(|c| c.with_damping(scheme).with_inverse_method(method));
        let (optimizer, report, parameters) = setting.step(&config);
        let v = random_vector(&parameters, setting.seed);
        let product = optimizer.inverse().unwrap().multiply(&v);
        let pi = report.pi.unwrap();
        for (layer, factors) in optimizer.factors().kronecker().into_iter().enumerate() {
            let block = damped_block(factors, scheme, (pi[layer], report.gamma));
            let right = kronecker::vec_of_rows(&dense(&v.blocks()[layer]));
            let found = kronecker::vec_of_rows(&dense(&product.blocks()[layer]));
            assert_close("F̌⁻¹ v", &found, &solve(&block, &right), CONDITIONED);
        }
    }

    #[test]
    fn cholesky_and_eigen_take_the_same_steps(setting in settings()) {
        let cholesky = setting.config().map_curvature(|c| c.with_inverse_method(InverseMethod::Cholesky));
        let eigen = setting.config().map_curvature(|c| c.with_inverse_method(InverseMethod::Eigen));
        let (_, first, one) = setting.step(&cholesky);
        let (_, second, other) = setting.step(&eigen);
        assert_close("parameters", &column(&one), &column(&other), CONDITIONED);
        assert_near("γ", first.gamma, second.gamma, ROUNDING);
        assert_eq!(first.pi, second.pi);
    }

    #[test]
    fn pi_balances_the_chosen_norm(setting in settings(), scheme in schemes()) {
        let config = setting.config().map_curvature(|c| c.with_damping(scheme));
        let (optimizer, report, _) = setting.step(&config);
        for (factors, pi) in optimizer.factors().kronecker().into_iter().zip(report.pi.unwrap()) {
            let (a, g) = matrices(factors);
            let trace = |m: &Mat<f64>| (0..m.nrows()).map(|i| m[(i, i)]).sum::<f64>() / m.nrows() as f64;
            let frobenius = |m: &Mat<f64>| m.norm_l2() / (m.nrows() as f64).sqrt();
            let expected = match scheme {
                DampingScheme::FactoredTikhonov { pi: PiNorm::Trace } => trace(&a) / trace(&g),
                DampingScheme::FactoredTikhonov { pi: PiNorm::Frobenius } => {
                    frobenius(&a) / frobenius(&g)
                }
                _ => 1.0,
            };
            assert_near("π²", pi * pi, expected, ROUNDING);
        }
    }

    /// Heskes (2000): the block is the mean squared change of the outputs in the metric G.
    #[test]
    fn the_block_is_the_mean_change_of_the_outputs(n in 1usize..9, d in 1usize..6, seed in 0u64..100) {
        let d_out = 4;
        let rows = append_ones(normal([n, d], seed));
        let a = dense(&second_moment(rows.clone())) * faer::Scale(1.0 / n as f64);
        let g = support::mean_outer(&dense(&normal([6, d_out], seed + 1)));
        let change = dense(&normal([d + 1, d_out], seed + 2)); // ΔWᵀ
        let v = kronecker::vec_of_rows(&change);
        let moved = dense(&rows) * &change; // [n, d_out]
        let mean = moved.row_iter().map(|row| (row * &g) * row.transpose()).sum::<f64>() / n as f64;
        assert_near("vᵀ (Ā ⊗ G) v", inner(&v, &(kronecker::product(&a, &g) * &v)), mean, ROUNDING);
    }

    #[test]
    fn parameter_vectors_are_a_vector_space(setting in settings(), scale in -3.0..3.0f64) {
        let shape = setting.step(&setting.config()).2;
        let (u, v) = (random_vector(&shape, setting.seed), random_vector(&shape, setting.seed + 1));
        let (x, y) = (column(&u), column(&v));
        let bound = x.norm_l2() * y.norm_l2();
        prop_assert!((u.dot(&v) - inner(&x, &y)).abs() <= 1e-14 * bound);
        assert_near("norm", u.norm(), x.norm_l2(), ROUNDING);
        let sum = column(&u.add_scaled(&v, scale));
        assert_close("u + c v", &sum, &(&x + &y * faer::Scale(scale)), ROUNDING);
        assert_close("c u", &column(&u.scaled(scale)), &(&x * faer::Scale(scale)), ROUNDING);
        prop_assert_eq!(column(&u.zeros_like()).norm_max().to_bits(), 0.0f64.to_bits());
    }
}

#[test]
fn a_dead_layer_is_damped_without_a_balance() {
    // Zero inputs and no bias: the activation factor is zero, and π has nothing to balance.
    let spec = Spec::new(&[3, 2], Activation::Linear).with_bias(false);
    let mut model = spec.model(1);
    let batch = Batch::new(Tensor::zeros_like(&normal([4, 3], 1)), normal([4, 2], 2));
    let (optimizer, reports) = run(&exact_config(), Gaussian, &mut model, &batch, 1);
    let pi = reports[0].pi.clone().unwrap();
    assert_near("π", pi[0], 1.0, f64::EPSILON);
    assert!(dense(&optimizer.factors().kronecker()[0].activation).norm_max() < f64::EPSILON);
    assert!(
        reports[0]
            .repairs
            .iter()
            .all(|repair| repair.factor != FactorKind::Activation)
    );
}
