//! Is a batch that comes in parts, or by the training pass, observed as one that comes whole?

use burn::{
    module::ModuleVisitor,
    module::{Module, Param},
    optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer, SgdConfig},
    tensor::Tensor,
};
use kfac::{
    Batch, Categorical, FisherEstimate, Gaussian, Network, Preconditioner, PreconditionerConfig,
    Reduction, StepError, Tape, Weighted,
};

use crate::support::preconditioning::{SPEC, batch, config, ekfac, preconditioner};
use crate::support::{Kind, Mlp, ROUNDING, assert_close, column, dense, dense_layer, gradients};

fn with_estimate(config: PreconditionerConfig, fisher: FisherEstimate) -> PreconditionerConfig {
    config.map_curvature(|c| c.with_fisher(fisher))
}

/// Fails where the inverses differ by more than rounding.
fn assert_same_inverse(
    what: &str,
    found: &Preconditioner<Gaussian>,
    expected: &Preconditioner<Gaussian>,
    model: &Mlp,
) {
    let vector = found.layers().parameters(model);
    let [found, expected] = [found, expected].map(|kfac| {
        let product = kfac.inverse().unwrap().multiply(&vector);
        column(&product)
    });
    assert_close(what, &found, &expected, ROUNDING * 10.0);
}

#[test]
fn halves_that_are_accumulated_make_the_update_of_the_whole() {
    let estimates = [
        FisherEstimate::MonteCarlo,
        FisherEstimate::Exact,
        FisherEstimate::Empirical,
    ];
    for fisher in estimates {
        for config in [
            with_estimate(config(), fisher),
            with_estimate(ekfac(), fisher),
        ] {
            let model = SPEC.model(1);
            let (mut whole, mut halves) = (
                preconditioner(&config, &model),
                preconditioner(&config, &model),
            );
            for call in 1..=3 {
                let batch = batch(call).slice(0..8);
                whole.observe(&model, &batch).unwrap();
                let mut accumulator = GradientsAccumulator::new();
                for part in [batch.slice(0..3), batch.slice(3..8)] {
                    halves.accumulate(&model, &part).unwrap();
                    accumulator.accumulate(&model, sum_gradients(&model, &part));
                }
                let report = halves.observe_accumulated().unwrap();
                assert_eq!((report.observation, report.cases), (call, 8));
                let what = format!("{fisher:?}, call {call}");
                assert_same_inverse(&what, &halves, &whole, &model);

                // The mean over cases with a rate, and the sum with the rate divided by their number: numbers that
                // Burn's single precision of rates has.
                let mean = whole.precondition(&model, gradients(&model, &batch), 0.25);
                let sum = halves.precondition(&model, accumulator.grads(), 0.25 / 8.0);
                let [moved, expected] = [(sum, 0.25 / 8.0), (mean, 0.25)].map(|(step, rate)| {
                    let mut sgd: ModuleOptimizer = SgdConfig::new().init();
                    sgd.step(rate, model.clone(), step.unwrap().gradients)
                });
                let layers = whole.layers();
                let [moved, expected] =
                    [moved, expected].map(|model| column(&layers.parameters(&model)));
                assert_close(&what, &moved, &expected, ROUNDING);
            }
        }
    }
}

fn sum_gradients(model: &Mlp, batch: &Batch<Tensor<2>>) -> GradientsParams {
    let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
    let residual = outputs - batch.targets.clone().autodiff();
    GradientsParams::from_grads(
        (residual.clone() * residual)
            .sum()
            .div_scalar(2.0)
            .backward(),
        model,
    )
}

