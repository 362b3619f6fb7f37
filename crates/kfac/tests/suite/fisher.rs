//! Where theory says that K-FAC's blocks are the exact Fisher blocks, are they?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Batch, Bernoulli, Categorical, FisherEstimate, Gaussian, KroneckerFactors, Network,
    PredictiveDistribution, Tape,
};

use crate::support::{
    self, Activation, Spec, assert_close, binary_targets, dense, exact_config, mean_outer,
    one_hot_targets, relative, run,
};
use crate::support::{exact, host, kronecker, layers_of};

/// Equal up to the rounding of a few hundred double precision products.
const ROUNDING: f64 = 1e-12;
/// Where the factorisation is an approximation, it is off by far more than rounding: a comparison
/// that this test cannot fail would say nothing about the exact cases.
const CLEARLY_DIFFERENT: f64 = 1e-2;

struct Case {
    name: &'static str,
    spec: Spec<'static>,
    batch: usize,
}

const fn case(
    name: &'static str,
    widths: &'static [usize],
    activation: Activation,
    batch: usize,
) -> Case {
    Case {
        name,
        spec: Spec::new(widths, activation),
        batch,
    }
}

/// One case in the batch: `E[A] ⊗ E[G]` is `E[A ⊗ G]` whatever the nonlinearity.
const ONE_CASE: [Case; 4] = [
    case("tanh", &[4, 3, 3, 2], Activation::Tanh, 1),
    case("logistic", &[3, 5, 2], Activation::Logistic, 1),
    case("linear", &[2, 4, 3], Activation::Linear, 1),
    case("one layer", &[5, 3], Activation::Tanh, 1),
];

/// Linear networks under squared error: the output gradients do not depend on the case.
const DEEP_LINEAR: [Case; 3] = [
    case("deep", &[4, 3, 3, 2], Activation::Linear, 9),
    case("wide", &[2, 6, 5], Activation::Linear, 3),
    case("shallow", &[3, 2], Activation::Linear, 20),
];

/// Relative errors of every layer's block `A ⊗ G` against the exact Fisher's.
fn block_errors<L: PredictiveDistribution + Clone>(loss: &L, case: &Case, bias: bool) -> Vec<f64> {
    let spec = case.spec.with_bias(bias);
    let mut model = spec.model(5);
    let batch = spec.batch(loss, case.batch, 6);
    let before = model.clone();
    let (optimizer, _) = run(&exact_config(), loss.clone(), &mut model, &batch, 1);
    let fisher = exact::fisher(&before, optimizer.layers(), loss, &batch);
    let mut start = 0;
    let error = |factors: &KroneckerFactors| {
        let block = kronecker::product(&dense(&factors.activation), &dense(&factors.gradient));
        let size = block.nrows();
        let expected = fisher.submatrix(start, start, size, size).to_owned();
        start += size;
        relative(&block, &expected)
    };
    optimizer
        .factors()
        .kronecker()
        .into_iter()
        .map(error)
        .collect()
}

fn assert_exact<L: PredictiveDistribution + Clone>(loss: &L, case: &Case) {
    for bias in [true, false] {
        let errors = block_errors(loss, case, bias);
        assert_eq!(errors.len(), case.spec.widths.len() - 1);
        let exact = errors.iter().all(|&error| error < ROUNDING);
        assert!(exact, "{loss:?}, {}, bias {bias}: {errors:?}", case.name);
    }
}

#[test]
fn blocks_of_a_single_case_are_exact_for_every_loss_and_nonlinearity() {
    for case in &ONE_CASE {
        assert_exact(&Bernoulli, case);
        assert_exact(&Categorical, case);
        assert_exact(&Gaussian, case);
    }
}

#[test]
fn blocks_of_deep_linear_networks_are_exact_for_every_batch() {
    for case in &DEEP_LINEAR {
        assert_exact(&Gaussian, case);
    }
}

#[test]
fn blocks_are_an_approximation_elsewhere() {
    let curved = case("tanh", &[4, 3, 3, 2], Activation::Tanh, 9);
    assert!(block_errors(&Gaussian, &curved, true)[0] > CLEARLY_DIFFERENT);
    let logits = case("linear", &[4, 3, 2], Activation::Linear, 9);
    assert!(block_errors(&Bernoulli, &logits, true)[0] > CLEARLY_DIFFERENT);
}

/// The Fisher matrix by its definition: gradients under all targets that the model can draw.
fn enumerated_fisher<L: PredictiveDistribution + Clone>(
    loss: &L,
    model: &support::Mlp,
    (inputs, targets): (&Tensor<2>, &Mat<f64>),
) -> Mat<f64> {
    let layers = layers_of(model, inputs);
    let layers = &layers;
    let objective = support::objective(layers, loss, 0.0);
    let parameters = layers.parameters(model);
    let n = inputs.dims()[0];
    let size = support::column(&parameters).nrows();
    let mut sum = Mat::zeros(size, size);
    for i in 0..n {
        let input = inputs.clone().slice_dim(0, i..=i);
        let logits = model.forward(input.clone(), &mut Tape::off()).inner();
        for target in (0..targets.nrows()).map(|target| support::row(targets, target)) {
            let surprise = loss.negative_log_likelihood(logits.clone(), target.clone());
            let probability = (-host::sum(surprise)).exp();
            let batch = Batch::new(input.clone(), target);
            let (_, gradient) = objective.gradient(model, &parameters, &batch).unwrap();
            let g = support::column(&gradient);
            sum += &g * g.transpose() * faer::Scale(probability / n as f64);
        }
    }
    sum
}

