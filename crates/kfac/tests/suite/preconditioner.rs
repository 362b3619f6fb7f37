//! Is a preconditioned gradient what its definition says, and of use to the optimizer behind it?

use burn::{
    optim::{GradientsParams, ModuleOptimizer, SgdConfig},
    tensor::{DType, Int, Tensor, activation::log_softmax},
};
use faer::Mat;
use kfac::{
    Batch, Categorical, DampingScheme, Eigenvalues, Gaussian, InverseMethod, InverseStructure,
    KroneckerFactors, Network, ParameterVector, PiNorm, Preconditioner, PreconditionerConfig, Tape,
    blocks::{EigenBasis, EigenInverse},
    damping::factored_pi,
};

use crate::support::preconditioning::{LAMBDA, SPEC, batch, config, ekfac, preconditioner};
use crate::support::{
    self, Activation, Kind, Mlp, Spec, assert_close, assert_near, bits, column, damped, dense,
    gradients, matrix, normal, of_values, randomised, solve,
};
use crate::support::{host, kronecker};

/// A solve with a damped matrix of condition below 1e4, in double precision.
const ROUNDING: f64 = 1e-11;

/// The matrix of a column that has its rows one after another.
fn of_rows(column: &Mat<f64>, like: &Mat<f64>) -> Mat<f64> {
    let columns = like.ncols();
    Mat::from_fn(like.nrows(), columns, |i, j| column[(i * columns + j, 0)])
}

fn mean_eigenvalue(factor: &Mat<f64>) -> f64 {
    let trace: f64 = (0..factor.nrows()).map(|i| factor[(i, i)]).sum();
    trace / factor.nrows() as f64
}

/// The layer's dense block of the Fisher, damped.
fn block(factors: &KroneckerFactors, damping: DampingScheme) -> Mat<f64> {
    let (a, g) = (dense(&factors.activation), dense(&factors.gradient));
    match damping {
        DampingScheme::ExactTikhonov => damped(&kronecker::product(&a, &g), LAMBDA),
        DampingScheme::FactoredTikhonov { .. } => {
            let (gamma, pi) = (
                LAMBDA.sqrt(),
                factored_pi(mean_eigenvalue(&a), mean_eigenvalue(&g)),
            );
            kronecker::product(&damped(&a, pi * gamma), &damped(&g, gamma / pi))
        }
    }
}

#[test]
fn gradients_are_solved_for_with_the_damped_factors() {
    let factored = DampingScheme::FactoredTikhonov { pi: PiNorm::Trace };
    let cases = [
        (factored, InverseMethod::Automatic),
        (factored, InverseMethod::Eigen),
        (DampingScheme::ExactTikhonov, InverseMethod::Automatic),
    ];
    for (damping, method) in cases {
        let config =
            config().map_curvature(|c| c.with_damping(damping).with_inverse_method(method));
        let model = SPEC.model(1);
        let mut kfac = preconditioner(&config, &model);
        kfac.observe(&model, &batch(1)).unwrap();
        let plain = gradients(&model, &batch(2));
        let expected: Vec<Mat<f64>> = model
            .layers
            .iter()
            .zip(kfac.factors().kronecker())
            .map(|(layer, factors)| {
                let gradient = matrix(layer, &plain);
                let right = kronecker::vec_of_rows(&gradient);
                of_rows(&solve(&block(factors, damping), &right), &gradient)
            })
            .collect();
        let found = kfac.precondition(&model, plain, 1.0).unwrap().gradients;
        for (index, (layer, expected)) in model.layers.iter().zip(&expected).enumerate() {
            let what = format!("{damping:?}, {method:?}, layer {index}");
            assert_close(&what, &matrix(layer, &found), expected, ROUNDING);
        }
    }
}

#[test]
fn every_kind_of_layer_is_multiplied_by_its_own_block() {
    for kind in Kind::ALL {
        let model = kind.model(1);
        let batch = Kind::batch(9, 2);
        let mut kfac = config().init(&model, Gaussian, &batch.inputs).unwrap();
        let before = bits(&model);
        kfac.observe(&model, &batch).unwrap();
        assert_eq!(before, bits(&model), "{kind:?}: the model has moved");
        let direction = randomised(model.clone(), DType::F64, 3);
        let count = of_values(&direction).len();
        let found = kfac
            .precondition(&model, of_values(&direction), 1.0)
            .unwrap()
            .gradients;
        assert_eq!(found.len(), count, "{kind:?}");
        let start = kfac.layers().parameters(&model);
        let mut sgd: ModuleOptimizer = SgdConfig::new().init();
        let moved = sgd.step(0.5, model.clone(), found);
        let step = kfac.layers().parameters(&moved).add_scaled(&start, -1.0);
        let gradient: ParameterVector = kfac.layers().parameters(&direction);
        let expected = kfac.inverse().unwrap().multiply(&gradient).scaled(-0.5);
        assert_close(
            &format!("{kind:?}"),
            &column(&step),
            &column(&expected),
            ROUNDING,
        );
    }
}

