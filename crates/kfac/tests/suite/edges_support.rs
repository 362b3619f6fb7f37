//! What these tests share: small networks in double precision, dense matrices, comparisons.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    nn::Linear,
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use faer::Mat;
use kfac::{
    Batch, Cases, FisherEstimate, Kfac, KfacConfig, Layers, Likelihood, Loss, Network,
    ParameterVector, RandomStream, StepReport, Tape,
    blocks::{BlockOptions, Blocks, FactorSet},
    curvature::{FisherEstimator, exact},
};

/// Equal up to the rounding of a few hundred double precision products of order one.
pub(crate) const ROUNDING: f64 = 1e-12;

/// Standard normal numbers, without autodiff.
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
    let values = values(&normal(shape, seed)).into_iter();
    let values: Vec<i64> = values
        .map(|v| (v.abs() * 97.0 % count as f64) as i64)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

/// A random trainable parameter.
pub(crate) fn parameter<const D: usize>(
    shape: [usize; D],
    scale: f64,
    seed: u64,
) -> Param<Tensor<D>> {
    Param::from_tensor((normal(shape, seed) * scale).autodiff())
}

/// A random dense layer with a bias.
pub(crate) fn linear([d_in, d_out]: [usize; 2], seed: u64) -> Linear {
    Linear {
        weight: parameter([d_in, d_out], (d_in as f64).sqrt().recip(), 7 * seed + 1),
        bias: Some(parameter([d_out], 0.3, 7 * seed + 2)),
    }
}

/// The model with random parameters in double precision.
pub(crate) fn randomised<M: Module>(model: M, seed: u64) -> M {
    struct Randomise(RandomStream);
    impl ModuleMapper for Randomise {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|old| {
                let plain = old.inner().cast(DType::F64);
                let new = self.0.normal_like(&plain) * 0.5;
                new.autodiff().require_grad()
            })
        }
    }
    model.map(&mut Randomise(RandomStream::from_seed(seed)))
}

/// Two dense layers with a tanh between.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) hidden: Linear,
    pub(crate) last: Linear,
}

impl Mlp {
    pub(crate) fn new([d_in, hidden, d_out]: [usize; 3], seed: u64) -> Self {
        Self {
            hidden: linear([d_in, hidden], 2 * seed),
            last: linear([hidden, d_out], 2 * seed + 1),
        }
    }
}

impl Network for Mlp {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.hidden, inputs).tanh();
        tape.linear(&self.last, hidden)
    }
}

/// Whole-batch statistics and model with the exact Fisher: nothing is sampled.
pub(crate) fn exact_config() -> KfacConfig {
    KfacConfig::paper()
        .with_l2(0.01)
        .with_initial_lambda(0.5)
        .with_model_fraction(1.0)
        .map_curvature(|curvature| {
            curvature
                .with_statistics_fraction(1.0)
                .with_fisher(FisherEstimate::Exact)
        })
}

/// The same with sampled targets.
pub(crate) fn sampled_config() -> KfacConfig {
    exact_config().map_curvature(|curvature| curvature.with_fisher(FisherEstimate::MonteCarlo))
}

/// The model after some steps on one batch, their reports, and the optimizer.
pub(crate) fn trained<M, T, L>(
    mut optimizer: Kfac<L>,
    mut model: M,
    batch: &Batch<M::Input, T>,
    steps: usize,
) -> (Kfac<L>, M, Vec<StepReport>)
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T>,
{
    let step = |_| optimizer.step(&mut model, batch).unwrap();
    let reports = (0..steps).map(step).collect();
    (optimizer, model, reports)
}

/// The elements of a tensor, row by row.
pub(crate) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// The dense matrix of a tensor.
pub(crate) fn dense(tensor: &Tensor<2>) -> Mat<f64> {
    let [rows, columns] = tensor.dims();
    let values = values(tensor);
    Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
}

/// A parameter vector as a column, each layer's matrix read row by row.
pub(crate) fn column(vector: &ParameterVector) -> Mat<f64> {
    let values: Vec<f64> = vector.blocks().iter().flat_map(values).collect();
    Mat::from_fn(values.len(), 1, |i, _| values[i])
}

