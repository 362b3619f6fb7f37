//! The cases of a batch are told apart, whatever their order, their parts, and the layers that they reach.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig, Linear},
    tensor::{DType, Tensor},
};
use faer::Mat;
use kfac::{
    Batch, Categorical, FisherEstimate, Gaussian, InverseStructure, Jvp, KfacConfig, Network,
    PreconditionerConfig, RandomStream, StepError, Subsets, Tape, curvature::FisherEstimator,
};

use crate::support::{
    ROUNDING, TwoLayers, assert_near, bits, dense, dense_layer, exact_config, normal, own_blocks,
    randomised, relative,
};

/// Where the cases are when the normalisation sees them.
#[derive(Clone, Copy, Debug)]
enum Order {
    CasesFirst,
    PositionsFirst,
    /// One position of all cases after the other.
    Stacked,
}

/// A normalisation of sequences `[n, R, d]`.
#[derive(Module, Debug)]
struct Sequences {
    first: Linear,
    normalisation: LayerNorm,
    last: Linear,
    #[module(skip)]
    order: Order,
}

impl Sequences {
    fn new(order: Order) -> Self {
        let example = normal([1, 1, 1], 0);
        let normalisation = LayerNormConfig::new(5).init(&example.device().autodiff());
        Self {
            first: dense_layer([4, 5], 1),
            normalisation: randomised(normalisation, DType::F64, 2),
            last: dense_layer([5, 2], 3),
            order,
        }
    }
}

impl Network for Sequences {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let x = tape.linear(&self.first, inputs);
        let [n, positions, d] = x.dims();
        let x = match self.order {
            Order::CasesFirst => tape.layer_norm(&self.normalisation, x),
            Order::PositionsFirst => {
                let x = tape.layer_norm(&self.normalisation, x.swap_dims(0, 1));
                x.swap_dims(0, 1)
            }
            Order::Stacked => {
                let rows: Tensor<2> = x.swap_dims(0, 1).reshape([positions * n, d]);
                let rows = tape.layer_norm(&self.normalisation, rows);
                rows.reshape([positions, n, d]).swap_dims(0, 1)
            }
        };
        tape.linear(&self.last, x.tanh().mean_dim(1).squeeze_dim(1))
    }
}

#[test]
fn a_layer_that_does_not_see_the_cases_first_is_refused() {
    // As many positions as cases, more, and fewer.
    for (cases, positions) in [(3, 3), (2, 4), (5, 2)] {
        let batch = Batch::new(normal([cases, positions, 4], 1), normal([cases, 2], 2));
        for order in [Order::CasesFirst, Order::PositionsFirst, Order::Stacked] {
            let model = Sequences::new(order);
            let mut optimizer = exact_config()
                .init(&model, Gaussian, &batch.inputs)
                .unwrap();
            let step = optimizer.step(&mut model.clone(), &batch).map(|_| ());
            let mut kfac = PreconditionerConfig::new()
                .init(&model, Gaussian, &batch.inputs)
                .unwrap();
            let observed = kfac.observe(&model, &batch).map(|_| ());
            let layer = "normalisation".to_owned();
            let expected = match order {
                Order::CasesFirst => Ok(()),
                Order::PositionsFirst | Order::Stacked => Err(StepError::CaseAxis { layer }),
            };
            assert_eq!(step, expected, "{order:?}, {cases} cases of {positions}");
            assert_eq!(observed, expected);
        }
    }
}

#[test]
fn the_order_of_a_batchs_cases_means_nothing() {
    const CASES: usize = 800;
    const CLASSES: usize = 8;
    let centres = normal([CLASSES, 6], 1) * 3.0;
    let centre = |class: usize| centres.clone().slice_dim(0, class..=class);
    let model = TwoLayers::new([6, 5, CLASSES], 3);
    let factor = |classes: &dyn Fn(usize) -> usize, subsets, fraction| {
        let rows = (0..CASES).map(|case| centre(classes(case)));
        let inputs = Tensor::cat(rows.collect(), 0) + normal([CASES, 6], 2);
        let targets = (0..CASES).map(|case| i64::try_from(classes(case)).unwrap());
        let targets: Vec<i64> = targets.collect();
        let targets =
            Tensor::<1, burn::tensor::Int>::from_data(targets.as_slice(), &inputs.device());
        let config = KfacConfig::new().map_curvature(|c| {
            c.with_subsets(subsets)
                .with_statistics_fraction(Some(fraction))
        });
        let mut optimizer = config.init(&model, Categorical, &inputs).unwrap();
        let batch = Batch::new(inputs, targets);
        optimizer.step(&mut model.clone(), &batch).unwrap();
        dense(&optimizer.factors().kronecker()[0].activation)
    };
    let in_turn = |case: usize| (case * 7919) % CLASSES;
    let sorted = |case: usize| case * CLASSES / CASES;
    let expected = factor(&in_turn, Subsets::First, 1.0);
    // A hundred cases that have twelve or thirteen of each class tell the second moment to a tenth or so.
    let spread = relative(&factor(&sorted, Subsets::Spread, 0.125), &expected);
    assert!(spread < 0.2, "{spread}");
    let first = relative(&factor(&sorted, Subsets::First, 0.125), &expected);
    assert!(first > 0.4, "{first}");
}

