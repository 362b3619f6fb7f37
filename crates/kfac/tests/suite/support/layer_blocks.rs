//! The blocks of layers as dense matrices.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;
use kfac::{
    Batch, Cases, FisherEstimate, Layer, Layers, Loss, Network, RandomStream,
    blocks::{BlockOptions, Blocks, FactorSet},
    curvature::FisherEstimator,
};

use super::host;

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
    let columns: Vec<Vec<f64>> = units(shape).map(|unit| host::to_vec(&map(unit))).collect();
    Mat::from_fn(columns.len(), columns.len(), |i, j| columns[j][i])
}

/// The shape of a layer's matrix.
pub(crate) fn shape_of(layer: &Layer) -> [usize; 2] {
    layer.matrix_shape()
}

/// The shape of each layer's matrix.
pub(crate) fn shapes(layers: &Layers) -> Vec<[usize; 2]> {
    layers.iter().map(shape_of).collect()
}

/// The dense block of each layer.
pub(crate) fn blocks_of(factors: &FactorSet, layers: &Layers) -> Vec<Mat<f64>> {
    let blocks = factors.blocks.iter().zip(shapes(layers));
    let block = blocks.map(|(block, shape)| matrix_of(shape, |v| block.multiply(v)));
    block.collect()
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
pub(crate) fn own_blocks<M: Network>(model: &M, inputs: &M::Input) -> Blocks {
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
