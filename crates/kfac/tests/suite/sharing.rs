//! Does a layer that is used more than once, at positions or in turn, count each use?

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Device, Tensor},
};
use faer::Mat;
use kfac::{
    Batch, Bernoulli, Block, Categorical, Coverage, FisherEstimate, Gaussian, InverseStructure,
    KroneckerFactors, Network, ParameterRow, PredictiveDistribution, Tape, WeightSharing,
    blocks::{BlockOptions, Blocks},
};

use crate::support::{
    self, Activation, Estimate, Spec, assert_close, dense, dense_layer, exact_config, normal, run,
};
use crate::support::{host, kronecker::append_ones, kronecker::second_moment};

/// Sums of some hundred double precision products.
const ROUNDING: f64 = 1e-12;
/// Central differences of step 1e-5, squared in the factors.
const DIFFERENCES: f64 = 1e-8;

/// One layer applied at each of several positions, pooled, and a layer of classes.
#[derive(Module, Debug)]
struct Tokens {
    shared: Linear,
    last: Linear,
    /// Added to the shared layer's outputs: `[1, positions, width]`, frozen.
    shift: Param<Tensor<3>>,
}

const POSITIONS: usize = 3;

impl Tokens {
    fn new(bias: bool) -> Self {
        let shift = Tensor::<3>::zeros([1, POSITIONS, 4], (&Device::default(), DType::F64));
        Self {
            shared: support::linear([2, 4], bias, (DType::F64, 1)),
            last: support::linear([4, 3], bias, (DType::F64, 2)),
            shift: Param::from_tensor(shift.autodiff()).no_grad(),
        }
    }

    fn shifted(&self, position: usize, unit: usize, by: f64) -> Self {
        let at = [0..1, position..position + 1, unit..unit + 1];
        let shift = self.shift.clone().map(|shift| shift.slice_fill(at, by));
        Self {
            shift,
            ..self.clone()
        }
    }
}

impl Network for Tokens {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let s = tape.linear(&self.shared, inputs) + self.shift.val();
        tape.linear(&self.last, s.tanh().sum_dim(1).squeeze_dim(1))
    }
}

fn tokens(n: usize) -> Tensor<3> {
    normal([n * POSITIONS, 2], 5).reshape([n, POSITIONS, 2])
}

fn token_factors(model: &Tokens, batch: &Batch<Tensor<3>>) -> Vec<KroneckerFactors> {
    let config = exact_config().map_curvature(|c| c.with_fisher(FisherEstimate::Empirical));
    let mut optimizer = config.init(model, Categorical, &batch.inputs).unwrap();
    optimizer.step(&mut model.clone(), batch).unwrap();
    optimizer
        .factors()
        .kronecker()
        .into_iter()
        .cloned()
        .collect()
}

#[test]
fn positions_are_summed_in_one_factor_and_averaged_in_the_other() {
    for bias in [true, false] {
        let model = Tokens::new(bias);
        let n = 5;
        let batch = Batch::new(tokens(n), SPEC_CLASSES.batch(&Categorical, n, 3).targets);
        let factors = token_factors(&model, &batch);
        let rows = batch.inputs.clone().reshape([n * POSITIONS, 2]);
        let rows = if bias { append_ones(rows) } else { rows };
        let expected = dense(&second_moment(rows)) * faer::Scale(1.0 / n as f64);
        assert_close("Ā", &dense(&factors[0].activation), &expected, ROUNDING);
        // The gradient at each position of each case, by differences of that case's loss.
        let mut sum = Mat::<f64>::zeros(4, 4);
        for case in 0..n {
            let one = batch.slice(case..case + 1);
            for position in 0..POSITIONS {
                let g = Mat::from_fn(4, 1, |unit, _| slope(&model, &one, (position, unit)));
                sum += &g * g.transpose();
            }
        }
        let expected = sum * faer::Scale(1.0 / (n * POSITIONS) as f64);
        assert_close("G", &dense(&factors[0].gradient), &expected, DIFFERENCES);
    }
}

const SPEC_CLASSES: Spec<'static> = Spec::new(&[2, 3], Activation::Tanh);

