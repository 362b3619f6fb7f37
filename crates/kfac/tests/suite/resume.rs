//! A run that is written down and taken up again goes on to the bit as if it had not stopped.

use burn::{
    module::Module,
    optim::{ModuleOptimizer, SgdConfig},
    store::ModuleRecord,
    tensor::{Bytes, DType, Int, Tensor},
};
use kfac::{
    Batch, Cases, Categorical, DampingScheme, Eigenvalues, Gaussian, InverseMethod,
    InverseStructure, IterateAveraging, Kfac, KfacConfig, Loss, Network, Preconditioner,
    PreconditionerConfig,
    record::{LoadError, OptimizerKind, OptimizerRecord},
};

use crate::support::{
    Activation, Mlp, Normalised, SEVERAL_POSITIONS, SEVERAL_TOKENS, Several, Spec, bits, classes,
    gradients, normal,
};

const SPEC: Spec<'static> = Spec::new(&[3, 5, 4, 2], Activation::Tanh);

/// Steps of a run: three refreshes with a search for γ among them, and iterates that are averaged.
const STEPS: u64 = 21;

fn config() -> KfacConfig {
    KfacConfig::new()
        .with_l2(0.01)
        .with_initial_lambda(1.0)
        .with_gamma_period(16)
        .with_averaging(IterateAveraging::From { start: 3, cap: 0.9 })
        .map_curvature(|curvature| {
            curvature
                .with_statistics_fraction(Some(0.5))
                .with_inverse_period(8)
        })
}

fn tridiagonal(method: InverseMethod) -> KfacConfig {
    config().map_curvature(|curvature| {
        curvature
            .with_structure(InverseStructure::BlockTridiagonal)
            .with_inverse_method(method)
    })
}

fn ekfac() -> KfacConfig {
    config().map_curvature(|curvature| {
        curvature
            .with_damping(DampingScheme::ExactTikhonov)
            .with_eigenvalues(Eigenvalues::PerCase)
    })
}

/// A model that comes from a file: `fresh` is one of its kind, with other parameters.
fn reloaded<M: Module>(model: &M, fresh: M) -> M {
    // The running statistics of the last training pass are taken up by `valid`.
    let bytes = model.valid().into_record().into_bytes().unwrap();
    fresh.load_record(ModuleRecord::from_bytes(bytes).unwrap())
}

/// An optimizer's record that comes from a file.
fn rewritten(record: OptimizerRecord) -> OptimizerRecord {
    OptimizerRecord::from_bytes(record.into_bytes().unwrap()).unwrap()
}

/// A way to train: its models, its batches, and how an optimizer is made.
struct Run<M: Network, T, L> {
    config: KfacConfig,
    loss: L,
    model: fn(u64) -> M,
    batch: fn(u64) -> Batch<M::Input, T>,
}

impl<M: Network, T: Cases, L: Clone + Loss<M::Output, T>> Run<M, T, L> {
    fn optimizer(&self, model: &M) -> Kfac<L> {
        let example = (self.batch)(1).inputs;
        self.config
            .init(model, self.loss.clone(), &example)
            .unwrap()
    }

    /// Steps up to an iteration; what becomes of the reports' numbers.
    fn go_on(&self, optimizer: &mut Kfac<L>, model: &mut M, until: u64) -> Vec<[u64; 3]> {
        let mut seen = Vec::new();
        while optimizer.iteration() < until {
            let batch = (self.batch)(optimizer.iteration() + 1);
            let report = optimizer.step(model, &batch).unwrap();
            let numbers = [report.objective, optimizer.lambda(), optimizer.gamma()];
            seen.push(numbers.map(f64::to_bits));
        }
        seen
    }

    fn check(&self, what: &str) {
        let mut model = (self.model)(1);
        let mut optimizer = self.optimizer(&model);
        let mut stops = vec![(optimizer.record(), model.clone())];
        let mut reports = Vec::new();
        for until in 1..=STEPS {
            // A model of its own each: a record shows what it held when it was taken.
            reports.extend(self.go_on(&mut optimizer, &mut model, until));
            stops.push((
                rewritten(optimizer.record()),
                reloaded(&model, (self.model)(7)),
            ));
        }
        let average = optimizer.averaged_model(&model).map(|model| bits(&model));
        for (stop, (record, mut resumed)) in stops.into_iter().enumerate() {
            let mut other = self.optimizer(&resumed);
            other.load_record(&resumed, &record).unwrap();
            assert_eq!(other.iteration(), stop as u64);
            let seen = self.go_on(&mut other, &mut resumed, STEPS);
            assert_eq!(seen, reports[stop..], "{what}, stopped after {stop}");
            assert!(
                bits(&resumed) == bits(&model),
                "{what}, stopped after {stop}"
            );
            let averaged = other.averaged_model(&resumed).map(|model| bits(&model));
            assert!(averaged == average, "{what}, stopped after {stop}: average");
        }
    }
}

fn dense_batch(iteration: u64) -> Batch<Tensor<2>> {
    SPEC.batch(&Gaussian, 9, iteration)
}

