//! Theorem 1 (section 10): without damping, K-FAC takes the same step in every parametrisation that
//! applies invertible linear maps to the layers' inputs and outputs.
//!
//! A warped network computes `ā_i = Ω_i [φ(Φ_i s_i), 1]`; its weights `W†` stand for
//! `W_i = Φ_i W†_i Ω_{i−1}` of the plain one.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{DType, Tensor, activation::sigmoid},
};
use faer::Mat;
use kfac::{
    Batch, Bernoulli, InverseStructure, Jvp, Kfac, KfacConfig, Momentum, Network, ParameterVector,
    Tape,
};

use crate::support::{
    Activation, column, damped, dense, linear, normal, objective, relative, solve, tensor,
};
use crate::support::{discover, kronecker::append_ones};

const WIDTHS: [usize; 4] = [5, 4, 3, 2];
const CASES: usize = 300;
const STEPS: usize = 5;

/// The bound of the theorem's check: five steps multiply rounding by the condition of the factors.
const SAME: f64 = 1e-8;
/// With damping the steps differ by at least this much.
const DIFFERENT: f64 = 1e-3;

/// The maps of a warped network, applied to columns as in the paper.
#[derive(Clone, Debug)]
struct Maps {
    /// `Ω_0, …, Ω_{ℓ−1}`, on the inputs of the layers with a one appended.
    omega: Vec<Mat<f64>>,
    /// `Φ_1, …, Φ_ℓ`, on the outputs of the layers.
    phi: Vec<Mat<f64>>,
}

impl Maps {
    fn identity() -> Self {
        Self {
            omega: WIDTHS[..3]
                .iter()
                .map(|d| Mat::identity(d + 1, d + 1))
                .collect(),
            phi: WIDTHS[1..].iter().map(|d| Mat::identity(*d, *d)).collect(),
        }
    }

    /// Well-conditioned random maps of all layers.
    fn random(seed: u64) -> Self {
        let random =
            |d: usize, seed| damped(&(dense(&normal([d, d], seed)) * faer::Scale(0.3)), 1.0);
        let layer = |i: usize| seed + 10 * i as u64;
        Self {
            omega: (0..3).map(|i| random(WIDTHS[i] + 1, layer(i))).collect(),
            phi: (0..3)
                .map(|i| random(WIDTHS[i + 1], layer(i) + 1))
                .collect(),
        }
    }

    /// An affine map of the input, `x ↦ M x + c`.
    fn affine_input(seed: u64) -> Self {
        let d = WIDTHS[0];
        let random = dense(&normal([d, d + 1], seed)) * faer::Scale(0.4);
        let mut maps = Self::identity();
        maps.omega[0] = Mat::from_fn(d + 1, d + 1, |i, j| {
            let one = f64::from(u8::from(i == j));
            if i < d { one + random[(i, j)] } else { one }
        });
        maps
    }

    /// The logistic network seen as a tanh network, by `tanh(s) = 2 σ(2 s) − 1`.
    fn tanh_of_logistic() -> Self {
        let mut maps = Self::identity();
        for (hidden, &d) in WIDTHS.iter().enumerate().take(3).skip(1) {
            maps.omega[hidden] = Mat::from_fn(d + 1, d + 1, |i, j| match (i < d, j < d) {
                (true, true) => 2.0 * f64::from(u8::from(i == j)),
                (true, false) => -1.0,
                (false, true) => 0.0,
                (false, false) => 1.0,
            });
            maps.phi[hidden - 1] = Mat::<f64>::identity(d, d) * faer::Scale(2.0);
        }
        maps
    }

    /// `ζ`: the plain network's parameters that a warped one's stand for; in the code's layout
    /// `Wᵀ = Ωᵀ W†ᵀ Φᵀ`.
    fn plain(&self, warped: &ParameterVector) -> ParameterVector {
        let blocks = warped.blocks().iter().zip(self.omega.iter().zip(&self.phi));
        let map = |(block, (omega, phi)): (&Tensor<2>, (&Mat<f64>, &Mat<f64>))| {
            tensor(&(omega.transpose() * dense(block) * phi.transpose()))
        };
        ParameterVector::new(blocks.map(map).collect())
    }

    /// The inverse of [`plain`](Self::plain).
    fn warped(&self, plain: &ParameterVector) -> ParameterVector {
        let blocks = plain.blocks().iter().zip(self.omega.iter().zip(&self.phi));
        let map = |(block, (omega, phi)): (&Tensor<2>, (&Mat<f64>, &Mat<f64>))| {
            let left = solve(&omega.transpose().to_owned(), &dense(block));
            tensor(
                &solve(phi, &left.transpose().to_owned())
                    .transpose()
                    .to_owned(),
            )
        };
        ParameterVector::new(blocks.map(map).collect())
    }
}

/// A network whose layers have no bias: the appended one is mixed with the other inputs by the maps.
#[derive(Module, Debug)]
struct Warped {
    layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    omega: Vec<Tensor<2>>,
    #[module(skip)]
    phi: Vec<Tensor<2>>,
}

