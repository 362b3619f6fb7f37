//! One loss, one derivative: for every target that a loss accepts its gradient is that of its value; what it
//! does not accept is refused with the value.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{
        DType, Device, Int, Tensor, TensorData,
        activation::{sigmoid, softmax},
    },
};
use kfac::{
    Batch, Bernoulli, Categorical, CategoricalSequence, CrossEntropy, FisherEstimate, Gaussian,
    Likelihood, Loss, Network, PreconditionerConfig, PredictiveDistribution, RandomStream,
    StepError, Tape, Weighted, curvature::FisherEstimator,
};
use proptest::prelude::*;

use crate::support::{
    Change, GaussianWith, ROUNDING, TwoLayers, assert_close, assert_near, cases, classes, column,
    dense, dense_layer, exact_config, host, normal, objective, own_blocks,
};

/// Central differences of step 1e-5: truncation and rounding are both near 1e-10.
const DIFFERENCES: f64 = 1e-8;

fn of(rows: &[[f64; 3]]) -> Tensor<2> {
    let values = rows.iter().flatten().copied().collect();
    let data = TensorData::new::<f64, _>(values, [rows.len(), 3]);
    Tensor::from_data(data, (&Device::default(), DType::F64))
}

/// Fails where the gradient is not the slope of the value.
fn assert_slope<T: Clone>(loss: &impl Loss<Tensor<2>, T>, outputs: &Tensor<2>, targets: &T) {
    loss.check(outputs, targets).unwrap();
    let gradient = loss.gradient(outputs.clone(), targets.clone());
    for seed in 0..3 {
        let direction = normal(outputs.dims(), 50 + seed);
        let value = |t: f64| {
            let moved = outputs.clone() + direction.clone() * t;
            host::sum(loss.value(moved, targets.clone()))
        };
        let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
        let along = host::sum(gradient.clone() * direction.clone());
        assert!(
            (along - slope).abs() < DIFFERENCES * (1.0 + slope.abs()),
            "{loss:?}"
        );
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let outputs = normal([4, 3], 1);
    let soft = softmax(normal([4, 3], 2), 1);
    let weighted = soft.clone() * of(&[[3.0; 3], [0.0; 3], [0.5; 3], [1.0; 3]]);
    let weights = normal([4], 3).abs();
    for targets in [soft.clone(), weighted] {
        assert_slope(&Categorical, &outputs, &targets);
        assert_slope(&CategoricalSequence { classes: 3 }, &outputs, &targets);
        assert_slope(&Gaussian, &outputs, &targets);
        assert_slope(
            &Weighted(Categorical),
            &outputs,
            &(targets, weights.clone()),
        );
    }
    assert_slope(&Bernoulli, &outputs, &soft);
    assert_slope(&Weighted(Bernoulli), &outputs, &(soft, weights.clone()));
    assert_slope(
        &Weighted(Categorical),
        &outputs,
        &(classes([4], 3, 4), weights),
    );
}

#[test]
fn softened_targets_are_rows_of_probabilities_and_weights() {
    let outputs = normal([4, 3], 1);
    let labels = Tensor::<1, Int>::from_data([2, 0, -1, 1], &Device::default());
    let loss = CrossEntropy::new()
        .with_smoothing(0.3)
        .with_class_weights(vec![2.0, 0.0, 0.5])
        .with_ignored(-1);
    let rows = of(&[[0.05, 0.05, 0.4], [1.6, 0.2, 0.2], [0.0; 3], [0.0; 3]]);
    assert_slope(&loss, &outputs, &labels);
    let of_rows = |rows: &Tensor<2>| {
        let value = Loss::value(&Categorical, outputs.clone(), rows.clone());
        let gradient = Loss::gradient(&Categorical, outputs.clone(), rows.clone());
        let empirical = Loss::empirical_gradient(&Categorical, outputs.clone(), rows.clone());
        let rooted = Loss::root_weighted(&Categorical, outputs.clone(), rows);
        [value.unsqueeze_dim(1), gradient, empirical, rooted]
    };
    let found = [
        loss.value(outputs.clone(), labels.clone()).unsqueeze_dim(1),
        loss.gradient(outputs.clone(), labels.clone()),
        loss.empirical_gradient(outputs.clone(), labels.clone()),
        loss.root_weighted(outputs.clone(), &labels),
    ];
    for (found, expected) in found.iter().zip(of_rows(&rows)) {
        assert_close("labels", &dense(found), &dense(&expected), ROUNDING);
    }
    // Rows of probabilities have the mean weight of their classes.
    let soft = of(&[[0.5, 0.0, 0.5], [0.2, 0.3, 0.5], [0.0; 3], [0.0, 0.0, 2.0]]);
    assert_slope(&loss, &outputs, &soft);
    let weights = [1.25, 0.65, 0.0, 0.5];
    let sums = Loss::root_weighted(&loss, outputs.ones_like(), &soft).slice_dim(1, 0..1);
    for ((weight, sum), root) in weights
        .iter()
        .zip([1.0, 1.0, 0.0, 2.0])
        .zip(host::to_vec(&sums))
    {
        assert_near("√w", root, f64::sqrt(weight * sum), ROUNDING);
    }
    // Without settings it is the plain loss.
    let plain = CrossEntropy::new();
    let labels = classes([4], 3, 4);
    let value = |loss: &dyn Loss<Tensor<2>, Tensor<1, Int>>| {
        dense(&loss.value(outputs.clone(), labels.clone()).unsqueeze_dim(1))
    };
    assert_close("plain", &value(&plain), &value(&Categorical), ROUNDING);
}

#[test]
fn settings_and_labels_that_a_cross_entropy_cannot_have_are_refused() {
    let outputs = normal([2, 3], 1);
    let labels = |labels: [i64; 2]| Tensor::<1, Int>::from_data(labels, &Device::default());
    let refused = |loss: CrossEntropy, found: [i64; 2]| loss.check(&outputs, &labels(found));
    let new = CrossEntropy::new;
    assert_eq!(refused(new().with_ignored(-1), [-1, 2]), Ok(()));
    let class = StepError::ClassOutOfRange {
        class: -1,
        classes: 3,
    };
    assert_eq!(refused(new(), [-1, 2]), Err(class));
    for loss in [
        new().with_smoothing(1.0),
        new().with_smoothing(f64::NAN),
        new().with_class_weights(vec![1.0, 2.0]),
        new().with_class_weights(vec![1.0, -2.0, 0.0]),
    ] {
        let found = refused(loss, [0, 1]);
        assert!(
            matches!(found, Err(StepError::LossSetting { .. })),
            "{found:?}"
        );
    }
}

/// Central differences of gradients of order one with step 1e-5: truncation and rounding are both near 1e-10.
const SECOND_DIFFERENCES: f64 = 1e-8;

/// Fails where the output Fisher matrix that the curvature is made of, `(√w B)(√w B)ᵀ`, is not the derivative of
/// the gradient, as it is where the outputs are natural parameters.
fn assert_curvature<T: Clone>(loss: &impl Loss<Tensor<2>, T>, outputs: &Tensor<2>, targets: &T) {
    let [cases, width] = outputs.dims();
    for column in 0..width {
        let unit = Tensor::<2>::zeros_like(outputs).slice_fill([0..cases, column..column + 1], 1.0);
        let gradient = |t: f64| {
            let moved = outputs.clone() + unit.clone() * t;
            dense(&loss.gradient(moved, targets.clone()))
        };
        let slope = (gradient(1e-5) - gradient(-1e-5)) * faer::Scale(0.5e5);
        let right = loss.factor_transpose_product(outputs.clone(), unit.clone());
        let weighted = |vectors| loss.root_weighted(vectors, targets);
        let product = loss.factor_product(outputs.clone(), weighted(right));
        let fisher = dense(&weighted(product));
        let error = (&fisher - &slope).norm_max();
        assert!(
            error < SECOND_DIFFERENCES * (1.0 + slope.norm_max()),
            "{loss:?}: {error:e}"
        );
    }
}

/// Logits, some of which mask a class, and what one asks for at each.
fn assert_one_function(seed: u64, masked: bool) {
    let noise = normal([4, 6], seed);
    let soft = softmax(normal([4, 6], seed + 1), 1);
    let weights = normal([4], seed + 2).abs() * of_cases(&[1.0, 0.0, 3.0, 0.5]);
    for outputs in [noise.clone() * 0.1, noise.clone() * 3.0] {
        assert_both(&Gaussian, &outputs, &noise);
        assert_both(&Bernoulli, &outputs, &soft);
        assert_both(
            &Weighted(Gaussian),
            &outputs,
            &(noise.clone(), weights.clone()),
        );
        assert_both(
            &Weighted(Bernoulli),
            &outputs,
            &(soft.clone(), weights.clone()),
        );
        let (outputs, soft) = if masked {
            let last = [0..4, 5..6];
            let masked = outputs.slice_fill(last.clone(), f64::NEG_INFINITY);
            (masked, soft.clone().slice_fill(last, 0.0))
        } else {
            (outputs, soft.clone())
        };
        let rows = soft * weights.clone().unsqueeze_dim(1);
        assert_both(&Categorical, &outputs, &rows);
        assert_both(&CategoricalSequence { classes: 3 }, &outputs, &rows);
        let labels = classes([4], 5, seed);
        assert_both(&Categorical, &outputs, &labels);
        assert_both(&Weighted(Categorical), &outputs, &(labels, weights.clone()));
    }
}

fn of_cases(values: &[f64]) -> Tensor<1> {
    Tensor::from_data(values, (&Device::default(), DType::F64))
}

fn assert_both<T: Clone>(loss: &impl Loss<Tensor<2>, T>, outputs: &Tensor<2>, targets: &T) {
    assert_slope(loss, outputs, targets);
    assert_curvature(loss, outputs, targets);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn every_loss_has_one_derivative_and_one_curvature(seed in 0u64..1_000_000, masked: bool) {
        assert_one_function(seed, masked);
    }
}

#[test]
fn a_weight_counts_a_case_so_many_times() {
    let model = TwoLayers::new([4, 5, 3], 1);
    let batch = Batch::new(normal([3, 4], 1), sigmoid(normal([3, 3], 2)));
    let weights = Tensor::from_data([2.0, 0.0, 1.0], (&Device::default(), DType::F64));
    let weighted = Batch::new(batch.inputs.clone(), (batch.targets.clone(), weights));
    let pick = |tensor: &Tensor<2>| {
        let row = |i: usize| tensor.clone().slice_dim(0, i..=i);
        Tensor::cat(vec![row(0), row(0), row(2)], 0)
    };
    let repeated = Batch::new(pick(&batch.inputs), pick(&batch.targets));

    let config = exact_config();
    let mut optimizer = config
        .init(&model, Weighted(Bernoulli), &batch.inputs)
        .unwrap();
    let mut twin = config.init(&model, Bernoulli, &batch.inputs).unwrap();
    let layers = twin.layers();
    let parameters = layers.parameters(&model);
    let found = objective(layers, &Weighted(Bernoulli), 0.0);
    let (value, gradient) = found.gradient(&model, &parameters, &weighted).unwrap();
    let expected = objective(layers, &Bernoulli, 0.0);
    let (of_repeated, expected) = expected.gradient(&model, &parameters, &repeated).unwrap();
    assert_near("objective", value, of_repeated, ROUNDING);
    assert_close("gradient", &column(&gradient), &column(&expected), ROUNDING);

    optimizer.step(&mut model.clone(), &weighted).unwrap();
    twin.step(&mut model.clone(), &repeated).unwrap();
    let pairs = optimizer.factors().kronecker().into_iter();
    for (found, expected) in pairs.zip(twin.factors().kronecker()) {
        assert_close(
            "G",
            &dense(&found.gradient),
            &dense(&expected.gradient),
            ROUNDING,
        );
    }
}

#[test]
fn rows_of_zeros_are_ignored_in_objective_and_curvature() {
    let model = TwoLayers::new([4, 5, 3], 1);
    let labels = of(&[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0; 3], [0.0; 3]]);
    let all = Batch::new(normal([4, 4], 2), labels);
    for estimate in [FisherEstimate::Exact, FisherEstimate::Empirical] {
        let config = exact_config()
            .map_curvature(|c| c.with_fisher(estimate))
            .with_l2(0.0);
        let step = |batch: &Batch<Tensor<2>>| {
            let mut optimizer = config.init(&model, Categorical, &batch.inputs).unwrap();
            let report = optimizer.step(&mut model.clone(), batch).unwrap();
            let gradient = dense(&optimizer.factors().kronecker()[1].gradient);
            (report.gradient_norm, gradient)
        };
        let ((norm, factor), (alone, of_two)) = (step(&all), step(&all.slice(0..2)));
        assert_near("gradient", norm, alone / 2.0, ROUNDING);
        assert_close("G", &factor, &(of_two * faer::Scale(0.5)), ROUNDING);
    }
}