#[test]
fn every_iteration_of_every_inverse_can_be_resumed() {
    let settings = [
        ("block-diagonal", config()),
        ("directions", tridiagonal(InverseMethod::Eigen)),
        ("series", tridiagonal(InverseMethod::Cholesky)),
        ("corrected eigenvalues", ekfac()),
    ];
    for (what, config) in settings {
        let run = Run {
            config,
            loss: Gaussian,
            model: |seed| SPEC.model(seed),
            batch: dense_batch,
        };
        run.check(what);
    }
}

#[test]
fn so_can_runs_in_single_precision() {
    for (what, config) in [("diagonal", config()), ("EKFAC", ekfac())] {
        let run = Run {
            config,
            loss: Gaussian,
            model: |seed| SPEC.model_in(DType::F32, seed),
            batch: |iteration| {
                let batch = dense_batch(iteration);
                Batch::new(
                    batch.inputs.cast(DType::F32),
                    batch.targets.cast(DType::F32),
                )
            },
        };
        run.check(what);
    }
}

#[test]
fn so_can_a_network_with_batch_normalisation() {
    let run = Run {
        config: config(),
        loss: Gaussian,
        model: |_| Normalised::new(),
        batch: normalised_batch,
    };
    run.check("batch normalisation");
}

/// Tokens and the classes at their positions.
fn several_batch(iteration: u64) -> Batch<Tensor<2, Int>, Tensor<2, Int>> {
    let tokens = classes([12, SEVERAL_POSITIONS], SEVERAL_TOKENS, iteration);
    Batch::new(
        tokens,
        classes([12, SEVERAL_POSITIONS - 1], 3, iteration + 50),
    )
}

#[test]
fn so_can_layers_of_every_kind() {
    for (what, config) in [("diagonal", config()), ("EKFAC", ekfac())] {
        let run = Run {
            config,
            loss: Categorical,
            model: |_| Several::new(),
            batch: several_batch,
        };
        run.check(what);
    }
}

/// Steps of a preconditioner in front of SGD up to an observation; its settings change in mid-run.
fn precondition<M: Network<Input = Tensor<2>, Output = Tensor<2>>>(
    kfac: &mut Preconditioner<Gaussian>,
    mut model: M,
    batch: fn(u64) -> Batch<Tensor<2>>,
    until: u64,
) -> M {
    let mut sgd: ModuleOptimizer = SgdConfig::new().init();
    while kfac.observations() < until {
        let iteration = kfac.observations() + 1;
        let batch = batch(iteration);
        if iteration == 5 {
            kfac.set_lambda(0.02).unwrap();
            kfac.set_periods(2, 4).unwrap();
        }
        kfac.observe(&model, &batch).unwrap();
        let rate = 0.1 / iteration as f64;
        let plain = gradients(&model, &batch);
        let step = kfac.precondition(&model, plain, rate).unwrap();
        model = sgd.step(rate, model, step.gradients);
    }
    model
}

/// Every stop of a preconditioner, against the run without one.
fn check_preconditioner<M: Network<Input = Tensor<2>, Output = Tensor<2>>>(
    config: &PreconditionerConfig,
    model: fn(u64) -> M,
    batch: fn(u64) -> Batch<Tensor<2>>,
) {
    let made = |model: &M| config.init(model, Gaussian, &batch(1).inputs).unwrap();
    let start = model(1);
    let mut whole = made(&start);
    let end = bits(&precondition(&mut whole, start, batch, STEPS).valid());
    for stop in 0..=STEPS {
        let start = model(1);
        let mut first = made(&start);
        let stopped = precondition(&mut first, start, batch, stop);
        let resumed = reloaded(&stopped, model(7));
        let mut second = made(&resumed);
        let record = rewritten(first.record());
        second.load_record(&resumed, &record).unwrap();
        assert_eq!(second.config(), first.config());
        let resumed = precondition(&mut second, resumed, batch, STEPS);
        assert!(bits(&resumed.valid()) == end, "stopped after {stop}");
        assert_eq!(second.lambda().to_bits(), whole.lambda().to_bits());
    }
}

fn preconditioner() -> PreconditionerConfig {
    PreconditionerConfig::new().map_curvature(|curvature| {
        curvature
            .with_statistics_period(3)
            .with_inverse_period(3)
            .with_initial_refreshes(2)
    })
}

#[test]
fn every_step_of_a_preconditioner_can_be_resumed() {
    check_preconditioner(&preconditioner(), |seed| SPEC.model(seed), dense_batch);
    let ekfac = preconditioner().map_curvature(|curvature| {
        curvature
            .with_damping(DampingScheme::ExactTikhonov)
            .with_eigenvalues(Eigenvalues::PerCase)
            .with_inverse_period(6)
    });
    check_preconditioner(&ekfac, |seed| SPEC.model(seed), dense_batch);
    check_preconditioner(&preconditioner(), |_| Normalised::new(), normalised_batch);
}

fn normalised_batch(iteration: u64) -> Batch<Tensor<2>> {
    Batch::new(normal([12, 4], iteration), normal([12, 3], iteration + 50))
}

