//! A model that has changed since the optimizer was made, or that no optimizer can be made for, is refused with
//! the true cause, and nothing of it moves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Tensor},
};
use kfac::{
    Batch, CoveragePolicy, Extensions, Gaussian, InitError, InverseStructure, IterateAveraging,
    Kfac, KfacConfig, Network, PreconditionerConfig, StepError, Tape, blocks::Diagonal,
    damping::LevenbergMarquardt,
};

use crate::support::{
    Normalised, ROUNDING, TwoLayers, assert_near, bits, dense_layer, exact_config, host, normal,
    of_values, randomised,
};

fn batch() -> Batch<Tensor<2>> {
    Batch::new(normal([12, 4], 1), normal([12, 3], 2))
}

fn network() -> TwoLayers {
    TwoLayers::new([4, 5, 3], 1)
}

fn optimizer<M: Network<Input = Tensor<2>, Output = Tensor<2>>>(model: &M) -> Kfac<Gaussian> {
    exact_config()
        .init(model, Gaussian, &batch().inputs)
        .unwrap()
}

/// What becomes of a model.
type Change = fn(TwoLayers) -> TwoLayers;

/// Whether an error is the right one.
type Expected = fn(&StepError) -> bool;

/// What becomes of a model, what a step says to it, and what an observation in front of another optimizer says;
/// `None` where that goes on.
struct Outcome {
    change: Change,
    of_step: Option<Expected>,
    of_observation: Option<Expected>,
}

fn other(e: &StepError) -> bool {
    matches!(e, StepError::OtherParameter { parameter } if parameter == "hidden.weight")
}

/// The same weight with other rows.
fn with_fewer_rows(mut model: TwoLayers) -> TwoLayers {
    let rows = normal([3, 5], 1).autodiff().require_grad();
    model.hidden.weight = Param::initialized(model.hidden.weight.id, rows);
    model
}

/// The same parameters with other values.
fn with_other_values(mut model: TwoLayers) -> TwoLayers {
    let value = model.last.weight.val() * 0.5;
    model.last.weight = Param::initialized(
        model.last.weight.id,
        value.inner().autodiff().require_grad(),
    );
    model
}

fn outcomes() -> Vec<Outcome> {
    let both = |change, expected| Outcome {
        change,
        of_step: Some(expected),
        of_observation: Some(expected),
    };
    let step = |change, expected| Outcome {
        change,
        of_step: Some(expected),
        of_observation: None,
    };
    vec![
        both(
            |model| model.load_record(TwoLayers::new([4, 5, 3], 9).into_record()),
            other,
        ),
        both(
            |model| TwoLayers {
                hidden: dense_layer([4, 5], 9),
                ..model
            },
            other,
        ),
        both(
            with_fewer_rows,
            |e| matches!(e, StepError::ParameterShape { found, .. } if found[..] == [3, 5]),
        ),
        both(
            |model| randomised(model, DType::F32, 1),
            |e| matches!(e, StepError::ParameterPrecision { found, .. } if found == "F32"),
        ),
        step(
            |model| TwoLayers {
                last: model.last.no_grad(),
                ..model
            },
            |e| matches!(e, StepError::Frozen { parameter } if parameter == "last.weight"),
        ),
        step(|model| model.valid(), |e| *e == StepError::NoAutodiff),
        // Its own parameters, whatever their values.
        Outcome {
            change: with_other_values,
            of_step: None,
            of_observation: None,
        },
    ]
}

