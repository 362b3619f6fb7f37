//! One batch's Kronecker factors, summed over the passes that it takes (section 5).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::structure::InverseStructure;
use crate::{
    capture::{CapturedPass, LayerCapture, Layers},
    error::{Quantity, StepError},
    statistics::{CrossFactors, FactorSet, KroneckerFactors, cross_moment, second_moment},
};

/// Sums of outer products over the uses and passes seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
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

/// What a pass adds to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Moments {
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
    /// Sums of no case yet, for each layer and each link that the structure uses.
    pub(crate) fn new(layers: &Layers, structure: InverseStructure) -> Self {
        let linked =
            |layer| structure == InverseStructure::BlockTridiagonal && layers.linked(layer);
        Self {
            layers: vec![None; layers.len()],
            links: (0..layers.len()).map(linked).map(Link::new).collect(),
        }
    }

    /// The factors of a batch of so many cases, all of whose passes are in the sums.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a layer was in no pass, or a factor is not finite.
    pub(crate) fn factors(self, layers: &Layers, cases: usize) -> Result<FactorSet, StepError> {
        let factor = |(layer, sum): (usize, Option<FactorSum>)| {
            let path = || layers.path(layer).to_owned();
            let sum = sum.ok_or_else(|| StepError::LayerNotReached { layer: path() })?;
            let factor = KroneckerFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / sum.rows as f64,
            };
            match factor.non_finite() {
                None => Ok(factor),
                Some(kind) => Err(StepError::NonFinite {
                    quantity: Quantity::Factor(kind),
                    layer: Some(path()),
                }),
            }
        };
        let factors = self.layers.into_par_iter().enumerate().map(factor);
        let factors: Vec<_> = factors.collect();
        // One after another, so that of several faults the first layer's is told.
        let factors = factors.into_iter().collect::<Result<_, _>>()?;
        // By Cauchy and Schwarz these are finite where the layers' own factors are.
        let links = self.links.into_iter().map(|link| {
            link.sum.map(|sum| CrossFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / cases as f64,
            })
        });
        Ok(FactorSet {
            links: links.collect(),
            layers: factors,
        })
    }

    /// Takes in a pass.
    pub(crate) fn accumulate(&mut self, pass: CapturedPass, moments: Moments) {
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
