//! The curvature pass: one batch's Kronecker factors (section 5).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::structure::InverseStructure;
use crate::{
    capture::{CapturedPass, LayerCapture, Layers, Tape},
    cases::Batch,
    error::{Quantity, StepError},
    loss::PredictiveDistribution,
    network::Network,
    random::RandomStream,
    statistics::{CrossFactors, FactorSet, KroneckerFactors, cross_moment, second_moment},
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
    pub(crate) structure: InverseStructure,
    pub(crate) chunk_size: usize,
}

impl<L: PredictiveDistribution> FisherEstimator<'_, L> {
    /// The factors of every layer, from forward and backward passes over the batch.
    pub(crate) fn factors<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        random: &mut RandomStream,
    ) -> Result<FactorSet, StepError> {
        // Parameters that need no gradient spare the backward pass half of its products.
        let model = model.clone().no_grad();
        let mut sums = self.no_sums();
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
                    sums.accumulate(pass, Moments::Both);
                }
                FisherEstimate::Exact => self.exact_columns(&model, &chunk, &mut sums),
            }
        }
        self.normalise(sums, batch.len())
    }

    fn exact_columns<M: Network>(&self, model: &M, chunk: &Batch<M::Input>, sums: &mut Sums) {
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
            sums.accumulate(pass, moments);
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

    /// Sums of no case yet, for each layer and each link that the structure uses.
    fn no_sums(&self) -> Sums {
        let linked = |layer| {
            self.structure == InverseStructure::BlockTridiagonal && self.layers.linked(layer)
        };
        Sums {
            layers: vec![None; self.layers.len()],
            links: (0..self.layers.len()).map(linked).map(Link::new).collect(),
        }
    }

    fn normalise(&self, sums: Sums, cases: usize) -> Result<FactorSet, StepError> {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer, sum) in sums.layers.into_iter().enumerate() {
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
            layers.push(factor);
        }
        // By Cauchy and Schwarz these are finite where the layers' own factors are.
        let links = sums.links.into_iter().map(|link| {
            link.sum.map(|sum| CrossFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / cases as f64,
            })
        });
        Ok(FactorSet {
            links: links.collect(),
            layers,
        })
    }
}

/// Sums of outer products over the uses and chunks seen so far.
#[derive(Clone, Debug)]
struct Sums {
    layers: Vec<Option<FactorSum>>,
    links: Vec<Link>,
}

#[derive(Clone, Debug)]
struct FactorSum {
    activation: Tensor<2>,
    gradient: Tensor<2>,
    rows: usize,
}

/// The sums between a layer and the next.
#[derive(Clone, Debug)]
struct Link {
    /// Whether the two are neighbours in a chain and the structure asks for it.
    wanted: bool,
    /// `None` before the first pass.
    sum: Option<CrossFactors>,
}

#[derive(Clone, Copy, PartialEq)]
enum Moments {
    Both,
    /// A further column of the output Fisher's factor: the activations were counted already.
    GradientOnly,
}

impl Link {
    fn new(wanted: bool) -> Self {
        Self { wanted, sum: None }
    }

    fn add(&mut self, this: &LayerCapture, next: &LayerCapture, moments: Moments) {
        if !self.wanted {
            return;
        }
        let between = |this: &Tensor<2>, next: &Tensor<2>| cross_moment(this.clone(), next.clone());
        let activation = || between(&this.activations, &next.activations);
        let gradient = between(&this.output_gradients, &next.output_gradients);
        self.sum = Some(match (self.sum.take(), moments) {
            (None, _) => CrossFactors {
                activation: activation(),
                gradient,
            },
            (Some(sum), Moments::Both) => CrossFactors {
                activation: sum.activation + activation(),
                gradient: sum.gradient + gradient,
            },
            (Some(sum), Moments::GradientOnly) => CrossFactors {
                gradient: sum.gradient + gradient,
                ..sum
            },
        });
    }
}

impl Sums {
    fn accumulate(&mut self, pass: CapturedPass, moments: Moments) {
        self.accumulate_links(&pass, moments);
        for capture in pass {
            self.accumulate_layer(capture, moments);
        }
    }

    /// Neighbours in a chain are used once each, so their captures are found by the layer.
    fn accumulate_links(&mut self, pass: &CapturedPass, moments: Moments) {
        let of = |layer: usize| pass.iter().find(|capture| capture.layer == layer);
        for (layer, link) in self.links.iter_mut().enumerate() {
            if let (Some(this), Some(next)) = (of(layer), of(layer + 1)) {
                link.add(this, next, moments);
            }
        }
    }

    fn accumulate_layer(&mut self, capture: LayerCapture, moments: Moments) {
        let LayerCapture {
            layer,
            activations,
            output_gradients,
        } = capture;
        let rows = activations.dims()[0];
        let gradient = second_moment(output_gradients);
        let activation = || second_moment(activations);
        self.layers[layer] = Some(match (self.layers[layer].take(), moments) {
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