#[test]
fn a_head_that_a_batch_does_not_reach_keeps_its_factors() {
    let batch = Batch::new(normal([12, 4], 1), normal([12, 3], 2));
    let mut model = Branches {
        trunk: dense_layer([4, 5], 1),
        left: dense_layer([5, 3], 2),
        right: dense_layer([5, 3], 3),
        reached: Reached::Both,
    };
    for structure in [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ] {
        let config = PreconditionerConfig::new()
            .map_curvature(|c| c.with_inverse_period(1).with_structure(structure));
        let mut kfac = config.init(&model, Gaussian, &batch.inputs).unwrap();
        model.reached = Reached::Left;
        // Nothing is known of the right head before it was reached once.
        let layer = "right".to_owned();
        let error = kfac.observe(&model, &batch).unwrap_err();
        assert_eq!(error, StepError::LayerNotReached { layer });
        model.reached = Reached::Both;
        kfac.observe(&model, &batch).unwrap();
        assert!(kfac.unreached().is_empty());
        let right = |kfac: &kfac::Preconditioner<Gaussian>| -> Mat<f64> {
            dense(&kfac.factors().kronecker()[2].gradient)
        };
        let before = right(&kfac);
        model.reached = Reached::Left;
        kfac.observe(&model, &batch).unwrap();
        assert_eq!(kfac.unreached(), ["right"]);
        assert_eq!(right(&kfac), before);
        model.reached = Reached::Both;
    }
}

#[derive(Clone, Copy, Debug)]
enum Reached {
    Both,
    Left,
}

/// Two heads, of which one can be left out.
#[derive(Module, Debug)]
struct Branches {
    trunk: Linear,
    left: Linear,
    right: Linear,
    #[module(skip)]
    reached: Reached,
}

impl Network for Branches {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let x = tape.linear(&self.trunk, inputs).tanh();
        let left = tape.linear(&self.left, x.clone());
        match self.reached {
            Reached::Left => left,
            Reached::Both => left + tape.linear(&self.right, x),
        }
    }
}

/// A dense layer at each position, and their mean.
#[derive(Module, Debug)]
struct Pooled {
    first: Linear,
    last: Linear,
}

impl Network for Pooled {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let x = tape.linear(&self.first, inputs).tanh();
        tape.linear(&self.last, x.mean_dim(1).squeeze_dim(1))
    }
}

#[test]
fn longer_sequences_in_a_chain_are_refused_and_leave_no_trace() {
    let mut model = Pooled {
        first: dense_layer([4, 5], 1),
        last: dense_layer([5, 3], 2),
    };
    let config =
        exact_config().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    let batch = |length| Batch::new(normal([8, length, 4], 5), normal([8, 3], 6));
    let mut optimizer = config.init(&model, Gaussian, &batch(1).inputs).unwrap();
    optimizer.step(&mut model, &batch(1)).unwrap();
    let before = bits(&model);
    let error = optimizer.step(&mut model, &batch(5)).unwrap_err();
    let (layer, positions) = ("first".to_owned(), 5);
    assert_eq!(error, StepError::ChainPositions { layer, positions });
    assert_eq!(bits(&model), before);
    optimizer.step(&mut model, &batch(1)).unwrap();
}

#[test]
fn parts_of_a_batch_count_the_same_cases() {
    let inputs = |a, b| (normal([a, 4], 1), normal([b, 5], 2));
    let mut model = TwoInputs {
        first: dense_layer([4, 5], 1),
        last: dense_layer([5, 3], 2),
    };
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &inputs(8, 8))
        .unwrap();
    for other in [6, 10] {
        let batch = Batch::new(inputs(8, other), normal([8, 3], 3));
        let error = optimizer.step(&mut model, &batch).unwrap_err();
        let (what, lengths) = ("inputs", vec![8, other]);
        assert_eq!(error, StepError::PartCount { what, lengths });
    }
}

/// Two inputs a case.
#[derive(Module, Debug)]
struct TwoInputs {
    first: Linear,
    last: Linear,
}

impl Network for TwoInputs {
    type Input = (Tensor<2>, Tensor<2>);
    type Output = Tensor<2>;

    fn forward(&self, (a, b): Self::Input, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.first, a).tanh() + b;
        tape.linear(&self.last, hidden)
    }
}

#[test]
fn inputs_may_have_a_history() {
    let encoder = dense_layer([6, 4], 9);
    let (raw, targets) = (normal([200, 6], 1), normal([200, 3], 2));
    let run = |detached: bool| {
        let mut model = TwoLayers::new([4, 5, 3], 1);
        let example = encoder.forward(raw.clone());
        let mut optimizer = exact_config().init(&model, Gaussian, &example).unwrap();
        for _ in 0..2 {
            let inputs = encoder.forward(raw.clone()).tanh();
            let inputs = if detached { inputs.inner() } else { inputs };
            let batch = Batch::new(inputs, targets.clone());
            optimizer.step(&mut model, &batch).unwrap();
        }
        bits(&model)
    };
    assert_eq!(run(false), run(true));
}