#[test]
fn a_logit_of_minus_infinity_masks_its_class() {
    let mask = of(&[[0.0, 0.0, f64::NEG_INFINITY]]);
    let z = mask.clone();
    let y = of(&[[1.0, 0.0, 0.0]]);
    let value = host::sum(Categorical.negative_log_likelihood(z.clone(), y.clone()));
    assert_near("ln 2", value, 2.0f64.ln(), ROUNDING);
    let gradient = dense(&Categorical.output_gradient(z, y));
    assert_close(
        "p − y",
        &gradient,
        &dense(&of(&[[-0.5, 0.5, 0.0]])),
        ROUNDING,
    );

    let mut model = Masked {
        network: TwoLayers::new([4, 5, 3], 1),
    };
    let batch = Batch::new(normal([8, 4], 2), classes([8], 2, 3));
    let mut optimizer = exact_config()
        .init(&model, Categorical, &batch.inputs)
        .unwrap();
    let first = optimizer.step(&mut model, &batch).unwrap().objective;
    for _ in 0..5 {
        optimizer.step(&mut model, &batch).unwrap();
    }
    let last = optimizer.objective(&model, &batch).unwrap();
    assert!(last < 0.9 * first, "{first} to {last}");
}

/// The last of three classes is masked.
#[derive(burn::module::Module, Debug)]
struct Masked {
    network: TwoLayers,
}

