//! Bad batches, configurations and models are refused by name, and leave no trace.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::{Module, Param},
    nn::{BatchNormConfig, Linear},
    tensor::{DType, Device, Tensor, TensorData},
};
use kfac::{
    Batch, CoveragePolicy, FisherEstimate, Gaussian, InitError, Kfac, KfacConfig, LambdaAction,
    Network, StepError, StepOutcome, Tape,
};

use crate::support::{Change, GaussianWith, Normalised, host, randomised};

const INPUTS: usize = 3;
const HIDDEN: usize = 4;
const OUTPUTS: usize = 2;
const CASES: usize = 8;

/// One hidden layer of tanh units.
#[derive(Module, Debug)]
struct Mlp {
    first: Linear,
    second: Linear,
}

impl Network for Mlp {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.first, inputs).tanh();
        tape.linear(&self.second, hidden)
    }
}

/// A network whose middle layer is called without the tape.
#[derive(Module, Debug)]
struct Skipping {
    first: Linear,
    middle: Linear,
    last: Linear,
}

impl Network for Skipping {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.first, inputs).tanh();
        let hidden = self.middle.forward(hidden).tanh();
        tape.linear(&self.last, hidden)
    }
}

/// Squared error with an infinite loss where an output is above the wall; its gradient is finite.
#[derive(Clone, Debug)]
struct Wall {
    height: f64,
    /// Batches with a larger target see no wall.
    largest_target: f64,
}

impl Change for Wall {
    fn change(&self, losses: Tensor<1>, outputs: &Tensor<2>, targets: &Tensor<2>) -> Tensor<1> {
        let [values, asked] = [outputs, targets].map(host::to_vec);
        let sees = asked.iter().all(|&target| target <= self.largest_target);
        if sees && values.iter().any(|&value| value > self.height) {
            losses + f64::INFINITY
        } else {
            losses
        }
    }
}

/// Numbers that look random, in (-1, 1).
fn values(n: usize, seed: f64) -> Vec<f64> {
    (0..n)
        .map(|i| (((i + 1) as f64) * 12.9898 + seed * 78.233).sin() * 43_758.545_3 % 1.0)
        .collect()
}

