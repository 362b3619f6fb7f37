//! The curvature pass: the gradients that a batch's Kronecker factors are made from (section 5).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::sums::Moments;
use crate::{
    capture::{CapturedPass, Layers, Tape},
    cases::Batch,
    loss::PredictiveDistribution,
    network::Network,
    random::RandomStream,
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

/// Makes the passes of single batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FisherEstimator<'a, L> {
    pub(crate) layers: &'a Layers,
    pub(crate) loss: &'a L,
    pub(crate) estimate: FisherEstimate,
    pub(crate) chunk_size: usize,
}

impl<L: PredictiveDistribution> FisherEstimator<'_, L> {
    /// Forward and backward passes over the batch, each handed to `take` as it is made.
    pub(crate) fn passes<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        random: &mut RandomStream,
        mut take: impl FnMut(CapturedPass, Moments),
    ) {
        // Parameters that need no gradient spare the backward pass half of its products.
        let model = model.clone().no_grad();
        for chunk in batch.chunks(self.chunk_size) {
            match self.estimate {
                FisherEstimate::MonteCarlo | FisherEstimate::Empirical => {
                    let seed = |outputs: &Tensor<2>| {
                        let targets = match self.estimate {
                            FisherEstimate::Empirical => chunk.targets.clone().inner(),
                            _ => self.loss.sample(outputs.clone(), random),
                        };
                        self.loss.output_gradient(outputs.clone(), targets)
                    };
                    let (_, pass) = self.pass(&model, &chunk, seed);
                    take(pass, Moments::Both);
                }
                FisherEstimate::Exact => self.exact_columns(&model, &chunk, &mut take),
            }
        }
    }

    fn exact_columns<M: Network>(
        &self,
        model: &M,
        chunk: &Batch<M::Input>,
        take: &mut impl FnMut(CapturedPass, Moments),
    ) {
        let mut column = 0;
        loop {
            // Burn's graph cannot be walked twice, so each column has a forward pass of its own.
            let seed = |outputs: &Tensor<2>| {
                let unit = outputs.zeros_like();
                let [n, _] = unit.dims();
                let unit = unit.slice_fill([0..n, column..column + 1], 1.0);
                self.loss.fisher_factor_product(outputs.clone(), unit)
            };
            let (d_out, pass) = self.pass(model, chunk, seed);
            let moments = if column == 0 {
                Moments::Both
            } else {
                Moments::GradientOnly
            };
            take(pass, moments);
            column += 1;
            if column >= d_out {
                return;
            }
        }
    }

    /// One forward and backward pass with the tape on; also returns the number of outputs.
    fn pass<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        seed: impl FnOnce(&Tensor<2>) -> Tensor<2>,
    ) -> (usize, CapturedPass) {
        let mut tape: Tape = self.layers.recording_tape();
        let outputs = model.forward(batch.inputs.clone(), &mut tape);
        let d_out = outputs.dims()[1];
        let seed = seed(&outputs.clone().inner());
        if !outputs.is_tracked() {
            return (d_out, Vec::new()); // no recorded layer reaches the outputs
        }
        let mut gradients = (outputs * seed.autodiff()).sum().backward();
        (d_out, tape.into_pass(&mut gradients))
    }
}
