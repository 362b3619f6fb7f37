//! Do the losses' closed forms agree with each other and with their own probabilities?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{Bernoulli, Categorical, Gaussian, PredictiveDistribution, RandomStream};

use crate::support::host;
use crate::support::{
    self, assert_close, binary_targets, dense, normal, one_hot_targets, relative, row,
};

/// Sums of a dozen double precision products.
const ROUNDING: f64 = 1e-12;
/// Central differences of step 1e-5: truncation and rounding are both near 1e-10.
const DIFFERENCES: f64 = 1e-8;
/// The outputs of a case.
const OUTPUTS: usize = 4;

/// The probabilities of some targets (rows) under the logits of one case.
fn probabilities<L: PredictiveDistribution + Clone>(
    loss: &L,
    logits: &Tensor<2>,
    targets: &Mat<f64>,
) -> Vec<f64> {
    let surprise = |i| host::sum(loss.negative_log_likelihood(logits.clone(), row(targets, i)));
    (0..targets.nrows()).map(|i| (-surprise(i)).exp()).collect()
}

/// The output Fisher matrix of one case as the specification writes it.
fn output_fisher(name: &str, logits: &Tensor<2>) -> Mat<f64> {
    let z = dense(logits);
    let d = z.ncols();
    let total: f64 = (0..d).map(|j| z[(0, j)].exp()).sum();
    let logistic = |j: usize| 1.0 / (1.0 + (-z[(0, j)]).exp());
    let softmax = |j: usize| z[(0, j)].exp() / total;
    Mat::from_fn(d, d, |i, j| {
        let diagonal = f64::from(u8::from(i == j));
        match name {
            "Bernoulli" => diagonal * logistic(i) * (1.0 - logistic(i)),
            "Categorical" => diagonal * softmax(i) - softmax(i) * softmax(j),
            _ => diagonal,
        }
    })
}

/// `B` or `Bᵀ` of one case, column by column.
fn factor(product: impl Fn(Tensor<2>) -> Tensor<2>, d: usize) -> Mat<f64> {
    let identity = Mat::<f64>::identity(d, d);
    let columns: Vec<_> = (0..d).map(|j| dense(&product(row(&identity, j)))).collect();
    Mat::from_fn(d, d, |i, j| columns[j][(0, i)])
}

fn assert_factors<L: PredictiveDistribution + Clone>(loss: &L) {
    let name = format!("{loss:?}");
    for seed in 0..5 {
        let logits = normal([1, OUTPUTS], seed) * 2.0;
        let fisher = output_fisher(&name, &logits);
        let b = factor(|v| loss.fisher_factor_product(logits.clone(), v), OUTPUTS);
        let bt = factor(
            |v| loss.fisher_factor_transpose_product(logits.clone(), v),
            OUTPUTS,
        );
        assert_close(
            &format!("{name}: transpose"),
            &bt,
            &b.transpose().to_owned(),
            ROUNDING,
        );
        assert_close(
            &format!("{name}: B Bᵀ"),
            &(&b * b.transpose()),
            &fisher,
            ROUNDING,
        );
        let v = dense(&normal([1, OUTPUTS], seed + 50))
            .transpose()
            .to_owned();
        let norm = (&bt * &v).squared_norm_l2();
        let form = support::inner(&v, &(&fisher * &v));
        support::assert_near(&format!("{name}: ‖Bᵀv‖²"), norm, form, ROUNDING);
    }
}

#[test]
fn factors_of_the_output_fisher() {
    assert_factors(&Bernoulli);
    assert_factors(&Categorical);
    assert_factors(&Gaussian);
}

fn assert_enumeration<L: PredictiveDistribution + Clone>(loss: &L, targets: &Mat<f64>) {
    let name = format!("{loss:?}");
    for seed in 0..5 {
        let logits = normal([1, OUTPUTS], seed) * 2.0;
        let probabilities = probabilities(loss, &logits, targets);
        let total: f64 = probabilities.iter().sum();
        support::assert_near(&format!("{name}: total probability"), total, 1.0, ROUNDING);
        let mut mean = Mat::zeros(1, OUTPUTS);
        let mut moment = Mat::zeros(OUTPUTS, OUTPUTS);
        for (i, &p) in probabilities.iter().enumerate() {
            let g = dense(&loss.output_gradient(logits.clone(), row(targets, i)));
            mean += &g * faer::Scale(p);
            moment += g.transpose() * &g * faer::Scale(p);
        }
        // Lemma 4: under the model's own targets gradients have mean zero.
        assert!(
            mean.norm_max() < ROUNDING,
            "{name}: mean gradient {}",
            mean.norm_max()
        );
        assert_close(
            &format!("{name}: F_R"),
            &moment,
            &output_fisher(&name, &logits),
            ROUNDING,
        );
    }
}