#[test]
fn a_part_that_is_refused_leaves_those_before() {
    let model = SPEC.model(1);
    let (mut whole, mut parts) = (
        preconditioner(&config(), &model),
        preconditioner(&config(), &model),
    );
    whole.observe(&model, &batch(1)).unwrap();
    parts.accumulate(&model, &batch(1)).unwrap();
    let mut bad = batch(2);
    bad.targets = bad.targets.slice_dim(1, 0..1);
    assert!(parts.accumulate(&model, &bad).is_err());
    parts.observe_accumulated().unwrap();
    assert_same_inverse("without the refused part", &parts, &whole, &model);

    // With nothing accumulated there is nothing to observe, where statistics are due.
    assert_eq!(
        parts.observe_accumulated(),
        Err(StepError::NothingAccumulated)
    );
    let config = config().map_curvature(|c| c.with_statistics_period(2).with_inverse_period(2));
    let mut sparse = preconditioner(&config, &model);
    sparse.observe(&model, &batch(1)).unwrap();
    assert!(!sparse.statistics_due());
    let report = sparse.observe_accumulated().unwrap();
    assert_eq!((report.cases, report.refreshed), (0, false));
    assert!(sparse.statistics_due());
}

#[test]
fn inputs_are_enough_where_no_targets_are_read() {
    let model = SPEC.model(1);
    for fisher in [FisherEstimate::MonteCarlo, FisherEstimate::Exact] {
        let config = with_estimate(config(), fisher);
        let (mut with, mut without) = (
            preconditioner(&config, &model),
            preconditioner(&config, &model),
        );
        let expected = with.observe(&model, &batch(1)).unwrap();
        let found = without.observe_inputs(&model, &batch(1).inputs).unwrap();
        assert_eq!(found.cases, expected.cases);
        assert_same_inverse("the same", &without, &with, &model);
        let mut parts = preconditioner(&config, &model);
        let inputs = batch(1).inputs;
        for part in [0..4, 4..9] {
            parts
                .accumulate_inputs(&model, &inputs.clone().slice_dim(0, part))
                .unwrap();
        }
        parts.observe_accumulated().unwrap();
        assert_same_inverse("in parts", &parts, &with, &model);
    }
    let config = with_estimate(config(), FisherEstimate::Empirical);
    let mut empirical = preconditioner(&config, &model);
    let refused = empirical.observe_inputs(&model, &batch(1).inputs);
    assert_eq!(refused, Err(StepError::TargetsNeeded));
    let loss = Weighted(Categorical);
    let mut weighted = crate::support::preconditioning::config()
        .init(&model, loss, &batch(1).inputs)
        .unwrap();
    let refused = weighted.observe_inputs(&model, &batch(1).inputs);
    assert_eq!(refused, Err(StepError::TargetsNeeded));
}

#[test]
fn a_training_pass_gives_the_empirical_statistics() {
    let config = with_estimate(config(), FisherEstimate::Empirical);
    // Batch statistics and dropout make another function of the training pass.
    let other = |kind: &Kind| matches!(kind, Kind::BatchNorm | Kind::Attention | Kind::Encoder);
    for kind in Kind::ALL.into_iter().filter(|kind| !other(kind)) {
        let model = kind.model(1);
        let batch = Kind::batch(9, 2);
        let mut expected = config.init(&model, Gaussian, &batch.inputs).unwrap();
        expected.observe(&model, &batch).unwrap();
        for (reduction, scale) in [
            (Reduction::Mean, 1.0 / 9.0),
            (Reduction::Sum, 1.0),
            (Reduction::DividedBy(4.0), 0.25),
        ] {
            let mut found = config.init(&model, Gaussian, &batch.inputs).unwrap();
            let mut tape = found.tape();
            let outputs = model.forward(batch.inputs.clone(), &mut tape);
            let residual = outputs - batch.targets.clone().autodiff();
            let loss = (residual.clone() * residual).sum() * (0.5 * scale);
            let mut gradients = loss.backward();
            let report = found.observe_recorded(tape, &mut gradients, 9, reduction);
            assert_eq!(report.unwrap().cases, 9);
            if expected
                .layers()
                .iter()
                .any(|layer| layer.name == "parameter")
            {
                continue; // it shows its gradient summed over the cases
            }
            for (a, b) in found
                .factors()
                .blocks
                .iter()
                .zip(&expected.factors().blocks)
            {
                for (a, b) in a.factors().iter().zip(b.factors()) {
                    let what = format!("{kind:?}, {reduction:?}");
                    assert_close(&what, &dense(a.tensor), &dense(b.tensor), ROUNDING * 10.0);
                }
            }
        }
    }
}

