//! Several sampled targets for each case.

use burn::tensor::{DType, Tensor};
use faer::Mat;
use kfac::{
    Batch, Bernoulli, ConfigFault, FisherEstimate, KfacConfig, ParameterVector, RandomStream,
    blocks::Blocks, curvature::FisherEstimator,
};

use crate::support::{
    ROUNDING, TwoLayers, assert_close, bits, column, exact_config, normal, own_blocks,
    sampled_config, trained, without_times,
};

fn setting() -> (TwoLayers, Batch<Tensor<2>>, Blocks) {
    let model = TwoLayers::new([3, 4, 2], 1);
    let inputs = normal([6, 3], 2);
    let targets = normal([6, 2], 3).greater_elem(0.0).float();
    let blocks = own_blocks(&model, &inputs);
    (model, Batch::new(inputs, targets.cast(DType::F64)), blocks)
}

/// The factors of all layers as a column: those of the inputs, and those of the gradients.
fn factors(
    estimator: FisherEstimator<'_, Bernoulli>,
    (model, batch): (&TwoLayers, &Batch<Tensor<2>>),
    random: &mut RandomStream,
) -> [Mat<f64>; 2] {
    let factors = estimator.factors(model, batch, random).unwrap();
    let kronecker = factors.kronecker();
    let inputs = kronecker.iter().map(|factors| factors.activation.clone());
    let gradients = kronecker.iter().map(|factors| factors.gradient.clone());
    let of = |factors| column(&ParameterVector::new(factors));
    [of(inputs.collect()), of(gradients.collect())]
}

#[test]
fn factors_of_several_samples_are_the_mean_of_their_own() {
    const SAMPLES: usize = 5;
    let (model, batch, blocks) = setting();
    let estimator = FisherEstimator::new(&blocks, &Bernoulli);
    let mut random = RandomStream::from_seed(4);
    let [inputs, gradients] = factors(
        estimator.with_samples(SAMPLES),
        (&model, &batch),
        &mut random,
    );
    // One after another from the same stream.
    let mut random = RandomStream::from_seed(4);
    let mut sum = Mat::zeros(gradients.nrows(), 1);
    for _ in 0..SAMPLES {
        let [own_inputs, own] = factors(estimator, (&model, &batch), &mut random);
        assert_close("inputs", &inputs, &own_inputs, ROUNDING);
        sum += own;
    }
    let mean = sum * faer::Scale(1.0 / SAMPLES as f64);
    assert_close("gradients", &gradients, &mean, ROUNDING);
}

#[test]
fn one_sample_is_the_default() {
    let (start, batch, _) = setting();
    let run = |config: KfacConfig| {
        let optimizer = config.init(&start, Bernoulli, &batch.inputs).unwrap();
        let (_, model, reports) = trained(optimizer, start.clone(), &batch, 6);
        (bits(&model), without_times(&reports))
    };
    let samples = |config: KfacConfig, samples| {
        config.map_curvature(|curvature| curvature.with_samples(samples))
    };
    let default = run(sampled_config());
    assert_eq!(run(samples(sampled_config(), 1)), default);
    assert_ne!(run(samples(sampled_config(), 2)), default);
    // Other estimates do not read it.
    assert_eq!(run(samples(exact_config(), 2)), run(exact_config()));
}

#[test]
fn no_sample_is_refused() {
    let config = sampled_config().map_curvature(|curvature| curvature.with_samples(0));
    let expected = ConfigFault::OutOfRange {
        setting: "samples",
        value: 0.0,
        expected: "at least 1",
    };
    assert_eq!(config.validate(), [expected]);
}

#[test]
fn noise_falls_with_the_number_of_samples() {
    const DRAWS: u64 = 200;
    const SAMPLES: usize = 8;
    let (model, batch, blocks) = setting();
    let estimator = FisherEstimator::new(&blocks, &Bernoulli);
    let draw = |estimator: FisherEstimator<'_, Bernoulli>, seed| {
        let random = &mut RandomStream::from_seed(seed);
        let [_, gradients] = factors(estimator, (&model, &batch), random);
        gradients
    };
    let exact = draw(estimator.with_estimate(FisherEstimate::Exact), 0);
    let mean_square = |estimator: FisherEstimator<'_, Bernoulli>| {
        let errors = (0..DRAWS).map(|seed| (draw(estimator, seed) - &exact).squared_norm_l2());
        errors.sum::<f64>() / DRAWS as f64
    };
    let ratio = mean_square(estimator) / mean_square(estimator.with_samples(SAMPLES));
    // Each of the two mean squares of 200 draws has a relative deviation of √(2/200) = 0.1 where one
    // direction dominates, and less otherwise, their ratio one of 0.14: a factor of 1.6 is four
    // deviations. Without an effect the ratio would be one.
    let expected = SAMPLES as f64;
    assert!(
        (expected / 1.6..expected * 1.6).contains(&ratio),
        "{SAMPLES} samples are {ratio} times better than one"
    );
}