/// An optimizer after some steps, and its model.
fn trained(config: &KfacConfig) -> (Kfac<Gaussian>, Mlp) {
    let mut model = SPEC.model(1);
    let mut optimizer = config
        .init(&model, Gaussian, &dense_batch(1).inputs)
        .unwrap();
    for iteration in 1..=4 {
        optimizer.step(&mut model, &dense_batch(iteration)).unwrap();
    }
    (optimizer, model)
}

/// What an optimizer of another making says to a record.
fn refusal(config: &KfacConfig, model: &Mlp, record: &OptimizerRecord) -> LoadError {
    let example = normal([2, model_inputs(model)], 1);
    let mut other = config.init(model, Gaussian, &example).unwrap();
    let error = other.load_record(model, record).unwrap_err();
    assert_eq!(other.iteration(), 0);
    assert!(other.inverse().is_none());
    error
}

fn model_inputs(model: &Mlp) -> usize {
    model.layers[0].weight.dims()[0]
}

#[test]
fn another_setting_model_or_optimizer_is_named() {
    let (optimizer, model) = trained(&config());
    let record = rewritten(optimizer.record());
    assert_eq!(record.optimizer(), OptimizerKind::Kfac);
    assert_eq!(record.configuration::<KfacConfig>().unwrap(), config());
    assert_eq!(record.parameters(), optimizer.parameter_table().rows());

    let other = config().map_curvature(|curvature| curvature.with_inverse_period(4));
    let expected = LoadError::Configuration {
        setting: "curvature.inverse_period".to_owned(),
        recorded: "8".to_owned(),
        own: "4".to_owned(),
    };
    assert_eq!(refusal(&other, &model, &record), expected);

    let wider = Spec::new(&[3, 6, 4, 2], Activation::Tanh).model(1);
    match refusal(&config(), &wider, &record) {
        LoadError::Model { recorded, own } => {
            assert!(recorded.contains("layers.0.weight"), "{recorded}");
            assert!(recorded.contains("[3, 5]"), "{recorded}");
            assert!(own.contains("[3, 6]"), "{own}");
        }
        error => panic!("{error}"),
    }
    let shorter = Spec::new(&[3, 5, 4], Activation::Tanh).model(1);
    let error = refusal(&config(), &shorter, &record);
    assert!(matches!(error, LoadError::Model { .. }), "{error}");

    let example = dense_batch(1).inputs;
    let mut kfac = preconditioner().init(&model, Gaussian, &example).unwrap();
    let expected = LoadError::Optimizer {
        found: OptimizerKind::Kfac,
        expected: OptimizerKind::Preconditioner,
    };
    assert_eq!(kfac.load_record(&model, &record), Err(expected));
}

#[test]
fn another_precision_is_taken_where_it_can_hold_the_numbers() {
    let (optimizer, model) = trained(&config());
    let record = rewritten(optimizer.record());
    let of_model = model.into_record().cast_to_module_dtype();
    let single = SPEC.model_in(DType::F32, 2).load_record(of_model);
    let example = dense_batch(1).inputs.cast(DType::F32);
    let mut other = config().init(&single, Gaussian, &example).unwrap();
    other.load_record(&single, &record).unwrap();
    assert_eq!(other.lambda().to_bits(), optimizer.lambda().to_bits());
    let pairs = other.factors().kronecker().into_iter();
    for (single, double) in pairs.zip(optimizer.factors().kronecker()) {
        assert_eq!(single.activation.dtype(), DType::F32);
        let cast = double.activation.clone().cast(DType::F32);
        assert_eq!(single.activation.to_data(), cast.to_data());
    }
}

#[test]
fn every_flipped_byte_and_every_length_is_an_error() {
    let (optimizer, _) = trained(&config());
    let read = |bytes: &[u8]| OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()));
    let written = |record: OptimizerRecord| record.into_bytes().unwrap().to_vec();
    let whole = written(optimizer.record());
    assert_eq!(written(read(&whole).unwrap()), whole);
    for length in (0..whole.len()).step_by(7) {
        assert!(read(&whole[..length]).is_err(), "{length} bytes");
    }
    let mut harmless = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        match read(&damaged) {
            Err(_) => {}
            // Between the tensors are bytes that nothing reads.
            Ok(record) => {
                assert_eq!(written(record), whole, "byte {at}");
                harmless += 1;
            }
        }
    }
    assert!(harmless < whole.len());
}

#[test]
fn a_file_that_cannot_be_written_or_read_is_named() {
    let (optimizer, _) = trained(&config());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer");
    optimizer.record().save(&path).unwrap();
    OptimizerRecord::load(&path).unwrap();
    optimizer.record().save(&path).unwrap();
    let nowhere = folder.path().join("missing").join("optimizer");
    for error in [
        optimizer.record().save(&nowhere).unwrap_err(),
        OptimizerRecord::load(&nowhere).unwrap_err(),
    ] {
        assert!(error.to_string().contains("missing"), "{error}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}