impl Network for Masked {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        self.network.forward(inputs, tape) + of(&[[0.0, 0.0, f64::NEG_INFINITY]])
    }
}

#[test]
fn targets_that_a_loss_cannot_have_are_refused_with_their_value() {
    let model = TwoLayers::new([4, 5, 3], 1);
    let inputs = normal([2, 4], 1);
    for bad in [2.0, -1.0, 255.0] {
        let targets = of(&[[0.0, 1.0, 0.5], [0.0, bad, 1.0]]);
        let batch = Batch::new(inputs.clone(), targets);
        let mut optimizer = exact_config().init(&model, Bernoulli, &inputs).unwrap();
        let error = optimizer.step(&mut model.clone(), &batch).unwrap_err();
        assert!(
            matches!(error, StepError::TargetOutOfRange { value, .. } if value.to_bits() == bad.to_bits()),
            "{error}"
        );
    }
    let outputs = normal([2, 3], 2);
    let negative = of(&[[1.0, -0.5, 0.5], [0.0; 3]]);
    let error = Loss::check(&Categorical, &outputs, &negative).unwrap_err();
    assert!(
        matches!(error, StepError::TargetOutOfRange { .. }),
        "{error}"
    );
    let weights = Tensor::from_data([1.0, -2.0], &Device::default());
    let targets = (outputs.clone(), weights);
    let error = Weighted(Gaussian).check(&outputs, &targets).unwrap_err();
    assert_eq!(error, StepError::CaseWeight { value: -2.0 });
}