/// The derivative of a case's loss in the pre-activation of one unit at one position.
fn slope(model: &Tokens, case: &Batch<Tensor<3>>, (position, unit): (usize, usize)) -> f64 {
    let h = support::DIFFERENCE;
    let loss = |by: f64| {
        let outputs = model
            .shifted(position, unit, by)
            .forward(case.inputs.clone(), &mut Tape::off());
        host::sum(Categorical.negative_log_likelihood(outputs.inner(), case.targets.clone()))
    };
    (loss(h) - loss(-h)) / (2.0 * h)
}

/// Six layers in line; the third is called twice.
#[derive(Module, Debug)]
struct Repeating {
    layers: Vec<Linear>,
}

impl Network for Repeating {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let calls = [0, 1, 2, 2, 3, 4, 5];
        calls.iter().fold(inputs, |a, &layer| {
            tape.linear(&self.layers[layer], a).tanh()
        })
    }
}

#[test]
fn chains_are_cut_at_layers_with_several_positions_or_uses() {
    let config =
        exact_config().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    let chain = |row: &ParameterRow| match row.coverage {
        Coverage::Block(Block { chain, .. }) => chain,
        _ => None,
    };
    let layers = (0..6).map(|i| support::linear([3, 3], true, (DType::F64, i)));
    let mut model = Repeating {
        layers: layers.collect(),
    };
    let spec = Spec::new(&[3, 3], Activation::Tanh);
    let batch = spec.batch(&Bernoulli, 9, 1);
    let (optimizer, _) = run(&config, Bernoulli, &mut model, &batch, 2);
    let weights = optimizer.parameter_table().rows().iter().step_by(2);
    let chains: Vec<_> = weights.map(chain).collect();
    assert_eq!(chains, [Some(1), Some(1), None, Some(2), Some(2), Some(2)]);
    let linked: Vec<bool> = optimizer
        .factors()
        .links
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(linked, [true, false, false, true, true, false]);

    let mut tokens_model = Tokens::new(true);
    let batch = Batch::new(tokens(5), SPEC_CLASSES.batch(&Categorical, 5, 3).targets);
    let mut optimizer = config
        .init(&tokens_model, Categorical, &batch.inputs)
        .unwrap();
    optimizer.step(&mut tokens_model, &batch).unwrap();
    let rows = optimizer.parameter_table().rows();
    assert!(
        rows.iter().all(|row| chain(row).is_none()),
        "one layer is no chain"
    );
    assert!(optimizer.factors().links.iter().all(Option::is_none));
}

#[test]
fn a_frozen_parameter_is_listed_and_left_alone() {
    let mut model = Tokens::new(true);
    let batch = Batch::new(tokens(5), SPEC_CLASSES.batch(&Categorical, 5, 3).targets);
    let mut optimizer = exact_config()
        .init(&model, Categorical, &batch.inputs)
        .unwrap();
    let rows = optimizer.parameter_table().rows();
    let shift = rows.iter().find(|row| row.path == "shift").unwrap();
    assert_eq!(
        (&shift.coverage, &shift.shape),
        (&Coverage::Frozen, &vec![1, POSITIONS, 4])
    );
    let before: Vec<f64> = host::to_vec(&model.shift.val());
    optimizer.step(&mut model, &batch).unwrap();
    assert_eq!(before, host::to_vec(&model.shift.val()));
}

/// The same layer twice.
#[derive(Module, Debug)]
struct Twice {
    layer: Linear,
}

impl Network for Twice {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.layer, inputs).tanh();
        tape.linear(&self.layer, hidden)
    }
}

