//! The block-tridiagonal inverse from the public estimator.

use std::sync::Arc;

use burn::{module::Module, nn::Linear, tensor::Tensor};
use faer::{Mat, linalg::solvers::DenseSolveCore};
use kfac::{
    Batch, Extensions, FisherEstimate, Gaussian, InverseMethod, InverseStructure, Layers, Network,
    ParameterVector, PiNorm, RandomStream, Tape,
    blocks::{Blocks, FactorSet, Full},
    curvature::{FisherApproximation, FisherEstimator, FisherInverse},
    damping::FactoredTikhonov,
};

use crate::support::{
    assert_close, column, dense, dense_layer, exact_config, normal, own_blocks, shapes,
    tensor_bits, trained, units,
};

const RULE: FactoredTikhonov = FactoredTikhonov { pi: PiNorm::Trace };
const GAMMA: f64 = 0.6;

/// Inverses of factors of condition up to a thousand, multiplied with each other.
const INVERSES: f64 = 1e-9;

#[derive(Module, Debug)]
struct Deep {
    layers: Vec<Linear>,
}

impl Deep {
    fn new() -> Self {
        let widths = [3, 4, 3, 2];
        let pairs = widths.windows(2).enumerate();
        let layer = |(i, pair): (usize, &[usize])| dense_layer([pair[0], pair[1]], i as u64 + 1);
        Self {
            layers: pairs.map(layer).collect(),
        }
    }
}

impl Network for Deep {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let layers = self.layers.iter();
        layers.fold(inputs, |x, layer| tape.linear(layer, x).tanh())
    }
}

fn batch() -> Batch<Tensor<2>> {
    Batch::new(normal([12, 3], 5), normal([12, 2], 6))
}

fn factors(model: &Deep, blocks: &Blocks, structure: InverseStructure) -> FactorSet {
    let estimator = FisherEstimator::new(blocks, &Gaussian)
        .with_estimate(FisherEstimate::Exact)
        .with_structure(structure);
    let random = &mut RandomStream::from_seed(1);
    estimator.factors(model, &batch(), random).unwrap()
}

/// The dense matrix of a linear map of parameter vectors.
fn matrix_of(layers: &Layers, map: impl Fn(&ParameterVector) -> ParameterVector) -> Mat<f64> {
    let shapes = shapes(layers);
    let zeros = || -> Vec<Tensor<2>> {
        let zeros = shapes.iter().map(|shape| normal(*shape, 0).zeros_like());
        zeros.collect()
    };
    let mut columns = Vec::new();
    for (layer, shape) in shapes.iter().enumerate() {
        for unit in units(*shape) {
            let mut v = zeros();
            v[layer] = unit;
            columns.push(column(&map(&ParameterVector::new(v))));
        }
    }
    Mat::from_fn(columns.len(), columns.len(), |i, j| columns[j][(i, 0)])
}

/// Where each layer's parameters begin, and the end.
fn starts(layers: &Layers) -> Vec<usize> {
    let mut starts = vec![0];
    for [rows, columns] in shapes(layers) {
        starts.push(starts[starts.len() - 1] + rows * columns);
    }
    starts
}

fn kronecker(a: &Mat<f64>, g: &Mat<f64>) -> Mat<f64> {
    let (rows, columns) = (g.nrows(), g.ncols());
    Mat::from_fn(a.nrows() * rows, a.ncols() * columns, |i, j| {
        a[(i / rows, j / columns)] * g[(i % rows, j % columns)]
    })
}

/// Fails where `F̂⁻¹` is not what defines it: block-tridiagonal, and the inverse of a matrix that agrees
/// with the damped Kronecker products on the block tridiagonal.
fn assert_is_the_inverse(inverse: &Mat<f64>, layers: &Layers, damped: &FactorSet) {
    let starts = starts(layers);
    let fisher = inverse.partial_piv_lu().inverse();
    let block = |matrix: &Mat<f64>, i: usize, j: usize| {
        let (rows, columns) = (starts[i + 1] - starts[i], starts[j + 1] - starts[j]);
        matrix
            .submatrix(starts[i], starts[j], rows, columns)
            .to_owned()
    };
    let zero = block(inverse, 0, 2);
    assert!(zero.norm_max() < INVERSES * inverse.norm_max());
    let corner = block(&fisher, 0, 2).norm_max();
    assert!(
        corner > 1e-3 * fisher.norm_max(),
        "the layers are hardly linked"
    );
    let own = damped.kronecker();
    for (layer, factors) in own.iter().enumerate() {
        let expected = kronecker(&dense(&factors.activation), &dense(&factors.gradient));
        let what = format!("layer {layer}");
        assert_close(&what, &block(&fisher, layer, layer), &expected, INVERSES);
    }
    for layer in 0..2 {
        let cross = damped.links[layer].as_ref().unwrap();
        let expected = kronecker(&dense(&cross.activation), &dense(&cross.gradient));
        let what = format!("layers {layer} and {}", layer + 1);
        assert_close(
            &what,
            &block(&fisher, layer, layer + 1),
            &expected,
            INVERSES,
        );
    }
}

