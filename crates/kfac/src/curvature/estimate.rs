//! The curvature pass: one batch's Kronecker factors (section 5).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    capture::{CapturedPass, LayerCapture, Layers, Tape},
    cases::Batch,
    error::{Quantity, StepError},
    loss::PredictiveDistribution,
    network::Network,
    random::RandomStream,
    statistics::{KroneckerFactors, second_moment},
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

/// Computes the factors of single batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FisherEstimator<'a, L> {
    pub(crate) layers: &'a Layers,
    pub(crate) loss: &'a L,
    pub(crate) estimate: FisherEstimate,
    pub(crate) chunk_size: usize,
}

impl<L: PredictiveDistribution> FisherEstimator<'_, L> {
    /// The factors of every layer, from forward and backward passes over the batch.
    pub(crate) fn factors<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        random: &mut RandomStream,
    ) -> Result<Vec<KroneckerFactors>, StepError> {
        // Parameters that need no gradient spare the backward pass half of its products.
        let model = model.clone().no_grad();
        let mut sums: Vec<Option<FactorSum>> = vec![None; self.layers.len()];
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
                    accumulate(&mut sums, pass, Moments::Both);
                }
                FisherEstimate::Exact => self.exact_columns(&model, &chunk, &mut sums),
            }
        }
        self.normalise(sums, batch.len())
    }

    fn exact_columns<M: Network>(
        &self,
        model: &M,
        chunk: &Batch<M::Input>,
        sums: &mut [Option<FactorSum>],
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
            accumulate(sums, pass, moments);
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

    fn normalise(
        &self,
        sums: Vec<Option<FactorSum>>,
        cases: usize,
    ) -> Result<Vec<KroneckerFactors>, StepError> {
        let mut factors = Vec::with_capacity(sums.len());
        for (layer, sum) in sums.into_iter().enumerate() {
            let path = self.layers.path(layer);
            let sum = sum.ok_or_else(|| StepError::LayerNotReached {
                layer: path.to_owned(),
            })?;
            let positions = sum.rows as f64;
            let factor = KroneckerFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / positions,
            };
            if let Some(kind) = factor.non_finite() {
                let quantity = Quantity::Factor(kind);
                return Err(StepError::NonFinite {
                    quantity,
                    layer: Some(path.to_owned()),
                });
            }
            factors.push(factor);
        }
        Ok(factors)
    }
}

/// Sums of outer products over the uses and chunks seen so far.
#[derive(Clone, Debug)]
struct FactorSum {
    activation: Tensor<2>,
    gradient: Tensor<2>,
    rows: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Moments {
    Both,
    /// A further column of the output Fisher's factor: the activations were counted already.
    GradientOnly,
}

fn accumulate(sums: &mut [Option<FactorSum>], pass: CapturedPass, moments: Moments) {
    for LayerCapture {
        layer,
        activations,
        output_gradients,
    } in pass
    {
        let rows = activations.dims()[0];
        let gradient = second_moment(output_gradients);
        let activation = || second_moment(activations);
        sums[layer] = Some(match (sums[layer].take(), moments) {
            (None, _) => FactorSum {
                activation: activation(),
                gradient,
                rows,
            },
            (Some(sum), Moments::Both) => FactorSum {
                activation: sum.activation + activation(),
                gradient: sum.gradient + gradient,
                rows: sum.rows + rows,
            },
            (Some(sum), Moments::GradientOnly) => FactorSum {
                gradient: sum.gradient + gradient,
                ..sum
            },
        });
    }
}
