//! K-FAC equals the exact Fisher where theory says so, and one step equals its dense formulas.
#![cfg(test)]

mod common;

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Device, Tensor, TensorData},
};
use common::{dense, deviation, matrix, values};
use faer::{Mat, Side, prelude::Solve};
use kfac::{
    Batch, Bernoulli, Categorical, CoveragePolicy, DampingScheme, FisherEstimate, Gaussian,
    InverseMethod, Kfac, KfacConfig, Momentum, Network, PredictiveDistribution, StepReport, Tape,
    curvature::exact, linalg::kronecker,
};

/// Sums of a few hundred products of order one in `f64`.
const ROUNDING: f64 = 1e-11;

/// Central differences of outputs of order one in `f64`, squared in the model.
const DIFFERENCES: f64 = 1e-7;

/// A fully connected network with one nonlinearity for all hidden layers.
#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
    linear: bool,
}

impl Network for Mlp {
    type Input = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let last = self.layers.len() - 1;
        self.layers
            .iter()
            .enumerate()
            .fold(inputs, |a, (i, layer)| {
                let s = tape.linear(layer, a);
                if i == last || self.linear {
                    s
                } else {
                    s.tanh()
                }
            })
    }
}

/// A network of these widths.
fn network(widths: &[usize], linear: bool) -> Mlp {
    let device = Device::flex().autodiff();
    let tensor = |shape: [usize; 2], seed: f64| {
        let data = TensorData::new(values(shape[0] * shape[1], seed), shape);
        Tensor::<2>::from_data(data, (&device, DType::F64))
    };
    let layer = |(i, w): (usize, &[usize])| Linear {
        weight: Param::from_tensor(tensor([w[0], w[1]], i as f64 + 0.3)),
        bias: Some(Param::from_tensor(
            tensor([1, w[1]], i as f64 + 7.7).flatten(0, 1),
        )),
    };
    Mlp {
        layers: widths.windows(2).enumerate().map(layer).collect(),
        linear,
    }
}

fn config() -> KfacConfig {
    KfacConfig::new()
        .with_statistics_fraction(1.0)
        .with_model_fraction(1.0)
        .with_fisher(FisherEstimate::Exact)
        .with_initial_lambda(0.5)
        .with_l2(1e-2)
        .with_coverage(CoveragePolicy::Strict)
}

fn batch(cases: usize, d_in: usize, d_out: usize) -> Batch<Tensor<2>> {
    Batch::new(matrix(cases, d_in, 1.0), matrix(cases, d_out, 2.0).abs())
}

fn start<L: PredictiveDistribution>(
    config: &KfacConfig,
    model: &Mlp,
    loss: L,
    batch: &Batch<Tensor<2>>,
) -> Kfac<L> {
    config.init(model, loss, &batch.inputs).unwrap()
}

/// Compares every block of the approximation with that of the exact Fisher matrix.
fn assert_blocks_exact<L: PredictiveDistribution>(model: &Mlp, loss: L, cases: usize) {
    let batch = batch(cases, 3, 2);
    let mut optimizer = start(&config(), model, loss.clone(), &batch);
    let fisher = exact::fisher(model, optimizer.layers(), &loss, &batch);
    optimizer.step(&mut model.clone(), &batch).unwrap();
    let mut offset = 0;
    for factors in optimizer.factors() {
        let block = kronecker::product(&dense(&factors.activation), &dense(&factors.gradient));
        let n = block.nrows();
        let expected = fisher.submatrix(offset, offset, n, n).to_owned();
        assert!(
            deviation(&block, &expected) < ROUNDING,
            "{loss:?}, block at {offset}"
        );
        offset += n;
    }
    assert_eq!(offset, fisher.nrows());
}

#[test]
fn one_case_is_exact_for_any_network_and_loss() {
    let model = network(&[3, 4, 2], false);
    assert_blocks_exact(&model, Bernoulli, 1);
    assert_blocks_exact(&model, Categorical, 1);
    assert_blocks_exact(&model, Gaussian, 1);
}