#[test]
fn gradients_over_all_targets_have_mean_zero_and_the_fisher_as_second_moment() {
    assert_enumeration(&Bernoulli, &binary_targets(OUTPUTS));
    assert_enumeration(&Categorical, &one_hot_targets(OUTPUTS));
}

fn assert_gradient<L: PredictiveDistribution + Clone>(loss: &L) {
    let n = 3;
    let outputs = normal([n, OUTPUTS], 3) * 2.0;
    let targets = loss.sample(normal([n, OUTPUTS], 4), &mut RandomStream::from_seed(5));
    let z = dense(&outputs);
    let value = |at: (usize, usize), h: f64| {
        let moved = Mat::from_fn(n, OUTPUTS, |i, j| {
            z[(i, j)] + if (i, j) == at { h } else { 0.0 }
        });
        host::sum(loss.negative_log_likelihood(support::tensor(&moved), targets.clone()))
    };
    let h = support::DIFFERENCE;
    let expected = Mat::from_fn(n, OUTPUTS, |i, j| {
        (value((i, j), h) - value((i, j), -h)) / (2.0 * h)
    });
    let gradient = dense(&loss.output_gradient(outputs.clone(), targets.clone()));
    assert_close(&format!("{loss:?}"), &gradient, &expected, DIFFERENCES);
}

#[test]
fn output_gradients_are_central_differences_of_the_loss() {
    assert_gradient(&Bernoulli);
    assert_gradient(&Categorical);
    assert_gradient(&Gaussian);
}

#[test]
fn bernoulli_is_exact_at_extreme_logits() {
    let outputs =
        Tensor::<2>::from_data([[1e4, 1e4, -1e4, -1e4]], &burn::tensor::Device::default());
    let targets = Tensor::from_data([[1.0, 0.0, 1.0, 0.0]], &outputs.device());
    let each = |j: usize| {
        let part = |t: &Tensor<2>| t.clone().slice_dim(1, j..=j);
        host::sum(Bernoulli.negative_log_likelihood(part(&outputs), part(&targets)))
    };
    // Single precision, the hard case: no rounding is left in any of the four.
    assert_eq!(
        [0, 1, 2, 3].map(|j| each(j).to_bits()),
        [0.0, 1e4, 1e4, 0.0].map(f64::to_bits)
    );
    let gradient: Vec<f64> = host::to_vec(&Bernoulli.output_gradient(outputs.clone(), targets));
    assert_eq!(format!("{gradient:?}"), "[0.0, 1.0, -1.0, 0.0]");
    let factor = Bernoulli.fisher_factor_product(outputs.clone(), outputs.ones_like());
    assert!(dense(&factor).norm_max() < f64::EPSILON);
}

#[test]
fn categorical_is_exact_at_extreme_logits() {
    let device = burn::tensor::Device::default();
    let outputs = Tensor::<2>::from_data([[1e4, -1e4, 0.0]], &device);
    for (class, expected) in [(0, 0.0), (1, 2e4), (2, 1e4)] {
        let target = Tensor::<2>::one_hot_row(class, &outputs);
        let loss = host::sum(Categorical.negative_log_likelihood(outputs.clone(), target.clone()));
        assert_eq!(
            loss.to_bits(),
            f64::to_bits(expected),
            "class {class}: {loss}"
        );
        let gradient = dense(&Categorical.output_gradient(outputs.clone(), target.clone()));
        let certain = dense(&Tensor::<2>::one_hot_row(0, &outputs));
        assert!(relative(&gradient, &(certain - dense(&target))) < f64::EPSILON);
    }
    let v = outputs.ones_like() * 3.0;
    assert!(dense(&Categorical.fisher_factor_transpose_product(outputs, v)).norm_max() < 1e-30);
}