#[test]
fn outputs_that_a_distribution_cannot_have_are_refused() {
    let outputs = normal([2, 3], 2);
    for classes in [0, 2] {
        let sequence = CategoricalSequence { classes };
        let error = Likelihood::check_outputs(&sequence, &outputs).unwrap_err();
        let outputs = 3;
        assert_eq!(error, StepError::ClassesPerPosition { outputs, classes });
    }
    // Also where no targets are looked at.
    let mut model = TwoLayers::new([4, 5, 1], 1);
    let batch = Batch::new(
        normal([6, 4], 1),
        Tensor::<1, Int>::zeros([6], &Device::default()),
    );
    let mut optimizer = exact_config()
        .init(&model, Categorical, &batch.inputs)
        .unwrap();
    assert_eq!(
        optimizer.step(&mut model, &batch).unwrap_err(),
        StepError::OneClass
    );
    let sequence = CategoricalSequence { classes: 1 };
    let config = PreconditionerConfig::new();
    let mut kfac = config.init(&model, sequence, &batch.inputs).unwrap();
    let batch = Batch::new(batch.inputs, Tensor::zeros([6, 1], &Device::default()));
    assert_eq!(
        kfac.observe(&model, &batch).unwrap_err(),
        StepError::OneClass
    );
}

#[test]
fn the_fisher_of_a_weighted_case_is_so_many_times_that_of_the_case() {
    let model = TwoLayers::new([4, 5, 3], 1);
    let one = Batch::new(normal([1, 4], 1), softmax(normal([1, 3], 2), 1));
    let blocks = own_blocks(&model, &one.inputs);
    let estimates = [
        FisherEstimate::Empirical,
        FisherEstimate::Exact,
        FisherEstimate::MonteCarlo,
    ];
    for estimate in estimates {
        let weighted = |weight: f64| {
            let targets = (one.targets.clone(), of_cases(&[weight]));
            let batch = Batch::new(one.inputs.clone(), targets);
            let loss = Weighted(Categorical);
            let estimator = FisherEstimator::new(&blocks, &loss).with_estimate(estimate);
            let factors = estimator.factors(&model, &batch, &mut RandomStream::from_seed(1));
            dense(&factors.unwrap().kronecker()[1].gradient)
        };
        let rows = |weight: f64| {
            let batch = Batch::new(one.inputs.clone(), one.targets.clone() * weight);
            let estimator = FisherEstimator::new(&blocks, &Categorical).with_estimate(estimate);
            let factors = estimator.factors(&model, &batch, &mut RandomStream::from_seed(1));
            dense(&factors.unwrap().kronecker()[1].gradient)
        };
        let expected = weighted(1.0) * faer::Scale(4.0);
        assert_close("a weight", &weighted(4.0), &expected, ROUNDING);
        assert_close("the sum of a row", &rows(4.0), &expected, ROUNDING);
        assert!(weighted(0.0).norm_max() + rows(0.0).norm_max() < ROUNDING);
    }
}