#[test]
fn the_dense_oracle_is_the_mean_over_all_targets() {
    let spec = Spec::new(&[3, 4, 3], Activation::Tanh);
    let model = spec.model(8);
    let batch = spec.batch(&Bernoulli, 4, 9);
    let layers = layers_of(&model, &batch.inputs);
    let bernoulli = exact::fisher(&model, &layers, &Bernoulli, &batch);
    let expected = enumerated_fisher(&Bernoulli, &model, (&batch.inputs, &binary_targets(3)));
    assert_close("Bernoulli", &bernoulli, &expected, ROUNDING);
    let categorical = exact::fisher(&model, &layers, &Categorical, &batch);
    let expected = enumerated_fisher(&Categorical, &model, (&batch.inputs, &one_hot_targets(3)));
    assert_close("categorical", &categorical, &expected, ROUNDING);
}

/// The gradient factors of one step, layer by layer, as one column.
fn gradient_factors<L: PredictiveDistribution + Clone>(
    loss: &L,
    spec: Spec<'_>,
    (fisher, seed): (FisherEstimate, u64),
) -> Mat<f64> {
    let mut model = spec.model(3);
    let batch = spec.batch(loss, 6, 4);
    let config = exact_config().map_curvature(|c| c.with_fisher(fisher).with_seed(seed));
    let (optimizer, _) = run(&config, loss.clone(), &mut model, &batch, 1);
    let gradients = optimizer
        .factors()
        .kronecker()
        .into_iter()
        .map(|factors| factors.gradient.clone());
    support::column(&kfac::ParameterVector::new(gradients.collect()))
}

fn assert_converges<L: PredictiveDistribution + Clone>(loss: &L) {
    const SEEDS: usize = 256;
    let spec = Spec::new(&[3, 3, 3], Activation::Tanh);
    let exact = gradient_factors(loss, spec, (FisherEstimate::Exact, 0));
    let draw = |seed| gradient_factors(loss, spec, (FisherEstimate::MonteCarlo, seed as u64));
    let errors: Vec<Mat<f64>> = (0..SEEDS).map(|seed| draw(seed) - &exact).collect();
    let mean_square = |group: usize| {
        let square = |part: &[Mat<f64>]| {
            let zero = Mat::zeros(exact.nrows(), 1);
            let mean = part.iter().fold(zero, |sum, e| sum + e) * faer::Scale(1.0 / group as f64);
            mean.squared_norm_l2()
        };
        errors.chunks(group).map(square).sum::<f64>() / (SEEDS / group) as f64
    };
    // The squared error of a mean of n is 1/n of that of one draw. Sixteen groups of sixteen know
    // theirs with a relative deviation of at most √(2/16) = 0.35 (one dominant direction), so a
    // factor of two is two deviations and more; a bias would leave a ratio of one.
    let ratio = mean_square(1) / mean_square(16);
    assert!(
        (8.0..32.0).contains(&ratio),
        "{loss:?}: 16 draws are {ratio} times better than one"
    );
    // The mean of all: within three standard errors of the exact factors.
    let allowed = 9.0 * mean_square(1) / SEEDS as f64;
    assert!(
        mean_square(SEEDS) < allowed,
        "{loss:?}: {} > {allowed}",
        mean_square(SEEDS)
    );
}

#[test]
fn sampled_factors_converge_to_the_exact_ones() {
    assert_converges(&Bernoulli);
    assert_converges(&Categorical);
    assert_converges(&Gaussian);
}

/// The output gradients of all layers are the bias rows of each case's own gradient.
fn explicit_gradients<L: PredictiveDistribution + Clone>(
    loss: &L,
    model: &support::Mlp,
    batch: &Batch<Tensor<2>>,
) -> Vec<Mat<f64>> {
    let layers = layers_of(model, &batch.inputs);
    let parameters = layers.parameters(model);
    let objective = support::objective(&layers, loss, 0.0);
    let gradients: Vec<_> = (0..batch.len())
        .map(|i| {
            objective
                .gradient(model, &parameters, &batch.slice(i..i + 1))
                .unwrap()
                .1
        })
        .collect();
    let of_layer = |(index, layer): (usize, &kfac::Layer)| {
        let row = |case: usize, j| dense(&gradients[case].blocks()[index])[(layer.d_in, j)];
        Mat::from_fn(batch.len(), layer.d_out, row)
    };
    layers.iter().enumerate().map(of_layer).collect()
}

fn assert_empirical<L: PredictiveDistribution + Clone>(loss: &L) {
    let spec = Spec::new(&[3, 4, 3], Activation::Logistic);
    let mut model = spec.model(3);
    let batch = spec.batch(loss, 6, 4);
    let expected = explicit_gradients(loss, &model, &batch);
    let config = exact_config().map_curvature(|c| c.with_fisher(FisherEstimate::Empirical));
    let (optimizer, _) = run(&config, loss.clone(), &mut model, &batch, 1);
    for (factors, rows) in optimizer.factors().kronecker().into_iter().zip(&expected) {
        let what = format!("{loss:?}, gradients under the targets");
        assert_close(
            &what,
            &dense(&factors.gradient),
            &mean_outer(rows),
            ROUNDING,
        );
    }
}

#[test]
fn empirical_factors_are_second_moments_of_the_gradients_under_the_targets() {
    assert_empirical(&Bernoulli);
    assert_empirical(&Categorical);
    assert_empirical(&Gaussian);
}