#[test]
fn the_block_tridiagonal_inverse_is_used_where_asked_for() {
    let config = config().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    let model = SPEC.model(1);
    let mut kfac = preconditioner(&config, &model);
    assert!(kfac.parameter_table().to_string().contains("chain 1"));
    kfac.observe(&model, &batch(1)).unwrap();
    let direction = randomised(model.clone(), DType::F64, 3);
    let found = kfac
        .precondition(&model, of_values(&direction), 1.0)
        .unwrap()
        .gradients;
    let gradient = kfac.layers().parameters(&direction);
    let expected = kfac.inverse().unwrap().multiply(&gradient);
    for (layer, expected) in model.layers.iter().zip(expected.blocks()) {
        assert_close("F̂⁻¹ g", &matrix(layer, &found), &dense(expected), ROUNDING);
    }
}

/// The gradients of single cases along the columns of the output Fisher's factor: for squared error
/// those of the outputs.
fn case_gradients(model: &Mlp, batch: &Batch<Tensor<2>>) -> Vec<Vec<Mat<f64>>> {
    let mut all = Vec::new();
    for case in 0..batch.len() {
        for output in 0..SPEC.d_out() {
            let inputs = batch.slice(case..case + 1).inputs;
            let outputs = model.forward(inputs, &mut Tape::off());
            let value = outputs.slice_dim(1, output..=output).sum();
            let gradients = GradientsParams::from_grads(value.backward(), model);
            let of_layers = model.layers.iter().map(|layer| matrix(layer, &gradients));
            all.push(of_layers.collect());
        }
    }
    all
}

/// An eigenbasis and the eigenvalues of a block, kept by the formulas.
struct Basis {
    activation: Mat<f64>,
    gradient: Mat<f64>,
    eigenvalues: Mat<f64>,
}

impl Basis {
    /// The basis that the inverse uses, with the products of the eigenvalues of the factors.
    fn of(inverse: &EigenBasis, factors: &KroneckerFactors) -> Self {
        let activation = dense(inverse.activation_basis.as_ref().unwrap());
        let gradient = dense(&inverse.gradient_basis);
        let values = |factor: &Tensor<2>, basis: &Mat<f64>| {
            let rotated = basis.transpose() * dense(factor) * basis;
            let diagonal = Mat::from_fn(basis.ncols(), 1, |i, _| rotated[(i, i)]);
            let back = Mat::from_fn(basis.ncols(), basis.ncols(), |i, j| {
                if i == j { diagonal[(i, 0)] } else { 0.0 }
            });
            assert_close("an eigenbasis", &rotated, &back, ROUNDING);
            diagonal
        };
        let d_a = values(&factors.activation, &activation);
        let d_g = values(&factors.gradient, &gradient);
        Self {
            activation,
            gradient,
            eigenvalues: d_a * d_g.transpose(),
        }
    }

    fn rotate(&self, v: &Mat<f64>) -> Mat<f64> {
        self.activation.transpose() * v * &self.gradient
    }

    /// `S ← 0.95 S + 0.05 E[D̃ ⊙ D̃]`.
    fn correct(&mut self, gradients: &[&Mat<f64>], cases: usize) {
        let mut sum = Mat::zeros(self.eigenvalues.nrows(), self.eigenvalues.ncols());
        for gradient in gradients {
            let rotated = self.rotate(gradient);
            sum += Mat::from_fn(sum.nrows(), sum.ncols(), |i, j| rotated[(i, j)].powi(2));
        }
        let old = &self.eigenvalues;
        self.eigenvalues = Mat::from_fn(sum.nrows(), sum.ncols(), |i, j| {
            0.95 * old[(i, j)] + 0.05 * sum[(i, j)] / cases as f64
        });
    }

    fn solve(&self, v: &Mat<f64>) -> Mat<f64> {
        let rotated = self.rotate(v);
        let divided = Mat::from_fn(rotated.nrows(), rotated.ncols(), |i, j| {
            rotated[(i, j)] / (self.eigenvalues[(i, j)] + LAMBDA)
        });
        &self.activation * divided * self.gradient.transpose()
    }
}

