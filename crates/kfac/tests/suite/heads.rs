//! Networks with several heads.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Int, Tensor, activation::softmax},
};
use faer::Mat;
use kfac::{
    Batch, Cases, Categorical, FisherEstimate, Gaussian, Head, Loss, MeanLoss, Network,
    ParameterVector, RandomStream, StepError, Tape,
    blocks::{Blocks, FactorSet},
    curvature::FisherEstimator,
};

use crate::support::{
    ROUNDING, assert_close, assert_near, bits, blocks_of, classes, column, dense_layer,
    diagonal_blocks, exact, exact_blocks, exact_config, host, normal, own_blocks, relative, shapes,
    trained, units,
};

const CLASSES: usize = 3;
const VALUES: usize = 2;
const WEIGHT: f64 = 0.4;

#[derive(Module, Debug)]
struct TwoHeads {
    trunk: Linear,
    policy: Linear,
    value: Linear,
}

impl TwoHeads {
    fn new() -> Self {
        Self {
            trunk: dense_layer([4, 5], 1),
            policy: dense_layer([5, CLASSES], 2),
            value: dense_layer([5, VALUES], 3),
        }
    }
}

impl Network for TwoHeads {
    type Input = Tensor<2>;
    type Output = (Tensor<2>, Tensor<2>);

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> (Tensor<2>, Tensor<2>) {
        let features = tape.linear(&self.trunk, inputs).tanh();
        let policy = tape.linear(&self.policy, features.clone());
        (policy, tape.linear(&self.value, features))
    }
}

/// The same without the second head.
#[derive(Module, Debug)]
struct OneHead {
    trunk: Linear,
    policy: Linear,
}

impl Network for OneHead {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let features = tape.linear(&self.trunk, inputs).tanh();
        tape.linear(&self.policy, features)
    }
}

type Targets = (Tensor<1, Int>, Tensor<2>);
type Heads = (Head<Categorical>, Head<Gaussian>);

fn loss(policy: f64, value: f64) -> Heads {
    (
        Head::new("policy", Categorical).with_weight(policy),
        Head::new("value", Gaussian).with_weight(value),
    )
}

fn batch(cases: usize) -> Batch<Tensor<2>, Targets> {
    let targets = (classes([cases], CLASSES, 5), normal([cases, VALUES], 6));
    Batch::new(normal([cases, 4], 4), targets)
}

/// The gradient of the objective, as a column.
fn gradient<L, T>(
    loss: &L,
    blocks: &Blocks,
    model: &TwoHeads,
    batch: &Batch<Tensor<2>, T>,
) -> Mat<f64>
where
    L: Loss<(Tensor<2>, Tensor<2>), T>,
    T: Cases,
{
    let objective = mean_loss(loss, blocks);
    let parameters = blocks.layers().parameters(model);
    let (_, gradient) = objective.gradient(model, &parameters, batch).unwrap();
    column(&gradient)
}

fn mean_loss<'a, L>(loss: &'a L, blocks: &'a Blocks) -> MeanLoss<'a, L> {
    MeanLoss {
        layers: blocks.layers(),
        loss,
        l2: 0.0,
        chunk_size: 5000,
    }
}

/// The Fisher matrix of one case by enumeration: all classes of the policy by their probabilities; of the
/// value's normal distribution the targets `z ± √d e_j`, all equally likely, which have its covariance. Each
/// head counts with its weight.
fn enumerated(model: &TwoHeads, blocks: &Blocks, inputs: &Tensor<2>, weight: f64) -> Mat<f64> {
    let (policy, value) = model.valid().forward(inputs.clone(), &mut Tape::off());
    let probabilities = host::to_vec(&softmax(policy, 1));
    let outer = |loss: &Heads, targets: Targets| {
        let gradient = gradient(loss, blocks, model, &Batch::new(inputs.clone(), targets));
        &gradient * gradient.transpose()
    };
    let size = column(&blocks.layers().parameters(model)).nrows();
    let mut sum = Mat::zeros(size, size);
    for (class, probability) in (0..).zip(probabilities) {
        let moment = outer(&loss(1.0, 0.0), (classes_of(&[class]), value.clone()));
        sum += moment * faer::Scale(probability);
    }
    for output in 0..VALUES {
        for sign in [-1.0, 1.0] {
            let distance = sign * (VALUES as f64).sqrt();
            let moved = value.clone().slice_dim(1, output..=output) + distance;
            let target = value
                .clone()
                .slice_assign([0..1, output..output + 1], moved);
            let moment = outer(&loss(0.0, 1.0), (classes_of(&[0]), target));
            sum += moment * faer::Scale(weight / (2 * VALUES) as f64);
        }
    }
    sum
}

fn classes_of(classes: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(classes, &Device::default())
}