#[test]
fn linked_factors_have_the_inverse_that_is_defined_by_them() {
    let model = Deep::new();
    let blocks = own_blocks(&model, &batch().inputs);
    let layers = blocks.layers();
    let factors = factors(&model, &blocks, InverseStructure::BlockTridiagonal);
    let links: Vec<bool> = factors.links.iter().map(Option::is_some).collect();
    assert_eq!(links, [true, true, false]);
    let inverse = factors
        .damped_inverse(layers, Arc::new(RULE), InverseMethod::Automatic, GAMMA)
        .unwrap();
    let inverse = matrix_of(layers, |v| inverse.multiply(v));
    let damped = factors.damped(&RULE, GAMMA).unwrap();
    assert_is_the_inverse(&inverse, layers, &damped);
    let approximation = FisherApproximation::new(damped).unwrap();
    let product = matrix_of(layers, |v| approximation.multiply(v)) * inverse;
    let identity = Mat::identity(product.nrows(), product.ncols());
    assert_close("F̂ F̂⁻¹", &product, &identity, INVERSES);
}

#[test]
fn the_block_diagonal_structure_has_no_links() {
    let model = Deep::new();
    let blocks = own_blocks(&model, &batch().inputs);
    let factors = factors(&model, &blocks, InverseStructure::BlockDiagonal);
    assert!(factors.links.iter().all(Option::is_none));
    let inverse = factors
        .damped_inverse(
            blocks.layers(),
            Arc::new(RULE),
            InverseMethod::Automatic,
            GAMMA,
        )
        .unwrap();
    assert!(inverse.links().iter().all(Option::is_none));
    let inverse = matrix_of(blocks.layers(), |v| inverse.multiply(v));
    let damped = factors.damped(&RULE, GAMMA).unwrap();
    let approximation = FisherApproximation::new(damped).unwrap();
    let product = matrix_of(blocks.layers(), |v| approximation.multiply(v)) * inverse;
    let identity = Mat::identity(product.nrows(), product.ncols());
    assert_close("F̌ F̌⁻¹", &product, &identity, INVERSES);
}

fn product_bits(inverse: &FisherInverse, layers: &Layers) -> Vec<u64> {
    let shapes = shapes(layers).into_iter().zip(20..);
    let v = shapes.map(|(shape, seed)| normal(shape, seed)).collect();
    let product = inverse.multiply(&ParameterVector::new(v));
    let blocks = product.blocks().iter();
    blocks.flat_map(tensor_bits).collect()
}

#[test]
fn the_inverse_of_an_optimizers_factors_is_the_optimizers() {
    let config = exact_config()
        .map_curvature(|curvature| curvature.with_structure(InverseStructure::BlockTridiagonal));
    let model = Deep::new();
    let optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    let (optimizer, _, reports) = trained(optimizer, model, &batch(), 1);
    let layers = optimizer.layers();
    let gamma = reports[0].gamma;
    let again = optimizer
        .factors()
        .damped_inverse(layers, Arc::new(RULE), InverseMethod::Automatic, gamma)
        .unwrap();
    let expected = product_bits(optimizer.inverse().unwrap(), layers);
    assert_eq!(product_bits(&again, layers), expected);
}

#[test]
fn a_layer_of_a_chain_with_another_structure_stands_alone() {
    let extensions = Extensions::new().with_structure("layers.1", Arc::new(Full));
    let config = exact_config()
        .map_curvature(|curvature| curvature.with_structure(InverseStructure::BlockTridiagonal));
    let model = Deep::new();
    let optimizer = config
        .init_with(extensions, &model, Gaussian, &batch().inputs)
        .unwrap();
    let (optimizer, _, reports) = trained(optimizer, model, &batch(), 1);
    let layers = optimizer.layers();
    let inverse = optimizer.inverse().unwrap();
    assert!(inverse.links().iter().all(Option::is_none));
    let inverse = matrix_of(layers, |v| inverse.multiply(v));
    let damped = optimizer.factors().damped(&RULE, reports[0].gamma).unwrap();
    let approximation = FisherApproximation::new(damped).unwrap();
    let product = matrix_of(layers, |v| approximation.multiply(v)) * inverse;
    let identity = Mat::identity(product.nrows(), product.ncols());
    assert_close("F̂ F̂⁻¹", &product, &identity, INVERSES);
}