fn bases(kfac: &Preconditioner<Gaussian>) -> Vec<Basis> {
    let blocks = kfac.inverse().unwrap().blocks().iter();
    blocks
        .zip(kfac.factors().kronecker())
        .map(|(block, factors)| {
            Basis::of(
                &block.downcast::<EigenInverse>().unwrap().bases()[0],
                factors,
            )
        })
        .collect()
}

#[test]
fn ekfac_follows_its_definition_through_several_calls() {
    let mut model = SPEC.model(1);
    let mut kfac = preconditioner(&ekfac().map_curvature(|c| c.with_inverse_period(4)), &model);
    let mut sgd: ModuleOptimizer = SgdConfig::new().init();
    let mut oracle: Vec<Basis> = Vec::new();
    for call in 1..=7 {
        let batch = batch(call);
        kfac.observe(&model, &batch).unwrap();
        if call % 4 == 1 {
            oracle = bases(&kfac);
        } else {
            let by_case = case_gradients(&model, &batch);
            for (layer, basis) in oracle.iter_mut().enumerate() {
                let of_layer: Vec<_> = by_case.iter().map(|layers| &layers[layer]).collect();
                basis.correct(&of_layer, batch.len());
            }
        }
        let plain = gradients(&model, &batch);
        let layers = model.layers.iter().zip(&oracle);
        let expected: Vec<_> = layers
            .map(|(layer, basis)| basis.solve(&matrix(layer, &plain)))
            .collect();
        let found = kfac.precondition(&model, plain, 1.0).unwrap().gradients;
        for (index, layer) in model.layers.iter().enumerate() {
            let what = format!("call {call}, layer {index}");
            assert_close(&what, &matrix(layer, &found), &expected[index], ROUNDING);
        }
        model = sgd.step(0.1, model, found);
    }
}

#[test]
fn the_statistics_are_the_running_average_of_the_calls() {
    // Until the cap the average is the plain mean: that of one batch made of all.
    let model = SPEC.model(1);
    let batches = [1, 2, 3].map(batch);
    let mut calls = preconditioner(
        &config().map_curvature(|c| c.with_inverse_period(100)),
        &model,
    );
    for batch in &batches {
        calls.observe(&model, batch).unwrap();
    }
    let mut whole = preconditioner(&config(), &model);
    let inputs = Tensor::cat(batches.iter().map(|b| b.inputs.clone()).collect(), 0);
    let targets = Tensor::cat(batches.iter().map(|b| b.targets.clone()).collect(), 0);
    whole.observe(&model, &Batch::new(inputs, targets)).unwrap();
    let pairs = calls.factors().kronecker().into_iter();
    for (calls, whole) in pairs.zip(whole.factors().kronecker()) {
        let close = |what: &str, x: &Tensor<2>, y: &Tensor<2>| {
            assert_close(what, &dense(x), &dense(y), ROUNDING);
        };
        close("Ā", &calls.activation, &whole.activation);
        close("G", &calls.gradient, &whole.gradient);
    }
}

#[test]
fn the_kl_clip_bounds_the_squared_fisher_norm() {
    let model = SPEC.model(1);
    let of = |kappa: Option<f64>| {
        let config = config().with_kl_clip(kappa);
        let mut kfac = preconditioner(&config, &model);
        kfac.observe(&model, &batch(1)).unwrap();
        let found = kfac.precondition(&model, gradients(&model, &batch(2)), 1.0);
        let found = found.unwrap().gradients;
        let layers = model.layers.iter();
        layers
            .map(|layer| matrix(layer, &found))
            .collect::<Vec<_>>()
    };
    let plain = gradients(&model, &batch(2));
    let squared_norm = |preconditioned: &[Mat<f64>]| -> f64 {
        let layers = model.layers.iter().zip(preconditioned);
        let products = layers.map(|(layer, d)| {
            let g = matrix(layer, &plain);
            (kronecker::vec_of_rows(d).transpose() * kronecker::vec_of_rows(&g))[(0, 0)]
        });
        products.sum()
    };
    let free = of(None);
    let norm = squared_norm(&free);
    let kappa = norm / 4.0;
    let bound = of(Some(kappa));
    for (free, bound) in free.iter().zip(&bound) {
        assert_close("half of it", &(free * faer::Scale(0.5)), bound, ROUNDING);
    }
    // ν Dᵀ g, and so ν² Dᵀ g is κ.
    assert_near("ν² Dᵀ g", 0.5 * squared_norm(&bound), kappa, ROUNDING);
    assert_eq!(of(Some(1.01 * norm)), free, "within the bound");
}