#[test]
fn a_case_of_weight_zero_may_have_an_infinite_loss_and_no_weight_is_nan() {
    let outputs = of(&[[0.3, -0.2, f64::NEG_INFINITY]; 2]);
    let labels = Tensor::<1, Int>::from_data([0, 2], &Device::default());
    let targets = (labels.clone(), of_cases(&[1.0, 0.0]));
    let loss = Weighted(Categorical);
    let losses = host::to_vec(&loss.value(outputs.clone(), targets.clone()));
    assert!(
        losses[0].is_finite() && losses[1].abs() < ROUNDING,
        "{losses:?}"
    );
    let gradient = host::to_vec(&loss.gradient(outputs.clone(), targets));
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    assert!(
        gradient[3..].iter().all(|g| g.abs() < ROUNDING),
        "{gradient:?}"
    );
    let targets = (labels, of_cases(&[1.0, f64::NAN]));
    let error = loss.check(&outputs, &targets).unwrap_err();
    assert!(
        matches!(error, StepError::CaseWeight { value } if value.is_nan()),
        "{error}"
    );
}

#[test]
fn outputs_without_elements_and_outputs_that_mix_cases_are_refused() {
    let inputs = normal([4, 2, 3], 1);
    let mut model = AtPositions {
        layer: dense_layer([3, 2], 1),
    };
    let mut optimizer = exact_config().init(&model, Gaussian, &inputs).unwrap();
    let none = |width| Tensor::<3>::zeros([4, 0, width], (&Device::default(), DType::F64));
    let empty = Batch::new(none(3), none(2));
    let outputs = vec![4, 0, 2];
    let error = optimizer.step(&mut model, &empty).unwrap_err();
    assert_eq!(error, StepError::NoOutputs { outputs });

    let mut model = Centred {
        network: TwoLayers::new([4, 5, 3], 1),
    };
    let batch = Batch::new(normal([6, 4], 1), normal([6, 3], 2));
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut model, &batch).unwrap_err();
    assert_eq!(error, StepError::MixedCases);
}