#[test]
fn the_curvature_of_one_case_is_the_mean_over_the_targets_of_both_heads() {
    let (model, batch, loss) = (TwoHeads::new(), batch(1), loss(1.0, WEIGHT));
    let blocks = own_blocks(&model, &batch.inputs);
    let expected = enumerated(&model, &blocks, &batch.inputs, WEIGHT);
    let oracle = exact::fisher(&model, blocks.layers(), &loss, &batch);
    assert_close("the dense oracle", &oracle, &expected, ROUNDING);
    let actual = exact_blocks(&blocks, &loss, &model, &batch);
    let expected = diagonal_blocks(&expected, blocks.layers());
    assert_eq!(actual.len(), 3);
    for (layer, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        assert_close(&format!("layer {layer}"), actual, expected, ROUNDING);
    }
}

/// The factors of all layers as one column.
fn factors(set: &FactorSet) -> Mat<f64> {
    let factors = set.kronecker().into_iter();
    let factors = factors.map(|factors| factors.gradient.clone()).collect();
    column(&ParameterVector::new(factors))
}

#[test]
fn sampled_curvature_of_two_heads_converges_to_the_exact_one() {
    const DRAWS: usize = 64;
    const MANY: usize = 4096;
    let (model, batch, loss) = (TwoHeads::new(), batch(6), loss(1.0, WEIGHT));
    let blocks = own_blocks(&model, &batch.inputs);
    let estimator = FisherEstimator::new(&blocks, &loss);
    let draw = |estimator: FisherEstimator<'_, Heads>, seed| {
        let random = &mut RandomStream::from_seed(seed);
        factors(&estimator.factors(&model, &batch, random).unwrap())
    };
    let exact = draw(estimator.with_estimate(FisherEstimate::Exact), 0);
    let square = |error: Mat<f64>| error.squared_norm_l2();
    let errors = (0..DRAWS).map(|seed| square(draw(estimator, seed as u64) - &exact));
    let of_one = errors.sum::<f64>() / DRAWS as f64;
    assert!(
        of_one > 1e-3 * exact.squared_norm_l2(),
        "nothing is sampled"
    );
    let of_many = square(draw(estimator.with_samples(MANY), 1000) - &exact);
    // The expected squared error of the mean of n samples is 1/n of that of one, which 64 draws tell to
    // a quarter. Three standard errors: nine times the square.
    let allowed = 9.0 * of_one / MANY as f64;
    assert!(of_many < allowed, "{of_many} > {allowed}");
}

#[test]
fn the_parts_of_a_batch_change_no_draw_of_a_head() {
    let (model, batch, loss) = (TwoHeads::new(), batch(6), loss(1.0, WEIGHT));
    let blocks = own_blocks(&model, &batch.inputs);
    let in_parts_of = |cases: usize| {
        let estimator = FisherEstimator::new(&blocks, &loss).with_samples(2);
        let estimator = estimator.with_chunk_size(cases);
        let random = &mut RandomStream::from_seed(1);
        factors(&estimator.factors(&model, &batch, random).unwrap())
    };
    let whole = in_parts_of(6);
    for cases in [1, 4] {
        let error = relative(&in_parts_of(cases), &whole);
        assert!(error < ROUNDING, "{error} in parts of {cases}");
    }
}

#[test]
fn the_gradient_of_two_heads_is_that_of_the_objective() {
    // Central differences: truncation h² and rounding ε / h are both near 1e-11.
    const STEP: f64 = 1e-5;
    const DIFFERENCES: f64 = 1e-8;
    let (model, batch, loss) = (TwoHeads::new(), batch(5), loss(1.0, WEIGHT));
    let blocks = own_blocks(&model, &batch.inputs);
    let objective = mean_loss(&loss, &blocks);
    let theta = blocks.layers().parameters(&model);
    let value = |layer: usize, unit: &Tensor<2>, step: f64| {
        let mut moved = theta.blocks().to_vec();
        moved[layer] = moved[layer].clone() + unit.clone() * step;
        let moved = ParameterVector::new(moved);
        let model = blocks.layers().with_parameters(model.clone(), &moved);
        objective.value(&model, &moved, &batch).unwrap()
    };
    let shapes = shapes(blocks.layers());
    let units = shapes
        .into_iter()
        .enumerate()
        .flat_map(|(layer, shape)| units(shape).map(move |unit| (layer, unit)));
    let differences: Vec<f64> = units
        .map(|(layer, unit)| {
            (value(layer, &unit, STEP) - value(layer, &unit, -STEP)) / (2.0 * STEP)
        })
        .collect();
    let differences = Mat::from_fn(differences.len(), 1, |i, _| differences[i]);
    let actual = gradient(&loss, &blocks, &model, &batch);
    assert_close("gradient", &actual, &differences, DIFFERENCES);
}