impl Warped {
    fn new(activation: Activation, maps: &Maps) -> Self {
        let rows = |matrix: &Mat<f64>| tensor(&matrix.transpose().to_owned());
        // A logistic unit is four times flatter than a tanh unit: with small weights its activities
        // hardly vary, and the factors' condition numbers would hide the theorem behind rounding.
        let gain = match activation {
            Activation::Logistic => 4.0,
            Activation::Tanh | Activation::Linear => 1.0,
        };
        let layer = |i: usize| {
            let widths = [WIDTHS[i] + 1, WIDTHS[i + 1]];
            let layer = linear(widths, false, (DType::F64, 40 + i as u64));
            let weight = layer
                .weight
                .map(|w| (w.inner() * gain).autodiff().require_grad());
            Linear { weight, bias: None }
        };
        Self {
            layers: (0..3).map(layer).collect(),
            activation,
            omega: maps.omega.iter().map(rows).collect(),
            phi: maps.phi.iter().map(rows).collect(),
        }
    }
}

impl Network for Warped {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let mut a = inputs;
        for (i, layer) in self.layers.iter().enumerate() {
            let input = append_ones(a).matmul(self.omega[i].clone());
            let s = tape.linear(layer, input).matmul(self.phi[i].clone());
            a = if i < 2 { self.activation.apply(s) } else { s };
        }
        a
    }

    fn jvp(&self, inputs: Tensor<2>, tangents: &[Self]) -> Option<Jvp> {
        let mut derivatives = Vec::new();
        let mut outputs = inputs.clone();
        for tangent in tangents {
            let (mut a, mut ra) = (inputs.clone(), inputs.zeros_like());
            for (i, (layer, direction)) in self.layers.iter().zip(&tangent.layers).enumerate() {
                let input = append_ones(a).matmul(self.omega[i].clone());
                let zero = Tensor::zeros([ra.dims()[0], 1], (&ra.device(), ra.dtype()));
                let rinput = Tensor::cat(vec![ra, zero], 1).matmul(self.omega[i].clone());
                let rs = layer.forward(rinput) + direction.forward(input.clone());
                let rs = rs.matmul(self.phi[i].clone());
                let s = layer.forward(input).matmul(self.phi[i].clone());
                (a, ra) = if i < 2 {
                    let a = self.activation.apply(s);
                    (a.clone(), rs * self.activation.slope(&a))
                } else {
                    (s, rs)
                };
            }
            outputs = a;
            derivatives.push(ra);
        }
        Some(Jvp {
            outputs,
            derivatives,
        })
    }
}

/// How a step is made of the approximate natural gradient.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// `θ ← θ − 0.1 F⁻¹ ∇h`.
    Plain,
    /// Rescaled by the exact Fisher (6.4).
    Rescaled,
    /// With the last step as a second direction (7).
    Momentum,
}

const RULES: [Rule; 3] = [Rule::Plain, Rule::Rescaled, Rule::Momentum];
const STRUCTURES: [InverseStructure; 2] = [
    InverseStructure::BlockDiagonal,
    InverseStructure::BlockTridiagonal,
];

/// No damping to speak of: γ is 1e-150.
fn undamped(structure: InverseStructure, rule: Rule) -> KfacConfig {
    KfacConfig::paper()
        .with_l2(0.0)
        .with_initial_lambda(1e-300)
        .map_curvature(|c| c.with_statistics_fraction(Some(1.0)))
        .with_model_fraction(Some(1.0))
        .map_curvature(|c| c.with_inverse_period(1))
        .with_gamma_period(100)
        .map_curvature(|c| c.with_structure(structure))
        .with_momentum(match rule {
            Rule::Plain | Rule::Rescaled => Momentum::None,
            Rule::Momentum => Momentum::Adaptive,
        })
}

/// Targets near what the network predicts: undamped steps then stay where the model is good.
fn batch(plain: &Warped) -> Batch<Tensor<2>> {
    let inputs = normal([CASES, WIDTHS[0]], 7);
    let logits = plain.forward(inputs.clone(), &mut Tape::off()).inner();
    let noise = normal([CASES, WIDTHS[3]], 8);
    Batch::new(inputs, sigmoid(logits + noise))
}

/// A step from the model's parameters; returns the parameters after it.
fn step(
    optimizer: &mut Kfac<Bernoulli>,
    model: &mut Warped,
    batch: &Batch<Tensor<2>>,
    rule: Rule,
) -> ParameterVector {
    let layers = optimizer.layers().clone();
    let before = model.clone();
    let start = layers.parameters(&before);
    optimizer.step(model, batch).unwrap();
    if matches!(rule, Rule::Plain) {
        let objective = objective(&layers, &Bernoulli, optimizer.config().l2);
        let (_, gradient) = objective.gradient(&before, &start, batch).unwrap();
        let proposal = optimizer.inverse().unwrap().multiply(&gradient);
        *model = layers.with_parameters(before, &start.add_scaled(&proposal, -0.1));
    }
    layers.parameters(model)
}