/// The bits of every float parameter.
pub(crate) fn bits<M: Module>(model: &M) -> Vec<u64> {
    struct Bits(Vec<u64>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = values(&param.val().inner());
            self.0.extend(values.into_iter().map(f64::to_bits));
        }
    }
    let mut visitor = Bits(Vec::new());
    model.visit(&mut visitor);
    visitor.0
}

/// The bits of a tensor's elements.
pub(crate) fn tensor_bits(tensor: &Tensor<2>) -> Vec<u64> {
    values(tensor).into_iter().map(f64::to_bits).collect()
}

/// A tensor of ones in a row of zeros: the unit matrices of a shape, read row by row.
pub(crate) fn units([rows, columns]: [usize; 2]) -> impl Iterator<Item = Tensor<2>> {
    (0..rows * columns).map(move |at| {
        let mut values = vec![0.0; rows * columns];
        values[at] = 1.0;
        let place = (&Device::default(), DType::F64);
        Tensor::from_data(TensorData::new(values, [rows, columns]), place)
    })
}

/// The dense matrix of a linear map of a layer's matrices.
pub(crate) fn matrix_of(shape: [usize; 2], map: impl Fn(Tensor<2>) -> Tensor<2>) -> Mat<f64> {
    let columns: Vec<Vec<f64>> = units(shape).map(|unit| values(&map(unit))).collect();
    Mat::from_fn(columns.len(), columns.len(), |i, j| columns[j][i])
}

/// The shape of each layer's matrix.
pub(crate) fn shapes(layers: &Layers) -> Vec<[usize; 2]> {
    let shape = |layer: &kfac::Layer| [layer.activation_dimension(), layer.d_out];
    layers.iter().map(shape).collect()
}

/// The dense block of each layer.
pub(crate) fn blocks_of(factors: &FactorSet, layers: &Layers) -> Vec<Mat<f64>> {
    let blocks = factors.blocks.iter().zip(shapes(layers));
    let block = blocks.map(|(block, shape)| matrix_of(shape, |v| block.multiply(v)));
    block.collect()
}

/// The exact Fisher matrix.
pub(crate) fn fisher<M: Network, L: Likelihood<M::Output>>(
    model: &M,
    layers: &Layers,
    loss: &L,
    inputs: &M::Input,
) -> Mat<f64> {
    let data = exact::fisher(model, layers, loss, inputs);
    let values: Vec<f64> = data.iter::<f64>().collect();
    let size = data.shape()[0];
    Mat::from_fn(size, size, |i, j| values[i * size + j])
}

/// The blocks on the diagonal of a matrix over all layers' parameters.
pub(crate) fn diagonal_blocks(matrix: &Mat<f64>, layers: &Layers) -> Vec<Mat<f64>> {
    let mut start = 0;
    let block = |[rows, columns]: [usize; 2]| {
        let (at, size) = (start, rows * columns);
        start += size;
        matrix.submatrix(at, at, size, size).to_owned()
    };
    shapes(layers).into_iter().map(block).collect()
}

/// The layers of a model with their own structures.
pub(crate) fn discover<M: Network>(model: &M, inputs: &M::Input) -> Blocks {
    Blocks::discover(model, inputs, &BlockOptions::default()).0
}

/// The blocks of a batch by the exact estimate.
pub(crate) fn exact_blocks<M, T, L>(
    blocks: &Blocks,
    loss: &L,
    model: &M,
    batch: &Batch<M::Input, T>,
) -> Vec<Mat<f64>>
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T>,
{
    let estimator = FisherEstimator::new(blocks, loss).with_estimate(FisherEstimate::Exact);
    let random = &mut RandomStream::from_seed(0);
    let factors = estimator.factors(model, batch, random).unwrap();
    blocks_of(&factors, blocks.layers())
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

/// The reports without what depends on the clock.
pub(crate) fn without_times(reports: &[StepReport]) -> Vec<StepReport> {
    let without = |report: &StepReport| {
        let mut report = report.clone();
        report.times = kfac::PhaseTimes::default();
        report
    };
    reports.iter().map(without).collect()
}