#[test]
fn each_change_has_its_outcome_for_both_optimizers_and_every_structure() {
    let structures = [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ];
    for structure in structures {
        for outcome in outcomes() {
            let mut model = network();
            let config = exact_config().map_curvature(|c| c.with_structure(structure));
            let mut kfac = config.init(&model, Gaussian, &batch().inputs).unwrap();
            let config = PreconditionerConfig::new().map_curvature(|c| c.with_structure(structure));
            let mut front = config.init(&model, Gaussian, &batch().inputs).unwrap();
            kfac.step(&mut model, &batch()).unwrap();
            front.observe(&model, &batch()).unwrap();

            let mut changed = (outcome.change)(model.clone());
            let before = bits(&changed);
            let observed = front.observe(&changed, &batch()).map(|_| ());
            let preconditioned = front
                .precondition(&changed, of_values(&model), 1.0)
                .map(|_| ());
            for result in [observed, preconditioned] {
                assert_outcome(result, outcome.of_observation);
            }
            let stepped = kfac.step(&mut changed, &batch()).map(|_| ());
            assert_outcome(stepped, outcome.of_step);
            assert_eq!(bits(&changed) == before, outcome.of_step.is_some());
            // The model that they were made for goes on.
            kfac.step(&mut model, &batch()).unwrap();
            front.observe(&model, &batch()).unwrap();
        }
    }
}

fn assert_outcome(result: Result<(), StepError>, expected: Option<Expected>) {
    match (result, expected) {
        (Ok(()), None) => {}
        (Err(error), Some(expected)) => assert!(expected(&error), "{error}"),
        (result, _) => panic!("{result:?}"),
    }
}

/// A layer that is used so often, at so many positions.
#[derive(Module, Debug)]
struct Repeated {
    shared: Linear,
    last: Linear,
    #[module(skip)]
    uses: usize,
}

impl Network for Repeated {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let mut x = inputs;
        for _ in 0..self.uses {
            x = tape.linear(&self.shared, x).tanh();
        }
        tape.linear(&self.last, x.mean_dim(1).squeeze_dim(1))
    }
}

#[test]
fn other_lengths_and_numbers_of_uses_go_on_or_are_named_in_a_chain() {
    let batch = |length| Batch::new(normal([12, length, 4], 1), normal([12, 3], 2));
    for structure in [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ] {
        for (uses, length) in [(1, 3), (2, 1), (0, 1)] {
            let mut model = Repeated {
                shared: dense_layer([4, 4], 1),
                last: dense_layer([4, 3], 2),
                uses: 1,
            };
            let config = exact_config().map_curvature(|c| c.with_structure(structure));
            let mut kfac = config.init(&model, Gaussian, &batch(1).inputs).unwrap();
            let config = PreconditionerConfig::new().map_curvature(|c| c.with_structure(structure));
            let mut front = config.init(&model, Gaussian, &batch(1).inputs).unwrap();
            kfac.step(&mut model, &batch(1)).unwrap();
            front.observe(&model, &batch(1)).unwrap();
            model.uses = uses;
            let observed = front.observe(&model, &batch(length)).map(|_| ());
            let stepped = kfac.step(&mut model, &batch(length)).map(|_| ());
            let layer = "shared".to_owned();
            let positions = uses * length;
            match (structure, uses) {
                (_, 0) => {
                    assert_eq!(stepped, Err(StepError::LayerNotReached { layer }));
                    assert_eq!(observed, Ok(()));
                    assert_eq!(front.unreached(), ["shared"]);
                }
                (InverseStructure::BlockDiagonal, _) => {
                    assert_eq!([observed, stepped], [Ok(()), Ok(())]);
                }
                (InverseStructure::BlockTridiagonal, _) => {
                    let refused = StepError::ChainPositions { layer, positions };
                    assert_eq!([observed, stepped], [Err(refused.clone()), Err(refused)]);
                }
            }
        }
    }
}