/// Adds fresh noise to its hidden units in each forward pass.
#[derive(Module, Debug)]
struct Noisy {
    network: TwoLayers,
    #[module(skip)]
    draws: Arc<AtomicU64>,
}

impl Network for Noisy {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let seed = self.draws.fetch_add(1, Ordering::Relaxed);
        let noise = RandomStream::from_seed(seed).normal_like(&inputs.clone().inner());
        self.network.forward(inputs + noise * 0.1, tape)
    }
}

#[test]
fn noise_in_the_forward_pass_is_found_out() {
    let mut model = Noisy {
        network: TwoLayers::new([4, 5, 3], 1),
        draws: Arc::default(),
    };
    let batch = Batch::new(normal([8, 4], 1), normal([8, 3], 2));
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut model, &batch).unwrap_err();
    assert_eq!(error, StepError::NoiseInForwardPass);
}

#[test]
fn noise_is_found_out_beside_a_mask() {
    let mut model = Masked {
        noisy: Noisy {
            network: TwoLayers::new([4, 5, 3], 1),
            draws: Arc::default(),
        },
    };
    let targets = normal([8, 3], 1).zeros_like().slice_fill([0..8, 0..1], 1.0);
    let batch = Batch::new(normal([8, 4], 1), targets);
    let mut optimizer = exact_config()
        .init(&model, Categorical, &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut model, &batch).unwrap_err();
    assert_eq!(error, StepError::NoiseInForwardPass);
}

/// The last class masked.
#[derive(Module, Debug)]
struct Masked {
    noisy: Noisy,
}

impl Network for Masked {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let outputs = self.noisy.forward(inputs, tape);
        let cases = outputs.dims()[0];
        outputs.slice_fill([0..cases, 2..3], f64::NEG_INFINITY)
    }
}

/// Its own forward mode forgets the directions.
#[derive(Module, Debug)]
struct Forgetful {
    network: TwoLayers,
}

impl Network for Forgetful {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        self.network.forward(inputs, tape)
    }

    fn jvp(&self, inputs: Tensor<2>, _tangents: &[Self]) -> Option<Jvp> {
        Some(Jvp {
            outputs: self.forward(inputs, &mut Tape::off()),
            derivatives: Vec::new(),
        })
    }
}

#[test]
fn a_forward_mode_without_derivatives_is_refused() {
    let mut model = Forgetful {
        network: TwoLayers::new([4, 5, 3], 1),
    };
    let batch = Batch::new(normal([8, 4], 1), normal([8, 3], 2));
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut model, &batch).unwrap_err();
    assert!(matches!(error, StepError::Derivatives { .. }), "{error}");
}

#[test]
fn lambda_stays_at_an_optimum_and_learns_anew() {
    let model = TwoLayers::new([5, 4, 3], 1);
    let inputs = normal([30, 5], 2);
    let of = |teacher: &TwoLayers| {
        let targets = teacher.forward(inputs.clone(), &mut Tape::off()).inner();
        Batch::new(inputs.clone(), targets)
    };
    let (fitted, new) = (of(&model), of(&TwoLayers::new([5, 4, 3], 7)));
    let config = KfacConfig::new()
        .with_l2(0.0)
        .with_model_fraction(Some(1.0));
    let mut optimizer = config.init(&model, Gaussian, &inputs).unwrap();
    let initial = optimizer.lambda();
    let mut trained = model.clone();
    for _ in 0..100 {
        optimizer.step(&mut trained, &fitted).unwrap();
    }
    assert_near("λ", optimizer.lambda(), initial, ROUNDING);
    let before = optimizer.objective(&trained, &new).unwrap();
    for _ in 0..48 {
        optimizer.step(&mut trained, &new).unwrap();
    }
    let after = optimizer.objective(&trained, &new).unwrap();
    assert!(after < 0.01 * before, "{before} to {after}");
}

#[test]
fn the_estimator_tells_the_cases_apart_in_any_chunks() {
    let batch = Batch::new(normal([4, 3, 4], 1), normal([4, 2], 2));
    for chunk in [1, 4] {
        for order in [Order::CasesFirst, Order::Stacked] {
            let model = Sequences::new(order);
            let blocks = own_blocks(&model, &batch.inputs);
            let estimator = FisherEstimator::new(&blocks, &Gaussian)
                .with_estimate(FisherEstimate::Exact)
                .with_chunk_size(chunk);
            let factors = estimator.factors(&model, &batch, &mut RandomStream::from_seed(1));
            assert_eq!(factors.is_ok(), matches!(order, Order::CasesFirst));
        }
    }
}