#[test]
fn a_tape_that_records_nothing_is_refused() {
    let model = SPEC.model(1);
    let batch = batch(1);
    let loss = || model.forward(batch.inputs.clone(), &mut Tape::off()).sum();
    for (fisher, recorded) in [
        (FisherEstimate::Empirical, false),
        (FisherEstimate::MonteCarlo, true),
    ] {
        let mut kfac = preconditioner(&with_estimate(config(), fisher), &model);
        let mut tape = if recorded { kfac.tape() } else { Tape::off() };
        let _ = model.forward(batch.inputs.clone(), &mut tape);
        let found = kfac.observe_recorded(tape, &mut loss().backward(), 9, Reduction::Mean);
        assert_eq!(found, Err(StepError::NotRecorded));
    }
    let mut kfac = preconditioner(&with_estimate(config(), FisherEstimate::Empirical), &model);
    let tape = kfac.tape();
    let reduction = Reduction::DividedBy(0.0);
    let found = kfac.observe_recorded(tape, &mut loss().backward(), 9, reduction);
    assert_eq!(found, Err(StepError::Reduction { divisor: 0.0 }));
    assert_eq!(kfac.observations(), 0);
}

/// A layer on the tape, and one that is not.
#[derive(Module, Debug)]
struct Half {
    seen: burn::nn::Linear,
    unseen: burn::nn::Linear,
}

impl Network for Half {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        self.unseen.forward(tape.linear(&self.seen, inputs).tanh())
    }
}

#[test]
fn excluded_parameters_get_what_their_optimizer_gives_them() {
    let start = Half {
        seen: dense_layer([3, 4], 1),
        unseen: dense_layer([4, 2], 2),
    };
    let optimizers: [fn() -> ModuleOptimizer; 2] = [
        || SgdConfig::new().init(),
        || AdamWConfig::new().with_weight_decay(0.1).init(),
    ];
    for optimizer in optimizers {
        let mut kfac = config().init(&start, Gaussian, &batch(1).inputs).unwrap();
        let (mut plain, mut front) = (optimizer(), optimizer());
        let mut model = start.clone();
        for call in 1..=3 {
            let batch = batch(call);
            kfac.observe(&model, &batch).unwrap();
            let alone = plain.step(0.1, model.clone(), gradients(&model, &batch));
            let step = kfac.precondition(&model, gradients(&model, &batch), 0.1);
            model = front.step(0.1, model, step.unwrap().gradients);
            assert_eq!(values(&alone.unseen), values(&model.unseen));
            assert_ne!(values(&alone.seen), values(&model.seen));
            // The state of the plain optimizer is of this path from now on.
            plain = front.clone();
        }
    }
}

fn values(layer: &burn::nn::Linear) -> Vec<u64> {
    struct Values(Vec<u64>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().inner().into_data();
            self.0.extend(data.iter::<f64>().map(f64::to_bits));
        }
    }
    let mut values = Values(Vec::new());
    layer.visit(&mut values);
    values.0
}

#[test]
fn training_passes_train_by_batch_statistics() {
    // A recording training pass moves the running statistics and normalises by the batch, as one without a tape.
    let config = with_estimate(config(), FisherEstimate::Empirical);
    let batch = Kind::batch(9, 2);
    let model = || Kind::BatchNorm.model(1);
    let outputs = |model: &crate::support::KindNetwork, tape: &mut Tape| {
        dense(&model.forward(batch.inputs.clone(), tape).inner())
    };
    let (plain, recorded) = (model(), model());
    let expected = outputs(&plain, &mut Tape::off());
    let kfac = config.init(&recorded, Gaussian, &batch.inputs).unwrap();
    let found = outputs(&recorded, &mut kfac.tape());
    assert_close("outputs", &found, &expected, ROUNDING);
    let valid = [plain, recorded].map(|model| outputs(&model.valid(), &mut Tape::off()));
    assert_close("running statistics", &valid[1], &valid[0], ROUNDING);
}