#[test]
fn a_parameter_that_is_unfrozen_later_is_refused_by_both() {
    let mut model = network();
    model.hidden = model.hidden.no_grad();
    let mut optimizer = optimizer(&model);
    let config = PreconditionerConfig::new();
    let mut kfac = config.init(&model, Gaussian, &batch().inputs).unwrap();
    model.hidden.weight = model.hidden.weight.set_require_grad(true);
    let parameter = || "hidden.weight".to_owned();
    let unfrozen = StepError::Unfrozen {
        parameter: parameter(),
    };
    assert_eq!(optimizer.step(&mut model, &batch()).unwrap_err(), unfrozen);
    assert_eq!(kfac.observe(&model, &batch()).unwrap_err(), unfrozen);
    // Frozen later is nothing to a preconditioner: the gradient is missing, and stays so.
    let model = network();
    let mut kfac = config.init(&model, Gaussian, &batch().inputs).unwrap();
    kfac.observe(&model.no_grad(), &batch()).unwrap();
}

/// A decoder whose weight is the encoder's, transposed.
#[derive(Module, Debug)]
struct Transposed {
    encoder: Linear,
}

impl Network for Transposed {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let weight = &self.encoder.weight;
        let decoder = Linear {
            weight: Param::initialized(weight.id, weight.val().transpose()),
            bias: None,
        };
        let hidden = tape.linear(&self.encoder, inputs).tanh();
        tape.linear(&decoder, hidden)
    }
}

#[test]
fn models_that_share_or_derive_parameters_are_refused_with_all_paths() {
    for policy in [CoveragePolicy::Strict, CoveragePolicy::Report] {
        let config = exact_config().map_curvature(|c| c.with_coverage(policy));
        let layer = dense_layer([4, 4], 1);
        let model = TwoLayers {
            hidden: layer.clone(),
            last: layer,
        };
        let error = config.init(&model, Gaussian, &batch().inputs).unwrap_err();
        let parameters = ["hidden.weight", "last.weight"].map(str::to_owned).to_vec();
        assert_eq!(error, InitError::SharedParameter { parameters });
        for width in [3, 4] {
            let model = Transposed {
                encoder: Linear {
                    bias: None,
                    ..dense_layer([4, width], 1)
                },
            };
            let error = config.init(&model, Gaussian, &batch().inputs).unwrap_err();
            assert!(matches!(error, InitError::DerivedWeight { .. }), "{error}");
        }
    }
    let mut model = network();
    model.hidden.weight = model.hidden.weight.set_require_grad(false);
    let error = exact_config()
        .init(&model, Gaussian, &batch().inputs)
        .unwrap_err();
    let parameters = vec!["hidden.bias".to_owned()];
    assert_eq!(error, InitError::FrozenWeight { parameters });
}

#[test]
fn a_wide_layer_has_a_block_that_fits() {
    let model = TwoLayers::new([2000, 3, 2], 1);
    let batch = Batch::new(normal([12, 2000], 1), normal([12, 2], 2));
    let config = exact_config().map_curvature(|c| c.with_memory_limit(1_000_000));
    let error = config.init(&model, Gaussian, &batch.inputs).unwrap_err();
    assert!(error.to_string().contains("blocks::Diagonal"), "{error}");
    let extensions = Extensions::new().with_structure("hidden", Arc::new(Diagonal));
    let mut optimizer = config
        .init_with(extensions, &model, Gaussian, &batch.inputs)
        .unwrap();
    let mut trained = model.clone();
    let before = optimizer.objective(&trained, &batch).unwrap();
    for _ in 0..5 {
        optimizer.step(&mut trained, &batch).unwrap();
    }
    assert!(optimizer.objective(&trained, &batch).unwrap() < before);
}

