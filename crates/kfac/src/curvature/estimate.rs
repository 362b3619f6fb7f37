//! The curvature pass: the gradients that a batch's Kronecker factors are made from (section 5).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    correction::{CorrectionSums, Eigenvalues},
    moments::Moments,
    structure::{FisherInverse, InverseStructure},
    sums::Sums,
};
use crate::{
    capture::{CapturedPass, Layers, Tape},
    cases::{Batch, check_shapes},
    error::StepError,
    loss::PredictiveDistribution,
    network::Network,
    random::RandomStream,
    statistics::FactorSet,
};

/// Where the output gradients of the factors `G` come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FisherEstimate {
    /// One target a case, sampled from the model's predictive distribution: unbiased, one backward
    /// pass. The paper's choice.
    #[default]
    MonteCarlo,
    /// All columns of the factor `B` of the output Fisher `F_R = B Bᵀ`: no sampling noise, one
    /// forward and backward pass an output.
    Exact,
    /// The training targets. Not the Fisher: it vanishes where the fit is perfect, and the equality
    /// with the Gauss-Newton matrix is lost. For comparisons.
    Empirical,
}

/// Estimates the curvature of a network on single batches.
///
/// # Example
///
/// ```
/// use burn::{nn::{Linear, LinearConfig}, module::Module, tensor::{Device, Distribution, Tensor}};
/// use kfac::{
///     Batch, FisherEstimate, Gaussian, LayerOptions, Layers, Network, RandomStream, Tape,
///     curvature::FisherEstimator,
/// };
///
/// #[derive(Module, Debug)]
/// struct Model { layer: Linear }
///
/// impl Network for Model {
///     type Input = Tensor<2>;
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
/// let (layers, table) = Layers::discover(&model, &inputs, &LayerOptions::default());
/// let estimator = FisherEstimator {
///     layers: &layers,
///     loss: &Gaussian,
///     estimate: FisherEstimate::Exact,
///     chunk_size: 1000,
/// };
/// let factors = estimator.factors(&model, &batch, &mut RandomStream::from_seed(1))?;
/// println!("{table}{:?}", factors.layers[0].kronecker().map(|layer| layer.gradient.dims()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FisherEstimator<'a, L> {
    /// The layers.
    pub layers: &'a Layers,
    /// The loss.
    pub loss: &'a L,
    /// Where the output gradients come from.
    pub estimate: FisherEstimate,
    /// At most this many cases are passed through at once.
    pub chunk_size: usize,
}

impl<L: PredictiveDistribution> FisherEstimator<'_, L> {
    /// The factors of a batch.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a layer was not called, a factor is not finite, or the empirical estimate's
    /// targets do not have the shape of the outputs.
    pub fn factors<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        random: &mut RandomStream,
    ) -> Result<FactorSet, StepError> {
        let mut sums = Sums::new(self.layers, InverseStructure::BlockDiagonal, self.estimate);
        self.passes(model, batch, random, |pass, moments| {
            sums.accumulate(pass, moments);
        })?;
        Ok(sums.factors(batch.len())?.0)
    }

    /// An inverse in the eigenbases of another one, with eigenvalues estimated from a batch, damped by
    /// `γ² I`. Blocks without an eigenbasis stay as they are.
    ///
    /// # Errors
    ///
    /// As [`factors`](Self::factors).
    pub fn corrected<M: Network>(
        &self,
        inverse: &FisherInverse,
        (model, batch): (&M, &Batch<M::Input>),
        (eigenvalues, gamma): (Eigenvalues, f64),
        random: &mut RandomStream,
    ) -> Result<FisherInverse, StepError> {
        let correction = CorrectionSums::new(inverse, eigenvalues);
        let sums = Sums::new(self.layers, InverseStructure::BlockDiagonal, self.estimate);
        let mut sums = sums.correcting(correction);
        self.passes(model, batch, random, |pass, moments| {
            sums.accumulate(pass, moments);
        })?;
        let (_, correction) = sums.factors(batch.len())?;
        let weights = (0.0, gamma);
        let corrected = correction.map(|sums| sums.corrected(batch.len(), weights));
        Ok(corrected.unwrap_or_else(|| inverse.clone()))
    }

    /// Forward and backward passes over the batch, each handed to `take` as it is made.
    ///
    /// # Errors
    ///
    /// [`StepError::OutputShape`] where the empirical estimate's targets do not have the shape of the
    /// outputs; no other estimate reads them.
    pub(crate) fn passes<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        random: &mut RandomStream,
        mut take: impl FnMut(CapturedPass, Moments),
    ) -> Result<(), StepError> {
        // Parameters that need no gradient spare the backward pass half of its products.
        let model = model.clone().no_grad();
        for chunk in batch.chunks(self.cases_at_once()) {
            match self.estimate {
                FisherEstimate::MonteCarlo | FisherEstimate::Empirical => {
                    let seed = |outputs: &Tensor<2>| {
                        let targets = match self.estimate {
                            FisherEstimate::Empirical => chunk.targets.clone().inner(),
                            _ => self.loss.sample(outputs.clone(), random),
                        };
                        check_shapes(outputs, &targets)?;
                        Ok(self.loss.output_gradient(outputs.clone(), targets))
                    };
                    let (_, pass) = self.pass(&model, &chunk, seed)?;
                    take(pass, Moments::Both);
                }
                FisherEstimate::Exact => self.exact_columns(&model, &chunk, &mut take)?,
            }
        }
        Ok(())
    }

    /// A parameter on its own shows its gradient only summed over cases; the square of a sum is the sum
    /// of squares, in the mean, for sampled targets only.
    fn cases_at_once(&self) -> usize {
        match self.estimate {
            FisherEstimate::MonteCarlo => self.chunk_size,
            FisherEstimate::Exact | FisherEstimate::Empirical => {
                if self.layers.has_parameters_alone() {
                    1
                } else {
                    self.chunk_size
                }
            }
        }
    }

    fn exact_columns<M: Network>(
        &self,
        model: &M,
        chunk: &Batch<M::Input>,
        take: &mut impl FnMut(CapturedPass, Moments),
    ) -> Result<(), StepError> {
        let mut column = 0;
        loop {
            // Burn's graph cannot be walked twice, so each column has a forward pass of its own.
            let seed = |outputs: &Tensor<2>| {
                let unit = outputs.zeros_like();
                let [n, _] = unit.dims();
                let unit = unit.slice_fill([0..n, column..column + 1], 1.0);
                Ok(self.loss.fisher_factor_product(outputs.clone(), unit))
            };
            let (d_out, pass) = self.pass(model, chunk, seed)?;
            let moments = if column == 0 {
                Moments::Both
            } else {
                Moments::GradientOnly
            };
            take(pass, moments);
            column += 1;
            if column >= d_out {
                return Ok(());
            }
        }
    }

    /// One forward and backward pass with the tape on; also returns the number of outputs.
    fn pass<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        seed: impl FnOnce(&Tensor<2>) -> Result<Tensor<2>, StepError>,
    ) -> Result<(usize, CapturedPass), StepError> {
        let mut tape: Tape = self.layers.recording_tape();
        let outputs = model.forward(batch.inputs.clone(), &mut tape);
        let d_out = outputs.dims()[1];
        let seed = seed(&outputs.clone().inner())?;
        let size = (self.layers.len(), batch.len());
        if !outputs.is_tracked() {
            // No recorded layer reaches the outputs.
            return Ok((d_out, CapturedPass::empty(size.0, size.1)));
        }
        let mut gradients = (outputs * seed.autodiff()).sum().backward();
        Ok((d_out, tape.into_pass(&mut gradients, size)))
    }
}