#[test]
fn deep_linear_networks_with_squared_error_are_exact_for_any_batch() {
    assert_blocks_exact(&network(&[3, 4, 3, 2], true), Gaussian, 7);
}

#[test]
fn sampled_targets_converge_to_the_exact_factors() {
    let model = network(&[3, 4, 2], false);
    let batch = batch(6, 3, 2);
    let factor = |optimizer: &Kfac<Bernoulli>| dense(&optimizer.factors()[0].gradient);
    let mut optimizer = start(&config(), &model, Bernoulli, &batch);
    optimizer.step(&mut model.clone(), &batch).unwrap();
    let expected = factor(&optimizer);
    let error = |samples: u64| {
        let mut mean = Mat::zeros(4, 4);
        for seed in 0..samples {
            let config = config()
                .with_fisher(FisherEstimate::MonteCarlo)
                .with_seed(seed);
            let mut optimizer = start(&config, &model, Bernoulli, &batch);
            optimizer.step(&mut model.clone(), &batch).unwrap();
            mean += factor(&optimizer);
        }
        deviation(&(mean * faer::Scale(1.0 / samples as f64)), &expected)
    };
    // One sample errs by about its own size over √6; 600 of them by 1/√600 = 4 % of that.
    assert!(error(600) < 0.06, "error {}", error(600));
}

/// `(Ā + πγI) ⊗ (G + γ/π I)` solved densely, layer by layer.
fn dense_proposal(
    optimizer: &Kfac<Bernoulli>,
    report: &StepReport,
    gradient: &[Mat<f64>],
) -> Vec<Mat<f64>> {
    let pi = report.pi.as_ref().unwrap();
    let layers = optimizer.factors().iter().zip(pi).zip(gradient);
    layers
        .map(|((factors, pi), gradient)| {
            let damped = |matrix: Mat<f64>, damping: f64| {
                let n = matrix.nrows();
                matrix + Mat::<f64>::identity(n, n) * faer::Scale(damping)
            };
            let a = damped(dense(&factors.activation), pi * report.gamma);
            let g = damped(dense(&factors.gradient), report.gamma / pi);
            let block = kronecker::product(&a, &g);
            let v = kronecker::vec_of_rows(gradient);
            block.llt(Side::Lower).unwrap().solve(&v) * faer::Scale(-1.0)
        })
        .collect()
}

fn stack(parts: &[Mat<f64>]) -> Mat<f64> {
    let values: Vec<f64> = parts
        .iter()
        .flat_map(|m| (0..m.nrows()).map(|i| m[(i, 0)]).collect::<Vec<_>>())
        .collect();
    Mat::from_fn(values.len(), 1, |i, _| values[i])
}

/// The gradient of the objective by central differences of [`Kfac::objective`].
fn difference_gradient(
    optimizer: &Kfac<Bernoulli>,
    model: &Mlp,
    batch: &Batch<Tensor<2>>,
) -> Vec<Mat<f64>> {
    let layers = optimizer.layers();
    let parameters = layers.parameters(model);
    let h = 1e-5;
    let blocks = parameters.blocks();
    let value = |block: usize, at: (usize, usize), shift: f64| {
        let mut moved = blocks.to_vec();
        let old: Tensor<2> = moved[block].clone().slice([at.0..at.0 + 1, at.1..at.1 + 1]);
        moved[block] = moved[block]
            .clone()
            .slice_assign([at.0..at.0 + 1, at.1..at.1 + 1], old + shift);
        let moved = layers.with_parameters(model.clone(), &kfac::ParameterVector::new(moved));
        optimizer.objective(&moved, batch).unwrap()
    };
    let gradient = |(i, block): (usize, &Tensor<2>)| {
        let [rows, columns] = block.dims();
        Mat::from_fn(rows, columns, |r, c| {
            (value(i, (r, c), h) - value(i, (r, c), -h)) / (2.0 * h)
        })
    };
    blocks.iter().enumerate().map(gradient).collect()
}

