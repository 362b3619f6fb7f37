//! Losses as predictive distributions: gradients, Fisher factors, sampling, extreme logits.
#![cfg(test)]

mod support;

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{Bernoulli, Categorical, Gaussian, PredictiveDistribution, RandomStream};
use support::{dense, deviation, normal};

/// A few roundings of numbers of order one.
const ROUNDING: f64 = 1e-13;

fn row(values: &[f64]) -> Tensor<2> {
    Tensor::<1>::from_data(
        values,
        (&burn::tensor::Device::flex(), burn::tensor::DType::F64),
    )
    .reshape([1, values.len()])
}

fn loss_of<L: PredictiveDistribution>(loss: &L, z: Tensor<2>, y: Tensor<2>) -> f64 {
    kfac::linalg::host::sum(loss.negative_log_likelihood(z, y))
}

fn assert_gradient<L: PredictiveDistribution>(loss: &L, y: &Tensor<2>) {
    let z = normal([1, 4], 3) * 2.0;
    let gradient = dense(&loss.output_gradient(z.clone(), y.clone()));
    for j in 0..4 {
        let mut unit = [0.0; 4];
        unit[j] = 1e-5;
        let (up, down) = (z.clone() + row(&unit), z.clone() - row(&unit));
        let difference = (loss_of(loss, up, y.clone()) - loss_of(loss, down, y.clone())) / 2e-5;
        assert!(
            (difference - gradient[(0, j)]).abs() < 1e-9,
            "{loss:?}, output {j}"
        );
    }
}

#[test]
fn gradients_are_differences_of_the_loss() {
    assert_gradient(&Bernoulli, &row(&[0.0, 1.0, 0.3, 0.8]));
    assert_gradient(&Categorical, &row(&[0.0, 1.0, 0.0, 0.0]));
    assert_gradient(&Gaussian, &row(&[0.4, -1.0, 0.3, 2.0]));
}

/// `B Bᵀ` from products with unit vectors, checking that both products are transposes.
fn fisher<L: PredictiveDistribution>(loss: &L, z: &Tensor<2>) -> Mat<f64> {
    let n = z.dims()[1];
    let unit = |j: usize| {
        row(&(0..n)
            .map(|i| f64::from(u8::from(i == j)))
            .collect::<Vec<_>>())
    };
    let columns: Vec<_> = (0..n)
        .map(|j| dense(&loss.fisher_factor_product(z.clone(), unit(j))))
        .collect();
    let rows: Vec<_> = (0..n)
        .map(|j| dense(&loss.fisher_factor_transpose_product(z.clone(), unit(j))))
        .collect();
    let b = Mat::from_fn(n, n, |i, j| columns[j][(0, i)]);
    let bt = Mat::from_fn(n, n, |i, j| rows[j][(0, i)]);
    assert!(
        deviation(&bt.transpose().to_owned(), &b) < ROUNDING,
        "{loss:?}"
    );
    &b * b.transpose()
}

/// `E[g gᵀ]` and `E[g]` over enumerated targets.
fn enumerated<L: PredictiveDistribution>(
    loss: &L,
    z: &Tensor<2>,
    targets: &[Vec<f64>],
) -> (Mat<f64>, f64) {
    let n = z.dims()[1];
    let (mut second, mut first, mut total) = (Mat::zeros(n, n), Mat::zeros(1, n), 0.0);
    for y in targets {
        let probability = (-loss_of(loss, z.clone(), row(y))).exp();
        let g = dense(&loss.output_gradient(z.clone(), row(y)));
        second += g.transpose() * &g * faer::Scale(probability);
        first += &g * faer::Scale(probability);
        total += probability;
    }
    assert!((total - 1.0).abs() < ROUNDING);
    (second, first.norm_max())
}

#[test]
fn the_output_fisher_is_the_second_moment_of_gradients_over_all_targets() {
    let z = row(&[0.3, -1.2, 2.0]);
    let bits = (0..8)
        .map(|n| (0..3).map(|j| f64::from(n >> j & 1)).collect())
        .collect::<Vec<_>>();
    let classes = (0..3)
        .map(|n| (0..3).map(|j| f64::from(u8::from(j == n))).collect())
        .collect::<Vec<_>>();
    let (second, mean) = enumerated(&Bernoulli, &z, &bits);
    assert!(deviation(&fisher(&Bernoulli, &z), &second) < ROUNDING && mean < ROUNDING);
    let (second, mean) = enumerated(&Categorical, &z, &classes);
    assert!(deviation(&fisher(&Categorical, &z), &second) < ROUNDING && mean < ROUNDING);
    assert!(deviation(&fisher(&Gaussian, &z), &Mat::identity(3, 3)) < ROUNDING);
}

#[test]
fn samples_have_the_models_mean() {
    let n = 40_000;
    let z = row(&[0.3, -1.2, 2.0]);
    let many = z.clone().repeat_dim(0, n);
    let mean = |samples: Tensor<2>| dense(&(samples.sum_dim(0) / n as f64));
    let mut random = RandomStream::from_seed(5);
    // The standard error of a mean of n numbers of variance at most one is 1/√n; five of them.
    let bound = 5.0 / (n as f64).sqrt();
    // For these losses the gradient at y = 0 (Gaussian: minus it) is the mean of the distribution.
    let zero = z.zeros_like();
    let expected = dense(&Bernoulli.output_gradient(z.clone(), zero.clone()));
    assert!((mean(Bernoulli.sample(many.clone(), &mut random)) - expected).norm_max() < bound);
    let expected = dense(&Categorical.output_gradient(z.clone(), zero));
    let samples = Categorical.sample(many.clone(), &mut random);
    assert!(
        (dense(&samples.clone().sum_dim(1)) - Mat::from_fn(n, 1, |_, _| 1.0)).norm_max() < ROUNDING
    );
    assert!((mean(samples) - expected).norm_max() < bound);
    assert!((mean(Gaussian.sample(many, &mut random)) - dense(&z)).norm_max() < bound);
}

#[test]
fn extreme_logits_are_exact() {
    let z = row(&[1e4, -1e4]);
    let right = row(&[1.0, 0.0]);
    let wrong = row(&[0.0, 1.0]);
    assert!(loss_of(&Bernoulli, z.clone(), right.clone()).abs() < ROUNDING);
    assert!((loss_of(&Bernoulli, z.clone(), wrong.clone()) - 2e4).abs() < 1e-8);
    assert!((loss_of(&Categorical, z.clone(), wrong) - 2e4).abs() < 1e-8);
    for tensor in [
        Bernoulli.fisher_factor_product(z.clone(), right.clone()),
        Categorical.fisher_factor_product(z.clone(), right.clone()),
        Categorical.output_gradient(z, right),
    ] {
        assert!(dense(&tensor).is_all_finite());
    }
}