#[test]
fn the_kl_clip_is_in_proportion_to_the_cases_of_the_batch() {
    let model = SPEC.model(1);
    // A batch in two parts, cut at a case.
    let whole = batch(1).len();
    let nu = |cases: Option<usize>, cut: usize| {
        let config = config().with_kl_clip(Some(1e-6)).with_kl_clip_cases(cases);
        let mut kfac = preconditioner(&config, &model);
        for part in [0..cut, cut..whole] {
            kfac.accumulate(&model, &batch(1).slice(part)).unwrap();
        }
        kfac.observe_accumulated().unwrap();
        let step = kfac.precondition(&model, gradients(&model, &batch(2)), 1.0);
        step.unwrap().report.nu
    };
    let same = nu(None, 4);
    assert_near("its own size", nu(Some(whole), 4), same, ROUNDING);
    let quarter = nu(Some(4 * whole), 4);
    assert_near("a quarter", quarter, 0.5 * same, ROUNDING);
    let cut = nu(Some(4 * whole), 2);
    assert_near("cut elsewhere", cut, 0.5 * same, ROUNDING);
}

/// A task whose inputs differ in scale by a factor of thirty.
struct Classification {
    batches: Vec<Batch<Tensor<2>>>,
    all: Batch<Tensor<2>>,
}

const CLASSIFIER: Spec<'static> = Spec::new(&[6, 8, 3], Activation::Tanh);
const ITERATIONS: usize = 120;
/// The losses are 0.02 to 0.12, that of SGD alone at the best of its rates 0.36.
const ADVANTAGE: f64 = 0.5;

impl Classification {
    fn new() -> Self {
        let cases = 128;
        let teacher = CLASSIFIER.model(8);
        let x = normal([cases, 6], 1);
        let outputs = teacher.forward(x.clone(), &mut Tape::off()).inner() * 3.0;
        let classes: Tensor<1, Int> = outputs.argmax(1).squeeze_dim(1);
        let targets: Tensor<2> = classes.one_hot::<2>(3).float().cast(DType::F64);
        let scales = Mat::from_fn(1, 6, |_, j| 3.0 * 0.5f64.powf(j as f64));
        let all = Batch::new(x * support::tensor(&scales), targets);
        let batches = (0..4).map(|i| all.slice(32 * i..32 * (i + 1)));
        Self {
            batches: batches.collect(),
            all,
        }
    }

    fn loss(model: &Mlp, batch: &Batch<Tensor<2>>) -> Tensor<1> {
        let outputs = model.forward(batch.inputs.clone(), &mut Tape::off());
        let log_probabilities = log_softmax(outputs, 1);
        (log_probabilities * batch.targets.clone().autodiff()).sum() / -(batch.len() as f64)
    }

    /// The loss after training, with or without K-FAC in front.
    fn trained(&self, rate: f64, config: Option<&PreconditionerConfig>) -> f64 {
        let mut model = CLASSIFIER.model(3);
        let mut sgd: ModuleOptimizer = SgdConfig::new().init();
        let inputs = &self.all.inputs;
        let mut kfac = config.map(|config| config.init(&model, Categorical, inputs).unwrap());
        for batch in self.batches.iter().cycle().take(ITERATIONS) {
            let gradients = Self::loss(&model, batch).backward();
            let mut gradients = GradientsParams::from_grads(gradients, &model);
            if let Some(kfac) = &mut kfac {
                kfac.observe(&model, batch).unwrap();
                gradients = kfac.precondition(&model, gradients, 1.0).unwrap().gradients;
            }
            model = sgd.step(rate, model, gradients);
        }
        host::sum(Self::loss(&model, &self.all).inner())
    }
}

#[test]
fn sgd_behind_it_trains_faster_than_sgd_alone() {
    let task = Classification::new();
    let alone = [0.03, 0.1, 0.3, 1.0, 3.0].map(|rate| task.trained(rate, None));
    let best = alone.into_iter().fold(f64::INFINITY, f64::min);
    // The whole set is four batches: nothing is noise that the default clip would have to keep small.
    let free = || PreconditionerConfig::new().with_kl_clip(None);
    for config in [
        free(),
        free().with_kl_clip(Some(1.0)),
        free().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal)),
        free().map_curvature(|c| {
            c.with_damping(DampingScheme::ExactTikhonov)
                .with_eigenvalues(Eigenvalues::PerCase)
                .with_inverse_period(20)
        }),
    ] {
        let loss = task.trained(0.1, Some(&config));
        assert!(
            loss < ADVANTAGE * best,
            "{loss} with {config:?}, {best} alone"
        );
    }
}