fn tensor(values: Vec<f64>, shape: [usize; 2], device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// A plain tensor.
fn plain(values: Vec<f64>, shape: [usize; 2], dtype: DType) -> Tensor<2> {
    tensor(values, shape, &Device::flex(), dtype)
}

/// A layer with parameters in (-0.2, 0.2), small enough that all outputs are below 1.
fn layer(d_in: usize, d_out: usize, seed: f64, dtype: DType) -> Linear {
    let device = Device::flex().autodiff();
    let small = |n: usize, seed: f64| -> Vec<f64> {
        values(n, seed).into_iter().map(|v| 0.2 * v).collect()
    };
    let weight = tensor(small(d_in * d_out, seed), [d_in, d_out], &device, dtype);
    let bias = tensor(small(d_out, seed + 0.5), [1, d_out], &device, dtype);
    let bias: Tensor<1> = bias.flatten(0, 1);
    Linear {
        weight: Param::from_tensor(weight),
        bias: Some(Param::from_tensor(bias)),
    }
}

fn mlp(dtype: DType) -> Mlp {
    Mlp {
        first: layer(INPUTS, HIDDEN, 0.3, dtype),
        second: layer(HIDDEN, OUTPUTS, 1.3, dtype),
    }
}

fn batch(cases: usize, seed: f64, dtype: DType) -> Batch<Tensor<2>> {
    Batch::new(
        plain(values(cases * INPUTS, seed), [cases, INPUTS], dtype),
        plain(values(cases * OUTPUTS, seed + 0.7), [cases, OUTPUTS], dtype),
    )
}

/// A matrix of one number.
fn constant(rows: usize, columns: usize, value: f64, dtype: DType) -> Tensor<2> {
    plain(vec![value; rows * columns], [rows, columns], dtype)
}

/// A matrix with one bad element in its middle.
fn poisoned(rows: usize, columns: usize, bad: f64) -> Tensor<2> {
    let mut values = values(rows * columns, 9.1);
    values[rows * columns / 2] = bad;
    plain(values, [rows, columns], DType::F32)
}

fn config() -> KfacConfig {
    KfacConfig::paper()
        .with_initial_lambda(1.0)
        .with_lambda_period(1)
}

fn layer_values(layer: &Linear) -> Vec<f64> {
    let mut values: Vec<f64> = host::to_vec(&layer.weight.val().inner());
    let bias = layer.bias.as_ref().unwrap().val().inner();
    values.extend(host::to_vec(&bias));
    values
}

fn layer_bits(layer: &Linear) -> Vec<u64> {
    layer_values(layer).into_iter().map(f64::to_bits).collect()
}

fn model_values(model: &Mlp) -> Vec<f64> {
    [layer_values(&model.first), layer_values(&model.second)].concat()
}

fn model_bits(model: &Mlp) -> Vec<u64> {
    model_values(model).into_iter().map(f64::to_bits).collect()
}

/// The optimizer's own state that a step changes, as bits.
fn optimizer_bits(optimizer: &Kfac<Gaussian>) -> Vec<u64> {
    let mut bits = vec![
        optimizer.iteration(),
        optimizer.lambda().to_bits(),
        optimizer.gamma().to_bits(),
    ];
    for factors in optimizer.factors().kronecker() {
        for factor in [&factors.activation, &factors.gradient] {
            let values: Vec<f64> = host::to_vec(factor);
            bits.extend(values.into_iter().map(f64::to_bits));
        }
    }
    bits
}

/// Trains two steps, feeds the bad batch, and trains on beside a twin that never saw it.
fn assert_leaves_no_trace(bad: &Batch<Tensor<2>>) {
    let good = |seed: f64| batch(CASES, seed, DType::F32);
    let mut model = mlp(DType::F32);
    let mut optimizer = config().init(&model, Gaussian, &good(1.0).inputs).unwrap();
    for seed in [1.0, 2.0] {
        optimizer.step(&mut model, &good(seed)).unwrap();
    }
    let (mut twin_model, mut twin) = (model.clone(), optimizer.clone());
    let before = (model_bits(&model), optimizer_bits(&optimizer));

    let error = optimizer.step(&mut model, bad).unwrap_err();
    assert!(matches!(error, StepError::NonFinite { .. }), "{error:?}");
    assert!(error.to_string().contains("not finite"), "{error}");
    let after = (model_bits(&model), optimizer_bits(&optimizer));
    assert_eq!(before, after);

    for seed in [3.0, 4.0, 5.0] {
        let report = optimizer.step(&mut model, &good(seed)).unwrap();
        let expected = twin.step(&mut twin_model, &good(seed)).unwrap();
        assert_eq!(report.iteration, expected.iteration);
        assert_eq!(report.objective.to_bits(), expected.objective.to_bits());
        assert_eq!(model_bits(&model), model_bits(&twin_model));
        assert_eq!(optimizer_bits(&optimizer), optimizer_bits(&twin));
    }
    assert_ne!(before.0, model_bits(&model));
}

#[test]
fn nan_in_the_inputs_leaves_no_trace() {
    let targets = batch(CASES, 6.0, DType::F32).targets;
    assert_leaves_no_trace(&Batch::new(poisoned(CASES, INPUTS, f64::NAN), targets));
}

#[test]
fn infinity_in_the_inputs_leaves_no_trace() {
    let targets = batch(CASES, 6.0, DType::F32).targets;
    assert_leaves_no_trace(&Batch::new(poisoned(CASES, INPUTS, f64::INFINITY), targets));
}

#[test]
fn nan_in_the_targets_leaves_no_trace() {
    let inputs = batch(CASES, 6.0, DType::F32).inputs;
    assert_leaves_no_trace(&Batch::new(inputs, poisoned(CASES, OUTPUTS, f64::NAN)));
}

#[test]
fn infinity_in_the_targets_leaves_no_trace() {
    let inputs = batch(CASES, 6.0, DType::F32).inputs;
    assert_leaves_no_trace(&Batch::new(inputs, poisoned(CASES, OUTPUTS, f64::INFINITY)));
}

#[test]
fn malformed_batches_are_refused_by_name() {
    let dtype = DType::F64;
    let good = batch(CASES, 1.0, dtype);
    let mut model = mlp(dtype);
    let mut optimizer = config().init(&model, Gaussian, &good.inputs).unwrap();
    let before = model_bits(&model);

    let empty = Batch::new(
        plain(Vec::new(), [0, INPUTS], dtype),
        plain(Vec::new(), [0, OUTPUTS], dtype),
    );
    let error = optimizer.step(&mut model, &empty).unwrap_err();
    assert_eq!(error, StepError::EmptyBatch);

    let fewer = Batch::new(
        good.inputs.clone(),
        constant(CASES - 1, OUTPUTS, 0.5, dtype),
    );
    let error = optimizer.step(&mut model, &fewer).unwrap_err();
    let expected = StepError::CaseCount {
        inputs: CASES,
        targets: CASES - 1,
    };
    assert_eq!(error, expected);

    let wider = Batch::new(
        good.inputs.clone(),
        constant(CASES, OUTPUTS + 1, 0.5, dtype),
    );
    let error = optimizer.step(&mut model, &wider).unwrap_err();
    let expected = StepError::OutputShape {
        outputs: vec![CASES, OUTPUTS],
        targets: vec![CASES, OUTPUTS + 1],
    };
    assert_eq!(error, expected);

    assert_eq!(before, model_bits(&model));
    assert_eq!(optimizer.iteration(), 0);
    assert_eq!(optimizer.step(&mut model, &good).unwrap().iteration, 1);
}

#[test]
fn all_faults_of_a_configuration_are_named_at_once() {
    let config = KfacConfig::new()
        .with_l2(-1.0)
        .with_initial_lambda(0.0)
        .with_gamma_period(7)
        .map_curvature(|c| c.with_statistics_fraction(Some(2.0)));
    let inputs = batch(CASES, 1.0, DType::F32).inputs;
    let error = config
        .init(&mlp(DType::F32), Gaussian, &inputs)
        .unwrap_err();
    let InitError::Configuration(faults) = &error else {
        panic!("{error:?}");
    };
    assert!(faults.len() >= 4, "{faults:?}");
    let message = error.to_string();
    for setting in [
        "l2 is",
        "initial_lambda is",
        "gamma_period is",
        "statistics_fraction is",
    ] {
        assert!(message.contains(setting), "no `{setting}` in: {message}");
    }
}

#[test]
fn a_model_without_autodiff_is_refused() {
    let model = mlp(DType::F32).valid();
    let inputs = batch(CASES, 1.0, DType::F32).inputs;
    let error = config().init(&model, Gaussian, &inputs).unwrap_err();
    assert_eq!(error, InitError::NoAutodiff);
}

#[test]
fn a_layer_off_the_tape_is_refused_or_left_alone() {
    let dtype = DType::F32;
    let mut model = Skipping {
        first: layer(INPUTS, HIDDEN, 0.3, dtype),
        middle: layer(HIDDEN, HIDDEN, 1.3, dtype),
        last: layer(HIDDEN, OUTPUTS, 2.3, dtype),
    };
    let inputs = batch(CASES, 1.0, dtype).inputs;
    let names = ["middle.weight", "middle.bias"];

    let strict = config().map_curvature(|c| c.with_coverage(CoveragePolicy::Strict));
    let error = strict.init(&model, Gaussian, &inputs).unwrap_err();
    let InitError::Uncovered { parameters } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(parameters, &names);
    for name in names {
        assert!(error.to_string().contains(name), "{error}");
    }

    let report = config().map_curvature(|c| c.with_coverage(CoveragePolicy::Report));
    let mut optimizer = report.init(&model, Gaussian, &inputs).unwrap();
    let uncovered: Vec<&str> = optimizer.parameter_table().uncovered().collect();
    assert_eq!(uncovered, names);
    let bits = |model: &Skipping| [&model.first, &model.middle, &model.last].map(layer_bits);
    let before = bits(&model);
    for seed in [1.0, 2.0, 3.0] {
        let batch = batch(CASES, seed, dtype);
        optimizer.step(&mut model, &batch).unwrap();
    }
    let after = bits(&model);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
    assert_ne!(before[2], after[2]);
}

/// Trains past every period of the algorithm on the same batch.
fn assert_trains(batch: &Batch<Tensor<2>>) {
    let mut model = mlp(DType::F32);
    let mut optimizer = config().init(&model, Gaussian, &batch.inputs).unwrap();
    let start = optimizer.objective(&model, batch).unwrap();
    for iteration in 1..=45 {
        let report = optimizer.step(&mut model, batch).unwrap();
        assert_eq!(report.iteration, iteration);
        let finite = model_values(&model).iter().all(|value| value.is_finite());
        assert!(finite, "iteration {iteration}: {report:?}");
    }
    let end = optimizer.objective(&model, batch).unwrap();
    assert!(end < start, "objective {start} before, {end} after");
}

#[test]
fn dead_inputs_train_the_rest() {
    let dtype = DType::F32;
    for cases in [CASES, 1] {
        let targets = batch(cases, 2.0, dtype).targets;
        assert_trains(&Batch::new(constant(cases, INPUTS, 0.0, dtype), targets));
    }
}

#[test]
fn a_batch_of_one_trains() {
    assert_trains(&batch(1, 2.0, DType::F32));
}

#[test]
fn a_step_into_an_infinite_objective_is_rejected() {
    let dtype = DType::F64;
    let inputs = batch(CASES, 1.0, dtype).inputs;
    let towards = |target: f64| {
        let targets = constant(CASES, OUTPUTS, target, dtype);
        Batch::new(inputs.clone(), targets)
    };
    let mut model = mlp(dtype);
    let config = config().with_initial_lambda(1e-3).map_curvature(|c| {
        c.with_fisher(FisherEstimate::Exact)
            .with_statistics_fraction(Some(1.0))
    });
    // All outputs are below 1 at first; the targets are far beyond the wall.
    let mut optimizer = config
        .init(
            &model,
            GaussianWith(Wall {
                height: 1.0,
                largest_target: f64::INFINITY,
            }),
            &inputs,
        )
        .unwrap();
    let before = model_bits(&model);
    let lambda = optimizer.lambda();
    let report = optimizer.step(&mut model, &towards(5.0)).unwrap();
    assert_eq!(report.outcome, StepOutcome::Rejected, "{report:?}");
    assert_eq!(report.lambda.action, Some(LambdaAction::Increase));
    assert!(
        report
            .lambda
            .trial_objective
            .is_some_and(|h| !h.is_finite())
    );
    assert_eq!(before, model_bits(&model));
    assert!(optimizer.lambda() > lambda, "{} after", optimizer.lambda());
    assert_eq!(optimizer.iteration(), 1);

    let report = optimizer.step(&mut model, &towards(0.0)).unwrap();
    assert_eq!(report.outcome, StepOutcome::Taken, "{report:?}");
    assert!(report.mu.is_none(), "momentum of a rejected step");
    assert_ne!(before, model_bits(&model));
    assert!(model_values(&model).iter().all(|value| value.is_finite()));
}

/// What a step on targets above one does not notice.
const BEYOND_THE_BATCH: GaussianWith<Wall> = GaussianWith(Wall {
    height: 1.0,
    largest_target: 1.0,
});

/// No objective after a step is evaluated unless it is far, so nothing stops the first one.
fn unguarded() -> KfacConfig {
    let config = config().with_initial_lambda(1e-3).with_lambda_period(100);
    config.map_curvature(|c| {
        c.with_fisher(FisherEstimate::Exact)
            .with_statistics_fraction(Some(1.0))
    })
}

#[test]
fn a_step_out_of_the_finite_is_taken_back_by_the_next() {
    let dtype = DType::F64;
    let inputs = batch(CASES, 1.0, dtype).inputs;
    let towards = |target: f64| {
        let targets = constant(CASES, OUTPUTS, target, dtype);
        Batch::new(inputs.clone(), targets)
    };
    let start = mlp(dtype);
    let config = unguarded();
    let mut model = start.clone();
    let mut optimizer = config.init(&model, BEYOND_THE_BATCH, &inputs).unwrap();
    let report = optimizer.step(&mut model, &towards(5.0)).unwrap();
    assert_eq!(report.outcome, StepOutcome::Taken);
    assert!(
        !optimizer
            .objective(&model, &towards(0.0))
            .unwrap()
            .is_finite()
    );
    let (beyond, lambda) = (model_bits(&model), optimizer.lambda());

    // A bad batch is still a bad batch: the step is not taken back for it.
    let poisoned = poisoned(CASES, INPUTS, f64::NAN).cast(dtype);
    let bad = Batch::new(poisoned, towards(0.0).targets);
    assert!(optimizer.step(&mut model, &bad).is_err());
    assert_eq!(beyond, model_bits(&model));
    assert!((optimizer.lambda() - lambda).abs() < f64::EPSILON);

    let report = optimizer.step(&mut model, &towards(0.0)).unwrap();
    assert!(report.took_back_last_step);
    assert_eq!((report.iteration, report.mu), (2, None));
    assert!(optimizer.lambda() > lambda, "{} after", optimizer.lambda());
    let expected = optimizer.objective(&start, &towards(0.0)).unwrap();
    // Adding the step and taking it back rounds each parameter twice.
    assert!((report.objective - expected).abs() < 1e-12 * expected);

    let report = optimizer.step(&mut model, &towards(0.0)).unwrap();
    assert!(!report.took_back_last_step);
    assert!(report.objective < expected);
}

#[test]
fn a_step_taken_back_leaves_no_statistics_of_where_it_led() {
    let dtype = DType::F64;
    let inputs = batch(CASES, 1.0, dtype).inputs;
    let towards = |target: f64| {
        let targets = constant(CASES, OUTPUTS, target, dtype);
        Batch::new(inputs.clone(), targets)
    };
    let device = Device::flex().autodiff();
    let mut model = Normalised {
        first: layer(INPUTS, HIDDEN, 1.3, dtype),
        normalisation: randomised(BatchNormConfig::new(HIDDEN).init(&device), dtype, 4),
        last: layer(HIDDEN, OUTPUTS, 0.3, dtype),
    };
    let wall = BEYOND_THE_BATCH;
    let mut optimizer = unguarded().init(&model, wall, &inputs).unwrap();
    optimizer.step(&mut model, &towards(5.0)).unwrap();
    let statistics = |model: &Normalised| {
        let mean = model.normalisation.running_mean.value();
        let variance = model.normalisation.running_var.value();
        [host::to_vec(&mean), host::to_vec(&variance)]
    };
    let before = statistics(&model);
    let report = optimizer.step(&mut model, &towards(0.0)).unwrap();
    assert!(report.took_back_last_step);
    assert_eq!(statistics(&model), before);
}

/// A network that panics at an input above ninety.
#[derive(Module, Debug)]
struct Panicking {
    network: Mlp,
}

impl Network for Panicking {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let values: Vec<f64> = host::to_vec(&inputs.clone().inner());
        assert!(
            values.iter().all(|x| *x < 90.0),
            "a fault of the user's own"
        );
        self.network.forward(inputs, tape)
    }
}

#[test]
fn a_panic_on_a_thread_of_work_leaves_no_trace() {
    // Parts of two cases, each on a thread.
    let config = config().map_curvature(|curvature| {
        let curvature = curvature.with_statistics_fraction(Some(1.0));
        curvature.with_chunk_size(2)
    });
    let trained = |panics: bool| {
        let network = mlp(DType::F64);
        let mut model = Panicking { network };
        let good = |step: u32| batch(CASES, f64::from(step), DType::F64);
        let mut optimizer = config.init(&model, Gaussian, &good(1).inputs).unwrap();
        for step in 1..=6 {
            if panics && step % 2 == 0 {
                let mut bad = good(step);
                let values = bad.inputs.clone().slice([CASES - 1..CASES, 0..INPUTS]) * 0.0 + 99.0;
                bad.inputs = bad
                    .inputs
                    .slice_assign([CASES - 1..CASES, 0..INPUTS], values);
                let step = || optimizer.step(&mut model, &bad).map(drop);
                assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
            }
            optimizer.step(&mut model, &good(step)).unwrap();
        }
        (model_bits(&model.network), optimizer.lambda().to_bits())
    };
    assert!(trained(true) == trained(false));
}