trait OneHotRow {
    fn one_hot_row(class: usize, like: &Self) -> Self;
}

impl OneHotRow for Tensor<2> {
    fn one_hot_row(class: usize, like: &Self) -> Self {
        like.zeros_like().slice_fill([0..1, class..class + 1], 1.0)
    }
}

#[test]
fn bernoulli_keeps_its_curvature_where_the_probability_rounds_to_one() {
    // At 20, p is one in single precision, but p (1 − p) = e^−20.
    let outputs = Tensor::<2>::from_data([[20.0, -20.0]], &burn::tensor::Device::default());
    let factor = Bernoulli.fisher_factor_product(outputs.clone(), outputs.ones_like());
    let expected = (-10.0f64).exp();
    for value in host::to_vec(&factor) {
        support::assert_near("√(p (1 − p))", value, expected, 1e-5);
    }
}

fn assert_frequencies<L: PredictiveDistribution + Clone>(loss: &L, targets: &Mat<f64>) {
    const DRAWS: usize = 40_000;
    // A frequency has a standard deviation of √(p (1 − p) / draws); five of them leave each of some
    // twenty comparisons a chance in a million to fail, and the seed is fixed.
    const DEVIATIONS: f64 = 5.0;
    let logits = normal([1, OUTPUTS], 12);
    let probabilities = probabilities(loss, &logits, targets);
    let outputs = logits.repeat_dim(0, DRAWS);
    let draws = dense(&loss.sample(outputs, &mut RandomStream::from_seed(13)));
    let mut seen = 0;
    for (i, p) in probabilities.iter().enumerate() {
        let same = |draw: &usize| {
            (0..OUTPUTS).all(|j| (draws[(*draw, j)] - targets[(i, j)]).abs() < f64::EPSILON)
        };
        let count = (0..DRAWS).filter(same).count();
        seen += count;
        let frequency = count as f64 / DRAWS as f64;
        let allowed = DEVIATIONS * (p * (1.0 - p) / DRAWS as f64).sqrt();
        assert!(
            (frequency - p).abs() < allowed,
            "{loss:?}: {frequency} of target {i}, p = {p}"
        );
    }
    assert_eq!(
        seen, DRAWS,
        "{loss:?}: a draw is none of the possible targets"
    );
}

#[test]
fn sampled_targets_come_with_their_probabilities() {
    assert_frequencies(&Bernoulli, &binary_targets(OUTPUTS));
    assert_frequencies(&Categorical, &one_hot_targets(OUTPUTS));
}

#[test]
fn gaussian_samples_have_the_outputs_as_mean_and_unit_covariance() {
    const DRAWS: usize = 40_000;
    // A variance of n draws has a standard deviation of √(2/n), a mean and a covariance of √(1/n).
    let allowed = 5.0 * (2.0 / DRAWS as f64).sqrt();
    let outputs = normal([1, OUTPUTS], 12).repeat_dim(0, DRAWS);
    let draws = Gaussian.sample(outputs.clone(), &mut RandomStream::from_seed(14));
    let noise = dense(&(draws - outputs));
    let moment = support::mean_outer(&noise);
    assert!((moment - Mat::<f64>::identity(OUTPUTS, OUTPUTS)).norm_max() < allowed);
    for j in 0..OUTPUTS {
        let mean = (0..DRAWS).map(|i| noise[(i, j)]).sum::<f64>() / DRAWS as f64;
        assert!(mean.abs() < allowed, "output {j}: mean {mean}");
    }
}

#[test]
fn samples_of_certain_outputs_are_certain() {
    let logits =
        Tensor::<2>::from_data([[200.0, -200.0, -200.0]], &burn::tensor::Device::default());
    let outputs = logits.repeat_dim(0, 1000);
    let mut random = RandomStream::from_seed(1);
    let samples = [
        Bernoulli.sample(outputs.clone(), &mut random),
        Categorical.sample(outputs, &mut random),
    ];
    for sample in samples {
        let sample = dense(&sample);
        let wrong =
            |i: &usize| (0..3).any(|j| (sample[(*i, j)] - f64::from(u8::from(j == 0))).abs() > 0.0);
        assert_eq!((0..1000).filter(wrong).count(), 0);
    }
}
