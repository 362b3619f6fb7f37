//! What the suites share: a small network, random data, dense matrices, comparisons.

mod changed_loss;
mod convolution;
mod estimates;
pub(crate) mod exact;
mod faulty;
mod gradients;
pub(crate) mod host;
mod kinds;
pub(crate) mod kronecker;
mod layer_blocks;
mod network;
mod parameters;
pub(crate) mod preconditioning;
mod sequences;
mod setting;
mod small_networks;
mod training;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
pub(crate) use changed_loss::{Change, GaussianWith};
pub(crate) use convolution::{AxisShape, Convolution, ConvolutionNetwork, Padding};
pub(crate) use estimates::{Estimate, Estimates, assert_same_factors, by_position, pairs};
use faer::{Mat, linalg::solvers::Solve};
pub(crate) use faulty::{Fault, Faulty};
pub(crate) use gradients::{gradients, matrix, of_values};
use kfac::{
    Batch, Layers, MeanLoss, Network, ParameterTable, ParameterVector, PredictiveDistribution,
    RandomStream,
    blocks::{BlockOptions, Blocks},
};
pub(crate) use kinds::{FEATURES, Kind, KindLayer, KindNetwork};
pub(crate) use layer_blocks::{
    blocks_of, diagonal_blocks, exact_blocks, matrix_of, own_blocks, shape_of, shapes, units,
};
pub(crate) use network::{Activation, Mlp, Spec, linear};
pub(crate) use parameters::randomised;
pub(crate) use sequences::{
    Call, EncoderNetwork, SequenceNetwork, Sequences, TOKENS, WIDTH, class_targets, sequences,
};
pub(crate) use setting::{Setting, cases, settings};
pub(crate) use small_networks::{
    Normalised, SEVERAL_POSITIONS, SEVERAL_TOKENS, Several, TwoLayers, dense_layer, parameter,
};
pub(crate) use training::{exact_config, run, sampled_config, trained, without_times};

/// Equal up to the rounding of a few hundred double precision products of order one.
pub(crate) const ROUNDING: f64 = 1e-12;

/// Central differences of the objective: truncation `h²` and rounding `ε / h` both near 1e-11.
pub(crate) const DIFFERENCE: f64 = 1e-5;

/// The layers of a model, and what covers its parameters.
pub(crate) fn discover<M: Network>(model: &M, example: &M::Input) -> (Layers, ParameterTable) {
    let (blocks, table) = Blocks::discover(model, example, &BlockOptions::default());
    (blocks.layers().clone(), table)
}

/// The layers of a model.
pub(crate) fn layers_of<M: Network>(model: &M, example: &M::Input) -> Layers {
    discover(model, example).0
}

/// Standard normal numbers in double precision, without autodiff.
pub(crate) fn normal<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let like = Tensor::<D>::zeros(shape, (&Device::default(), DType::F64));
    RandomStream::from_seed(seed).normal_like(&like)
}

/// Whole numbers below `count` that look random.
pub(crate) fn classes<const D: usize>(
    shape: [usize; D],
    count: usize,
    seed: u64,
) -> Tensor<D, Int> {
    let values = host::to_vec(&normal(shape, seed)).into_iter();
    let values: Vec<i64> = values
        .map(|v| (v.abs() * 97.0 % count as f64) as i64)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

/// A double precision tensor of the given values.
pub(crate) fn tensor(matrix: &Mat<f64>) -> Tensor<2> {
    host::to_device(matrix, &Device::default(), DType::F64)
}

/// The dense matrix of a tensor.
pub(crate) fn dense(tensor: &Tensor<2>) -> Mat<f64> {
    host::to_host(tensor)
}

/// A parameter vector as a column, each layer's matrix read row by row.
pub(crate) fn column(vector: &ParameterVector) -> Mat<f64> {
    let values: Vec<f64> = vector.blocks().iter().flat_map(host::to_vec).collect();
    Mat::from_fn(values.len(), 1, |i, _| values[i])
}

/// The parameter vector of a column, shaped like another.
pub(crate) fn vector(column: &Mat<f64>, like: &ParameterVector) -> ParameterVector {
    let mut start = 0;
    let block = |block: &Tensor<2>| {
        let [rows, columns] = block.dims();
        let at = start;
        start += rows * columns;
        tensor(&Mat::from_fn(rows, columns, |i, j| {
            column[(at + i * columns + j, 0)]
        }))
    };
    ParameterVector::new(like.blocks().iter().map(block).collect())
}

/// A random parameter vector shaped like another.
pub(crate) fn random_vector(like: &ParameterVector, seed: u64) -> ParameterVector {
    let blocks = like.blocks().iter().enumerate();
    ParameterVector::new(
        blocks
            .map(|(i, b)| normal(b.dims(), seed * 31 + i as u64))
            .collect(),
    )
}

/// `xᵀ y` of two columns.
pub(crate) fn inner(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
    (x.transpose() * y)[(0, 0)]
}

/// `M + damping I`.
pub(crate) fn damped(matrix: &Mat<f64>, damping: f64) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        matrix[(i, j)] + if i == j { damping } else { 0.0 }
    })
}

