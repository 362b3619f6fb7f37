//! The factors of single batches, as dense matrices.

use std::sync::Arc;

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Batch, FactorKind, FisherEstimate, Layers, Network, PredictiveDistribution, RandomStream,
    ScaleShiftBlock, WeightSharing,
    blocks::{BlockEstimate, BlockOptions, Blocks},
    curvature::FisherEstimator,
};

use super::{assert_close, dense};

/// The estimates of all layers' blocks.
pub(crate) type Estimates = Vec<Arc<dyn BlockEstimate>>;

/// How the factors of a batch are estimated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) fisher: FisherEstimate,
    pub(crate) sharing: WeightSharing,
    pub(crate) scale_shift: ScaleShiftBlock,
    pub(crate) chunk_size: usize,
}

impl Estimate {
    pub(crate) const fn new(fisher: FisherEstimate, sharing: WeightSharing) -> Self {
        Self {
            fisher,
            sharing,
            scale_shift: ScaleShiftBlock::Diagonal,
            chunk_size: 1000,
        }
    }

    pub(crate) const fn in_chunks_of(self, chunk_size: usize) -> Self {
        Self { chunk_size, ..self }
    }

    pub(crate) const fn with_full_scale_shift(self) -> Self {
        Self {
            scale_shift: ScaleShiftBlock::Full,
            ..self
        }
    }

    /// Those without sampled targets, in either sharing and with either block of scales and shifts.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |fisher| {
            [WeightSharing::Expand, WeightSharing::Reduce].map(|sharing| Self::new(fisher, sharing))
        };
        let plain = [of(FisherEstimate::Empirical), of(FisherEstimate::Exact)].concat();
        plain
            .into_iter()
            .flat_map(|estimate| [estimate, estimate.with_full_scale_shift()])
    }

    /// The layers of a model with these options.
    pub(crate) fn layers<M: Network>(&self, model: &M, inputs: &M::Input) -> Layers {
        self.blocks(model, inputs).layers().clone()
    }

    /// The same with the structures of their blocks.
    pub(crate) fn blocks<M: Network>(&self, model: &M, inputs: &M::Input) -> Blocks {
        let options = BlockOptions::default()
            .with_sharing(self.sharing)
            .with_scale_shift(self.scale_shift);
        Blocks::discover(model, inputs, &options).0
    }

    /// The estimate of each layer.
    pub(crate) fn factors<M: Network<Output = Tensor<2>>, L: PredictiveDistribution>(
        &self,
        model: &M,
        loss: &L,
        batch: &Batch<M::Input>,
    ) -> Estimates {
        let blocks = self.blocks(model, &batch.inputs);
        let mut random = RandomStream::from_seed(1);
        let factors = self
            .estimator(&blocks, loss)
            .factors(model, batch, &mut random);
        factors.unwrap().blocks
    }

    /// The library's estimator with these settings.
    pub(crate) fn estimator<'a, L: PredictiveDistribution>(
        &self,
        blocks: &'a Blocks,
        loss: &'a L,
    ) -> FisherEstimator<'a, L> {
        FisherEstimator::new(blocks, loss)
            .with_estimate(self.fisher)
            .with_chunk_size(self.chunk_size)
    }
}

/// Input and output factor of each group; the diagonal of a diagonal factor as a column, and a block
/// that is no product next to an empty matrix.
pub(crate) fn pairs(estimate: &Arc<dyn BlockEstimate>) -> Vec<[Mat<f64>; 2]> {
    let of = |kind| {
        let factors = estimate.factors().into_iter();
        let of_kind = factors.filter(|factor| factor.kind == kind);
        of_kind.map(|factor| dense(factor.tensor)).collect()
    };
    let block: Vec<Mat<f64>> = of(FactorKind::Block);
    let inputs: Vec<Mat<f64>> = of(FactorKind::Activation);
    let products = inputs.into_iter().zip(of(FactorKind::Gradient));
    let blocks = block.into_iter().map(|block| [Mat::zeros(0, 0), block]);
    products.map(|(a, g)| [a, g]).chain(blocks).collect()
}

/// Fails where the factors of a layer differ by more than a relative tolerance.
pub(crate) fn assert_same_factors(
    what: &str,
    found: &[Arc<dyn BlockEstimate>],
    expected: &[Arc<dyn BlockEstimate>],
    tolerance: f64,
) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (layer, (found, expected)) in found.iter().zip(expected).enumerate() {
        let (found, expected) = (pairs(found), pairs(expected));
        assert_eq!(found.len(), expected.len(), "{what}, layer {layer}");
        for (group, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (i, factor) in ["Ā", "G"].into_iter().enumerate() {
                let what = format!("{what}, layer {layer}, group {group}, {factor}");
                assert_close(&what, &found[i], &expected[i], tolerance);
            }
        }
    }
}

/// `[n, channels · R] -> [n · R, channels]`, the channels first in each row.
pub(crate) fn by_position(rows: &Mat<f64>, channels: usize) -> Mat<f64> {
    let positions = rows.ncols() / channels;
    Mat::from_fn(rows.nrows() * positions, channels, |i, channel| {
        rows[(i / positions, channel * positions + i % positions)]
    })
}