#[test]
fn the_objective_is_the_weighted_sum_of_the_heads() {
    let (model, batch) = (TwoHeads::new(), batch(5));
    let blocks = own_blocks(&model, &batch.inputs);
    let parameters = blocks.layers().parameters(&model);
    let value = |policy, values| {
        let loss = loss(policy, values);
        let objective = mean_loss(&loss, &blocks);
        objective.value(&model, &parameters, &batch).unwrap()
    };
    let expected = value(1.0, 0.0) + WEIGHT * value(0.0, 1.0);
    assert_near("objective", value(1.0, WEIGHT), expected, ROUNDING);
}

/// Sums of several products in another order; six steps multiply rounding by the condition of the damped
/// factors and of the 2 × 2 systems, below a thousand here.
const STEPS: f64 = 1e-9;

#[test]
fn a_head_of_weight_zero_changes_nothing() {
    let start = TwoHeads::new();
    let alone = OneHead {
        trunk: start.trunk.clone(),
        policy: start.policy.clone(),
    };
    let both = batch(9);
    let one = Batch::new(both.inputs.clone(), both.targets.0.clone());
    for estimate in [FisherEstimate::Exact, FisherEstimate::MonteCarlo] {
        let config = exact_config()
            .with_l2(0.0)
            .map_curvature(|curvature| curvature.with_fisher(estimate));
        let optimizer = config.init(&start, loss(1.0, 0.0), &both.inputs).unwrap();
        let (optimizer, model, _) = trained(optimizer, start.clone(), &both, 6);
        let of_one = config.init(&alone, Categorical, &both.inputs).unwrap();
        let (of_one, of_policy, _) = trained(of_one, alone.clone(), &one, 6);
        let actual = optimizer.layers().parameters(&model);
        let own = ParameterVector::new(actual.blocks()[..2].to_vec());
        let expected = column(&of_one.layers().parameters(&of_policy));
        assert_close(&format!("{estimate:?}"), &column(&own), &expected, STEPS);
        let before = column(&of_one.layers().parameters(&alone));
        assert!(relative(&expected, &before) > 1e-2, "nothing was learned");
        let unmoved = bits(&start.value);
        assert_eq!(bits(&model.value), unmoved);
    }
}

#[test]
fn errors_name_the_head() {
    let mut model = TwoHeads::new();
    let good = batch(3);
    let mut optimizer = exact_config()
        .init(&model, loss(1.0, WEIGHT), &good.inputs)
        .unwrap();
    let values = good.targets.1.clone();
    let bad = Batch::new(good.inputs.clone(), (classes_of(&[0, 3, 1]), values));
    let error = optimizer.step(&mut model, &bad).unwrap_err();
    let source = StepError::ClassOutOfRange {
        class: 3,
        classes: CLASSES,
    };
    let expected = StepError::Head {
        head: "policy".to_owned(),
        source: Box::new(source),
    };
    assert_eq!(error, expected);
    let text = "head `policy`: a target is class 3, but the outputs have classes 0 to 2";
    assert!(error.to_string().starts_with(text), "{error}");

    let wide = (good.targets.0.clone(), normal([3, VALUES + 1], 1));
    let bad = Batch::new(good.inputs.clone(), wide);
    let source = StepError::OutputShape {
        outputs: vec![3, VALUES],
        targets: vec![3, VALUES + 1],
    };
    let expected = StepError::Head {
        head: "value".to_owned(),
        source: Box::new(source),
    };
    assert_eq!(optimizer.step(&mut model, &bad).unwrap_err(), expected);
}

#[test]
fn a_weight_that_is_none_is_refused_with_its_head() {
    let mut model = TwoHeads::new();
    let batch = batch(3);
    for weight in [-1.0, f64::INFINITY] {
        let loss = loss(1.0, weight);
        let mut optimizer = exact_config().init(&model, loss, &batch.inputs).unwrap();
        let error = optimizer.step(&mut model, &batch).unwrap_err();
        let source = Box::new(StepError::HeadWeight { weight });
        let head = "value".to_owned();
        assert_eq!(error, StepError::Head { head, source });
    }
}

#[test]
fn blocks_of_several_cases_are_the_factorisation_of_both_heads() {
    // The comparison of one case can fail: for several, the factorisation is an approximation.
    let (model, batch, loss) = (TwoHeads::new(), batch(7), loss(1.0, WEIGHT));
    let blocks = own_blocks(&model, &batch.inputs);
    let estimator = FisherEstimator::new(&blocks, &loss).with_estimate(FisherEstimate::Exact);
    let factors = estimator
        .factors(&model, &batch, &mut RandomStream::from_seed(0))
        .unwrap();
    let actual = blocks_of(&factors, blocks.layers());
    let dense = exact::fisher(&model, blocks.layers(), &loss, &batch);
    let expected = diagonal_blocks(&dense, blocks.layers());
    assert!(relative(&actual[0], &expected[0]) > 1e-3);
}