/// `M⁻¹ b`.
pub(crate) fn solve(matrix: &Mat<f64>, right: &Mat<f64>) -> Mat<f64> {
    matrix.partial_piv_lu().solve(right)
}

/// The mean of the outer products of the rows.
pub(crate) fn mean_outer(rows: &Mat<f64>) -> Mat<f64> {
    rows.transpose() * rows * faer::Scale(1.0 / rows.nrows() as f64)
}

/// `‖actual − expected‖ / ‖expected‖`, the plain norm where nothing is expected.
pub(crate) fn relative(actual: &Mat<f64>, expected: &Mat<f64>) -> f64 {
    assert_eq!(
        (actual.nrows(), actual.ncols()),
        (expected.nrows(), expected.ncols())
    );
    let scale = expected.norm_l2();
    (actual - expected).norm_l2() / if scale > 0.0 { scale } else { 1.0 }
}

/// The largest difference of two elements relative to the largest expected element.
pub(crate) fn deviation(actual: &Mat<f64>, expected: &Mat<f64>) -> f64 {
    (actual - expected).norm_max() / expected.norm_max()
}

/// Fails where two matrices differ by more than a relative tolerance.
pub(crate) fn assert_close(what: &str, actual: &Mat<f64>, expected: &Mat<f64>, tolerance: f64) {
    let error = relative(actual, expected);
    assert!(
        error <= tolerance,
        "{what}: relative error {error:e}, allowed {tolerance:e}"
    );
}

/// Fails where two numbers differ by more than a relative tolerance.
pub(crate) fn assert_near(what: &str, actual: f64, expected: f64, tolerance: f64) {
    let error = (actual - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
    assert!(
        error <= tolerance,
        "{what}: {actual} is not {expected}, relative error {error:e}"
    );
}

/// The objective of some layers.
pub(crate) fn objective<'a, L>(layers: &'a Layers, loss: &'a L, l2: f64) -> MeanLoss<'a, L> {
    MeanLoss {
        layers,
        loss,
        l2,
        chunk_size: 5000,
    }
}

/// The gradient of an objective by central differences.
pub(crate) fn gradient_by_differences<M, L>(
    objective: &MeanLoss<'_, L>,
    model: &M,
    batch: &Batch<M::Input>,
) -> Mat<f64>
where
    M: Network<Output = Tensor<2>>,
    L: PredictiveDistribution + Clone,
{
    let theta = objective.layers.parameters(model);
    let x = column(&theta);
    let value = |i: usize, h: f64| {
        let moved = Mat::from_fn(x.nrows(), 1, |j, _| {
            x[(j, 0)] + if i == j { h } else { 0.0 }
        });
        let moved = vector(&moved, &theta);
        let model = objective.layers.with_parameters(model.clone(), &moved);
        objective.value(&model, &moved, batch).unwrap()
    };
    let h = DIFFERENCE;
    Mat::from_fn(x.nrows(), 1, |i, _| {
        (value(i, h) - value(i, -h)) / (2.0 * h)
    })
}

/// The bits of every float parameter, whether a layer covers it or not.
pub(crate) fn bits<M: Module>(model: &M) -> Vec<u64> {
    struct Bits(Vec<u64>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values: Vec<f64> = host::to_vec(&param.val().inner());
            self.0.extend(values.into_iter().map(f64::to_bits));
        }
    }
    let mut visitor = Bits(Vec::new());
    model.visit(&mut visitor);
    visitor.0
}

/// The bits of a tensor's elements.
pub(crate) fn tensor_bits(tensor: &Tensor<2>) -> Vec<u64> {
    let values = host::to_vec(tensor).into_iter();
    values.map(f64::to_bits).collect()
}

/// All targets of `d` independent bits, one a row.
pub(crate) fn binary_targets(d: usize) -> Mat<f64> {
    Mat::from_fn(1 << d, d, |bits, j| ((bits >> j) & 1) as f64)
}

/// All targets that a class can have, one a row.
pub(crate) fn one_hot_targets(d: usize) -> Mat<f64> {
    Mat::from_fn(d, d, |class, j| f64::from(u8::from(class == j)))
}

/// One row of a matrix as a tensor.
pub(crate) fn row(matrix: &Mat<f64>, i: usize) -> Tensor<2> {
    tensor(&matrix.submatrix(i, 0, 1, matrix.ncols()).to_owned())
}