#[test]
fn both_uses_of_a_layer_count() {
    let n = 6;
    let model = Twice {
        layer: support::linear([3, 3], true, (DType::F64, 1)),
    };
    let spec = Spec::new(&[3, 3], Activation::Linear);
    let batch = spec.batch(&Bernoulli, n, 2);
    let config = exact_config().map_curvature(|c| c.with_fisher(FisherEstimate::Empirical));
    let (optimizer, _) = run(&config, Bernoulli, &mut model.clone(), &batch, 1);
    assert_eq!(optimizer.layers().len(), 1);
    let hidden = model.layer.forward(batch.inputs.clone()).tanh().inner();
    let last =
        Bernoulli.output_gradient(model.layer.forward(hidden.clone()).inner(), batch.targets);
    let back = last
        .clone()
        .matmul(model.layer.weight.val().inner().transpose());
    let first = back * (hidden.ones_like() - hidden.clone() * hidden.clone());
    let moment = |x: Tensor<2>| dense(&second_moment(x));
    let activation = moment(append_ones(batch.inputs)) + moment(append_ones(hidden));
    let gradient = moment(first) + moment(last);
    let factors = optimizer.factors().kronecker()[0];
    let scaled = |m: Mat<f64>, by: usize| m * faer::Scale(1.0 / by as f64);
    assert_close(
        "Ā",
        &dense(&factors.activation),
        &scaled(activation, n),
        ROUNDING,
    );
    assert_close(
        "G",
        &dense(&factors.gradient),
        &scaled(gradient, 2 * n),
        ROUNDING,
    );
}

/// One layer applied many times in turn.
#[derive(Module, Debug)]
struct Repeated {
    layer: Linear,
    #[module(skip)]
    uses: usize,
}

impl Network for Repeated {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        (0..self.uses).fold(inputs, |x, _| tape.linear(&self.layer, x).tanh())
    }
}

/// The least seconds of a few estimates of the factors of a layer that is used so often.
fn seconds(uses: usize) -> f64 {
    let model = Repeated {
        layer: support::linear([64, 64], true, (DType::F64, 1)),
        uses,
    };
    let batch = Batch::new(normal([64, 64], 2), normal([64, 64], 3));
    let estimate = Estimate::new(FisherEstimate::MonteCarlo, WeightSharing::Expand);
    let runs = (0..3).map(|_| {
        let start = std::time::Instant::now();
        let _ = estimate.factors(&model, &Gaussian, &batch);
        start.elapsed().as_secs_f64()
    });
    runs.fold(f64::INFINITY, f64::min)
}

/// Eight times the uses are eight times the work, and not sixty-four: three times that leaves room for a
/// busy machine. Copying all that is there for each use more took 48 times as long.
#[test]
fn many_uses_cost_in_proportion() {
    let ratio = seconds(800) / seconds(100);
    assert!(
        ratio < 24.0,
        "800 uses took {ratio:.1} times as long as 100"
    );
}

#[test]
fn positions_count_together_where_the_outputs_have_none() {
    use WeightSharing::{Automatic, Expand, Reduce};
    let of = |pooled: bool, sharing: WeightSharing| {
        let model = Positions {
            first: dense_layer([3, 4], 1),
            last: dense_layer([4, 2], 2),
        };
        let inputs = normal([5, 6, 3], 3);
        let options = BlockOptions::default().with_sharing(sharing);
        let (blocks, _) = if pooled {
            Blocks::discover(&Pooled { inner: model }, &inputs, &options)
        } else {
            Blocks::discover(&model, &inputs, &options)
        };
        let layers = blocks.layers().iter();
        layers.map(|layer| layer.sharing).collect::<Vec<_>>()
    };
    // The last layer of the pooled network has one position.
    assert_eq!(of(true, Automatic), [Reduce, Expand]);
    assert_eq!(of(false, Automatic), [Expand, Expand]);
    assert_eq!(of(true, Expand), [Expand, Expand]);
    assert_eq!(of(false, Reduce), [Reduce, Reduce]);
}

/// A dense layer at each position, and another one.
#[derive(Module, Debug)]
struct Positions {
    first: Linear,
    last: Linear,
}

impl Network for Positions {
    type Input = Tensor<3>;
    type Output = Tensor<3>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<3> {
        tape.linear(&self.last, tape.linear(&self.first, inputs).tanh())
    }
}

/// The same with the mean over positions between the layers.
#[derive(Module, Debug)]
struct Pooled {
    inner: Positions,
}

impl Network for Pooled {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.inner.first, inputs).tanh();
        tape.linear(&self.inner.last, hidden.mean_dim(1).squeeze_dim(1))
    }
}
