//! The curvature of single batches.

use super::{
    batch_sums::BatchSums, case_axis::check_case_axis, estimate::FisherEstimate, passes::Passes,
};
use crate::{
    blocks::{Blocks, FactorSet},
    capture::Network,
    error::StepError,
    inverse::{CorrectionSums, Eigenvalues, FisherInverse, InverseStructure},
    loss::Loss,
    network::{Batch, Cases, check_batch},
    random::RandomStream,
};

/// Estimates the curvature of a network on single batches.
///
/// # Example
///
/// ```
/// use burn::{nn::{Linear, LinearConfig}, module::Module, tensor::{Device, Distribution, Tensor}};
/// use kfac::{
///     Batch, FisherEstimate, Gaussian, Network, RandomStream, Tape,
///     blocks::{BlockOptions, Blocks},
///     curvature::FisherEstimator,
/// };
///
/// #[derive(Module, Debug)]
/// struct Model { layer: Linear }
///
/// impl Network for Model {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///
///     fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
///         tape.linear(&self.layer, inputs)
///     }
/// }
///
/// # fn main() -> Result<(), kfac::StepError> {
/// let device = Device::default().autodiff();
/// let model = Model { layer: LinearConfig::new(3, 2).init(&device) };
/// let inputs = Tensor::random([8, 3], Distribution::Default, &device.inner());
/// let batch = Batch::new(inputs.clone(), inputs.clone().slice_dim(1, 0..2));
///
/// let (blocks, table) = Blocks::discover(&model, &inputs, &BlockOptions::default());
/// let estimator = FisherEstimator::new(&blocks, &Gaussian).with_estimate(FisherEstimate::Exact);
/// let factors = estimator.factors(&model, &batch, &mut RandomStream::from_seed(1))?;
/// println!("{table}{:?}", factors.kronecker()[0].gradient.dims());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FisherEstimator<'a, L> {
    pub(super) blocks: &'a Blocks,
    pub(super) loss: &'a L,
    pub(super) estimate: FisherEstimate,
    pub(super) samples: usize,
    pub(super) structure: InverseStructure,
    pub(super) chunk_size: usize,
}

// Derived, these would ask the same of the loss, which is only borrowed.
impl<L> Clone for FisherEstimator<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for FisherEstimator<'_, L> {}

/// What [`FisherEstimator::corrected`] corrects.
#[derive(Clone, Copy, Debug)]
pub struct Correction<'a> {
    /// The inverse whose eigenbases are used.
    pub inverse: &'a FisherInverse,
    /// What the eigenvalues become.
    pub eigenvalues: Eigenvalues,
    /// What is added to them, `γ²`.
    pub damping: f64,
}

impl<'a, L> FisherEstimator<'a, L> {
    /// An estimator with one sampled target a case, for a block-diagonal inverse.
    pub fn new(blocks: &'a Blocks, loss: &'a L) -> Self {
        Self {
            blocks,
            loss,
            estimate: FisherEstimate::MonteCarlo,
            samples: 1,
            structure: InverseStructure::BlockDiagonal,
            chunk_size: 5000,
        }
    }

    /// Where the output gradients come from.
    #[must_use]
    pub fn with_estimate(self, estimate: FisherEstimate) -> Self {
        Self { estimate, ..self }
    }

    /// How many targets are sampled for each case, at least one; other estimates do not read it.
    #[must_use]
    pub fn with_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// The structure of the inverse that the factors are for: the block-tridiagonal one needs those
    /// between layers too.
    #[must_use]
    pub fn with_structure(self, structure: InverseStructure) -> Self {
        Self { structure, ..self }
    }

    /// At most this many cases are passed through at once.
    #[must_use]
    pub fn with_chunk_size(self, chunk_size: usize) -> Self {
        Self { chunk_size, ..self }
    }

    /// The factors of a batch.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed, a layer was not called, a factor is not finite, or
    /// the empirical estimate's targets do not go with the outputs.
    pub fn factors<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
        random: &mut RandomStream,
    ) -> Result<FactorSet, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let sums = BatchSums::new(self.blocks, self.structure);
        Ok(self.sums(sums, model, batch, random)?.0)
    }

    /// An inverse in the eigenbases of another one, with eigenvalues estimated from a batch. Blocks
    /// without an eigenbasis, and links between layers, stay as they are.
    ///
    /// # Errors
    ///
    /// As [`factors`](Self::factors).
    pub fn corrected<M: Network, T: Cases>(
        &self,
        correction: Correction<'_>,
        model: &M,
        batch: &Batch<M::Input, T>,
        random: &mut RandomStream,
    ) -> Result<FisherInverse, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let Correction {
            inverse,
            eigenvalues,
            damping,
        } = correction;
        let sums = BatchSums::new(self.blocks, InverseStructure::BlockDiagonal);
        let sums = sums.correcting(CorrectionSums::new(inverse, eigenvalues));
        let (_, corrected) = self.sums(sums, model, batch, random)?;
        let corrected = corrected.map(|sums| sums.corrected(batch.len(), 0.0, damping));
        Ok(corrected.unwrap_or_else(|| inverse.clone()))
    }

    fn sums<M: Network, T: Cases>(
        &self,
        mut sums: BatchSums,
        model: &M,
        batch: &Batch<M::Input, T>,
        random: &mut RandomStream,
    ) -> Result<(FactorSet, Option<CorrectionSums>), StepError>
    where
        L: Loss<M::Output, T>,
    {
        check_batch(batch)?;
        check_case_axis(self.blocks.layers(), model, &batch.inputs)?;
        let passes = Passes {
            blocks: self.blocks,
            loss: self.loss,
            estimate: self.estimate,
            samples: self.samples,
            chunk_size: self.chunk_size,
            given: Some(self.loss),
        };
        passes.over(model, batch, random, |pass, kind| {
            sums.accumulate(pass, kind);
        })?;
        sums.factors(batch.len(), None)
    }
}