#[test]
fn memory_beyond_the_limit_is_refused_before_it_is_taken() {
    let model = network();
    let limited = |limit| {
        let config = exact_config().map_curvature(|c| c.with_memory_limit(limit));
        config.init(&model, Gaussian, &batch().inputs)
    };
    // 5² + 5² + 6² + 3² numbers of eight bytes, six times: averages, a batch, four inverses. And of a case the
    // inputs of both layers, and three times their outputs.
    let of_case = (4 + 3 * 5 + 5 + 3 * 3) * 8;
    let needed = (25 + 25 + 36 + 9) * 8 * 6 + of_case;
    assert!(limited(needed).is_ok());
    let error = limited(needed - 1).unwrap_err();
    assert!(error.to_string().contains("factors 5 and 5"), "{error}");
    assert!(matches!(error, InitError::Memory { needed: n, .. } if n == needed));

    // Room for three cases is room for a batch of twelve, three at a time.
    let most = Arc::new(AtomicUsize::new(0));
    let mut model = Counting {
        network: model,
        most: most.clone(),
    };
    let stepped = |model: &mut Counting, limit| {
        let config = exact_config().map_curvature(|c| c.with_memory_limit(limit));
        let mut optimizer = config.init(model, Gaussian, &batch().inputs).unwrap();
        optimizer.step(model, &batch()).unwrap();
        most.swap(0, Ordering::Relaxed)
    };
    let mut whole = model.clone();
    assert_eq!(stepped(&mut whole, 1 << 32), 12);
    assert_eq!(stepped(&mut model, needed + 2 * of_case), 3);
    let [found, expected] =
        [&model, &whole].map(|model| host::to_vec(&model.network.last.weight.val().inner()));
    for (found, expected) in found.iter().zip(&expected) {
        assert_near("weight", *found, *expected, 1e-9);
    }
}

/// Counts the most cases that it was given at once.
#[derive(Module, Debug)]
struct Counting {
    network: TwoLayers,
    #[module(skip)]
    most: Arc<AtomicUsize>,
}

impl Network for Counting {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        self.most.fetch_max(inputs.dims()[0], Ordering::Relaxed);
        self.network.forward(inputs, tape)
    }
}

impl Normalised {
    fn statistics(&self) -> [Vec<f64>; 2] {
        [
            &self.normalisation.running_mean,
            &self.normalisation.running_var,
        ]
        .map(|state| host::to_vec(&state.value().inner()))
    }
}

/// The normalisation called without the tape.
#[derive(Module, Debug)]
struct OffTape {
    network: Normalised,
}

impl Network for OffTape {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.network.first, inputs);
        let hidden = self.network.normalisation.forward(hidden);
        tape.linear(&self.network.last, hidden.tanh())
    }
}

#[test]
fn a_trained_normalisation_off_the_tape_is_refused() {
    let mut model = OffTape {
        network: Normalised::new(),
    };
    let config =
        PreconditionerConfig::new().map_curvature(|c| c.with_coverage(CoveragePolicy::Report));
    let error = config.init(&model, Gaussian, &batch().inputs).unwrap_err();
    let path = "network.normalisation".to_owned();
    assert_eq!(error, InitError::NormalisationOffTape { path });
    model.network.normalisation = model.network.normalisation.no_grad();
    config.init(&model, Gaussian, &batch().inputs).unwrap();
}

#[test]
fn a_step_moves_the_statistics_of_no_other_model() {
    let mut model = Normalised::new();
    let (kept, mut twin_model) = (model.clone(), model.clone());
    let mut optimizer = optimizer(&model);
    let mut twin = optimizer.clone();
    for _ in 0..3 {
        optimizer.step(&mut model, &batch()).unwrap();
    }
    assert_eq!(kept.statistics(), Normalised::new().statistics());
    for _ in 0..3 {
        twin.step(&mut twin_model, &batch()).unwrap();
    }
    assert_eq!(bits(&model), bits(&twin_model));
    assert_eq!(model.statistics(), twin_model.statistics());
}