/// A dense layer at each position.
#[derive(Module, Debug)]
struct AtPositions {
    layer: Linear,
}

impl Network for AtPositions {
    type Input = Tensor<3>;
    type Output = Tensor<3>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<3> {
        tape.linear(&self.layer, inputs)
    }
}

/// Outputs less their mean over the batch.
#[derive(Module, Debug)]
struct Centred {
    network: TwoLayers,
}

impl Network for Centred {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let outputs = self.network.forward(inputs, tape);
        outputs.clone() - outputs.mean_dim(0)
    }
}

/// A loss that is the mean over the cases, and not one of each.
#[derive(Debug)]
struct MeanOfCases;

impl Change for MeanOfCases {
    fn change(&self, losses: Tensor<1>, _: &Tensor<2>, _: &Tensor<2>) -> Tensor<1> {
        losses.mean()
    }
}

#[test]
fn a_loss_that_is_not_one_of_each_case_is_refused() {
    let mut model = TwoLayers::new([4, 5, 3], 1);
    let batch = Batch::new(normal([6, 4], 1), normal([6, 3], 2));
    let mut optimizer = exact_config()
        .init(&model, GaussianWith(MeanOfCases), &batch.inputs)
        .unwrap();
    let expected = StepError::LossCount {
        losses: 1,
        cases: 6,
    };
    assert_eq!(optimizer.objective(&model, &batch).unwrap_err(), expected);
    assert_eq!(optimizer.step(&mut model, &batch).unwrap_err(), expected);

    let weights = Tensor::<1>::ones([6], &Device::default());
    let weighted = Batch::new(batch.inputs.clone(), (batch.targets, weights));
    let mut optimizer = exact_config()
        .init(&model, Weighted(GaussianWith(MeanOfCases)), &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut model, &weighted).unwrap_err();
    assert_eq!(error, expected);
}

#[test]
fn draws_in_half_precision_have_one_class() {
    let z = Tensor::<2>::zeros([4000, 4], (&Device::default(), DType::BF16));
    let drawn = Categorical.sample(z, &mut RandomStream::from_seed(1));
    let values = host::to_vec(&drawn.cast(DType::F64));
    assert!(
        values
            .chunks(4)
            .all(|row| (row.iter().sum::<f64>() - 1.0).abs() < f64::EPSILON)
    );
}