/// The largest relative difference between a plain network's steps and those of a warped one, mapped
/// back.
fn difference(
    config: &KfacConfig,
    rule: Rule,
    (plain, warped): (Warped, Warped),
    (maps, inputs): (&Maps, impl Fn(Tensor<2>) -> Tensor<2>),
) -> f64 {
    let data = batch(&plain);
    let data = [data.clone(), Batch::new(inputs(data.inputs), data.targets)];
    let mut models = [plain, warped];
    let mut optimizers =
        [0, 1].map(|i: usize| config.init(&models[i], Bernoulli, &data[i].inputs).unwrap());
    let start = optimizers[0].layers().parameters(&models[0]);
    let on_autodiff = optimizers[1].layers().clone();
    models[1] = on_autodiff.with_parameters(models[1].clone(), &maps.warped(&start));
    let mut before = start;
    let mut largest = 0.0f64;
    for _ in 0..STEPS {
        let [first, second] = &mut optimizers;
        let [model, mapped] = &mut models;
        let expected = step(first, model, &data[0], rule);
        let found = maps.plain(&step(second, mapped, &data[1], rule));
        let taken = |after: &ParameterVector| column(after) - column(&before);
        largest = largest.max(relative(&taken(&found), &taken(&expected)));
        before = expected;
    }
    largest
}

/// The networks of a case, its maps, and the transformation of the inputs.
fn random_case(seed: u64) -> ((Warped, Warped), Maps) {
    let maps = Maps::random(seed);
    let plain = Warped::new(Activation::Tanh, &Maps::identity());
    ((plain, Warped::new(Activation::Tanh, &maps)), maps)
}

fn logistic_case() -> ((Warped, Warped), Maps) {
    let plain = Warped::new(Activation::Logistic, &Maps::identity());
    let tanh = Warped::new(Activation::Tanh, &Maps::identity());
    ((plain, tanh), Maps::tanh_of_logistic())
}

/// The second network is a plain one too; its inputs are mapped before it sees them.
fn affine_case() -> ((Warped, Warped), Maps) {
    let network = || Warped::new(Activation::Tanh, &Maps::identity());
    ((network(), network()), Maps::affine_input(5))
}

fn mapped_inputs(maps: &Maps) -> impl Fn(Tensor<2>) -> Tensor<2> {
    let omega = tensor(&maps.omega[0].transpose().to_owned());
    move |inputs| {
        append_ones(inputs)
            .matmul(omega.clone())
            .slice_dim(1, 0..WIDTHS[0])
    }
}

fn for_all(check: impl Fn(&KfacConfig, Rule)) {
    for structure in STRUCTURES {
        for rule in RULES {
            check(&undamped(structure, rule), rule);
        }
    }
}

fn assert_same(
    config: &KfacConfig,
    rule: Rule,
    networks: (Warped, Warped),
    maps: (&Maps, impl Fn(Tensor<2>) -> Tensor<2>),
) {
    let difference = difference(config, rule, networks, maps);
    let structure = config.curvature.structure;
    assert!(difference < SAME, "{structure:?}, {rule:?}: {difference:e}");
}

#[test]
fn random_maps_of_every_layer_change_nothing() {
    for seed in [1, 2, 3] {
        for_all(|config, rule| {
            let (networks, maps) = random_case(seed * 100);
            assert_same(config, rule, networks, (&maps, |x| x));
        });
    }
}

#[test]
fn a_logistic_network_and_a_tanh_network_take_the_same_steps() {
    for_all(|config, rule| {
        let (networks, maps) = logistic_case();
        assert_same(config, rule, networks, (&maps, |x| x));
    });
}

#[test]
fn affine_maps_of_the_input_change_nothing() {
    for_all(|config, rule| {
        let (networks, maps) = affine_case();
        let inputs = mapped_inputs(&maps);
        assert_same(config, rule, networks, (&maps, inputs));
    });
}

#[test]
fn with_damping_the_parametrisation_matters() {
    for_all(|config, rule| {
        let config = config.clone().with_initial_lambda(1.0);
        let (networks, maps) = random_case(100);
        let random = difference(&config, rule, networks, (&maps, |x| x));
        let (networks, maps) = logistic_case();
        let logistic = difference(&config, rule, networks, (&maps, |x| x));
        let (networks, maps) = affine_case();
        let affine = difference(&config, rule, networks, (&maps, mapped_inputs(&maps)));
        for difference in [random, logistic, affine] {
            assert!(difference > DIFFERENT, "{rule:?}: {difference:e}");
        }
    });
}

#[test]
fn the_maps_of_parameters_are_inverse_to_each_other() {
    let (networks, maps) = random_case(7);
    let (layers, _) = discover(&networks.0, &batch(&networks.0).inputs);
    let start = layers.parameters(&networks.0);
    let back = maps.plain(&maps.warped(&start));
    assert!(relative(&column(&back), &column(&start)) < 1e-13);
    assert!(relative(&column(&maps.warped(&start)), &column(&start)) > DIFFERENT);
}