#[test]
fn a_step_equals_its_dense_formulas() {
    let model = network(&[3, 4, 2], false);
    let batch = batch(5, 3, 2);
    for method in [InverseMethod::Cholesky, InverseMethod::Eigen] {
        let mut optimizer = start(
            &config().with_inverse_method(method),
            &model,
            Bernoulli,
            &batch,
        );
        let gradient = difference_gradient(&optimizer, &model, &batch);
        let fisher = exact::fisher(&model, optimizer.layers(), &Bernoulli, &batch);
        let report = optimizer.step(&mut model.clone(), &batch).unwrap();
        let columns: Vec<_> = gradient.iter().map(kronecker::vec_of_rows).collect();
        let g = stack(&columns);
        assert!((g.norm_l2() - report.gradient_norm).abs() < DIFFERENCES);
        let proposal = stack(&dense_proposal(&optimizer, &report, &gradient));
        assert!(
            (proposal.norm_l2() - report.proposal_norm).abs() < DIFFERENCES,
            "{method:?}"
        );
        let quadratic = (proposal.transpose() * &fisher * &proposal)[(0, 0)]
            + (0.5 + 1e-2) * proposal.squared_norm_l2();
        let slope = (g.transpose() * &proposal)[(0, 0)];
        assert!((quadratic - report.quadratic.proposal_proposal).abs() < DIFFERENCES);
        assert!((report.alpha + slope / quadratic).abs() < DIFFERENCES);
        assert!(
            (report.quadratic.model_change + 0.5 * slope * slope / quadratic).abs() < DIFFERENCES
        );
        assert!(report.mu.is_none());
    }
}

/// Parameters after some steps with a configuration.
fn train(config: &KfacConfig, steps: usize) -> Mat<f64> {
    let mut model = network(&[3, 4, 2], false);
    let batch = batch(9, 3, 2);
    let mut optimizer = start(config, &model, Bernoulli, &batch);
    for _ in 0..steps {
        optimizer.step(&mut model, &batch).unwrap();
    }
    let parameters = optimizer.layers().parameters(&model);
    stack(
        &parameters
            .blocks()
            .iter()
            .map(|b| kronecker::vec_of_rows(&dense(b)))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn cholesky_and_eigen_paths_agree() {
    let with = |method| train(&config().with_inverse_method(method), 22);
    // 22 steps, a search for γ among them, multiply rounding by the condition of the 2 × 2 systems.
    assert!(deviation(&with(InverseMethod::Cholesky), &with(InverseMethod::Eigen)) < 1e-6);
}

#[test]
fn chunks_change_rounding_only() {
    let with = |chunk| {
        train(
            &config()
                .with_momentum(Momentum::None)
                .with_chunk_size(chunk),
            6,
        )
    };
    assert!(deviation(&with(2), &with(1000)) < 1e-8);
}

#[test]
fn exact_damping_is_a_dense_solve() {
    let model = network(&[3, 4, 2], false);
    let batch = batch(5, 3, 2);
    let config = config().with_damping(DampingScheme::ExactTikhonov);
    let mut optimizer = start(&config, &model, Bernoulli, &batch);
    let report = optimizer.step(&mut model.clone(), &batch).unwrap();
    let v = matrix(4, 4, 5.0);
    let factors = &optimizer.factors()[0];
    let block = kronecker::product(&dense(&factors.activation), &dense(&factors.gradient))
        + Mat::<f64>::identity(16, 16) * faer::Scale(report.gamma.powi(2));
    let expected = block
        .llt(Side::Lower)
        .unwrap()
        .solve(kronecker::vec_of_rows(&dense(&v)));
    let product = optimizer.inverse().unwrap().blocks()[0].multiply(v);
    assert!(deviation(&kronecker::vec_of_rows(&dense(&product)), &expected) < ROUNDING);
}

#[test]
fn the_tape_leaves_outputs_alone() {
    let model = network(&[3, 4, 2], false);
    let inputs = matrix(5, 3, 1.0);
    let taped = model.forward(inputs.clone(), &mut Tape::off()).into_data();
    assert_eq!(taped, model.forward(inputs, &mut Tape::off()).into_data());
}