#[test]
fn a_preconditioner_normalises_by_its_batch_and_moves_nothing() {
    let model = Normalised::new();
    let before = model.statistics();
    let inputs = batch().inputs;
    let config = PreconditionerConfig::new();
    let mut kfac = config.init(&model, Gaussian, &inputs).unwrap();
    kfac.observe_inputs(&model, &inputs).unwrap();
    assert_eq!(model.statistics(), before);

    let hidden = model.first.forward(inputs).inner();
    let layer = &model.normalisation;
    let deviation = hidden.clone() - hidden.mean_dim(0);
    let variance = deviation.clone().square().mean_dim(0);
    let scale = layer.gamma.val().inner().unsqueeze() / (variance + layer.epsilon).sqrt();
    let seen = (deviation * scale + layer.beta.val().inner().unsqueeze()).tanh();
    let seen = Tensor::cat(vec![seen.clone(), seen.ones_like().narrow(1, 0, 1)], 1);
    let expected = seen.clone().transpose().matmul(seen) / 12.0;
    let factors = kfac.factors();
    let found = &factors.kronecker().pop().unwrap().activation;
    let pairs = host::to_vec(found).into_iter();
    for (found, expected) in pairs.zip(host::to_vec(&expected)) {
        assert_near("Ā", found, expected, ROUNDING);
    }
}

#[test]
fn statistics_that_are_not_finite_do_not_reach_the_factors() {
    let model = Normalised::new();
    let inputs = batch().inputs;
    let kfac = PreconditionerConfig::new().init(&model, Gaussian, &inputs);
    let mut kfac = kfac.unwrap();
    // What a training pass over a batch with NaN leaves behind.
    let hidden = model.first.forward(inputs.clone().autodiff() * f64::NAN);
    let _ = model.normalisation.forward(hidden);
    kfac.observe_inputs(&model, &inputs).unwrap();
    assert!(kfac.inverse().is_some());
}

#[test]
fn a_training_pass_just_before_does_not_make_a_step_look_like_noise() {
    let model = Normalised::new();
    let batch = batch();
    let config = PreconditionerConfig::new().map_curvature(|c| c.with_initial_refreshes(1));
    let kfac = config.init(&model, Gaussian, &batch.inputs).unwrap();
    let rule = LevenbergMarquardt {
        initial: 0.1,
        omega: 0.5,
        period: 1,
        bounds: [1e-8, 1e8],
    };
    let mut kfac = kfac.with_lambda_rule(Arc::new(rule));
    for _ in 0..3 {
        let _ = model.forward(batch.inputs.clone().autodiff(), &mut Tape::off());
        kfac.observe(&model, &batch).unwrap();
        kfac.adapt(&model, &model, &batch).unwrap();
    }
}

#[test]
fn a_single_case_leaves_the_variance_and_pretrained_statistics_move_by_the_momentum() {
    let mut model = Normalised::new();
    let one = batch().slice(0..1);
    optimizer(&model).step(&mut model, &one).unwrap();
    assert!(
        model.statistics()[1]
            .iter()
            .all(|variance| (variance - 1.0).abs() < ROUNDING)
    );

    // What a case alone has left is not new any more: 0.9 · old + 0.1 · new.
    let before = model.statistics();
    let seen = model.first.forward(batch().inputs).inner();
    let means = host::to_vec(&seen.mean_dim(0));
    optimizer(&model).step(&mut model, &batch()).unwrap();
    for ((found, old), new) in model.statistics()[0].iter().zip(&before[0]).zip(means) {
        assert_near("mean", *found, 0.9 * old + 0.1 * new, ROUNDING);
    }
}

#[test]
fn the_average_has_averaged_statistics_of_its_own() {
    let averaging = IterateAveraging::From { start: 1, cap: 0.9 };
    let mut model = Normalised::new();
    let config: KfacConfig = exact_config().with_averaging(averaging);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    // An iterate's statistics are those that the next step moves, of its own outputs; the last one's have not.
    let mut means = Vec::new();
    for _ in 0..4 {
        optimizer.step(&mut model, &batch()).unwrap();
        means.push(model.statistics()[0][0]);
    }
    let average = optimizer.averaged_model(&model).unwrap();
    let before = average.statistics();
    let expected = (means[1] + means[2] + 2.0 * means[3]) / 4.0;
    assert_near("mean", before[0][0], expected, ROUNDING);
    optimizer.step(&mut model, &batch()).unwrap();
    assert_eq!(average.statistics(), before);
}
