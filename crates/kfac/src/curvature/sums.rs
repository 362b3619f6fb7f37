//! One batch's factors, summed over the passes that it takes (section 5).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{
    correction::CorrectionSums,
    estimate::FisherEstimate,
    moments::{LayerMoments, Moments, ProductMoments},
    structure::InverseStructure,
};
use crate::{
    capture::{BlockStructure, CapturedPass, Layer, LayerUses, Layers},
    error::{Quantity, StepError},
    statistics::{CrossFactors, FactorSet, KroneckerFactors, LayerFactors, cross_moment},
};

/// Sums of outer products over the uses and passes seen so far.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    layers: &'a Layers,
    moments: Vec<Option<LayerMoments>>,
    links: Vec<Link>,
    correction: Option<CorrectionSums<'a>>,
    estimate: FisherEstimate,
}

/// The sums between a layer and the next.
#[derive(Clone, Debug)]
struct Link {
    /// Whether the two are neighbours in a chain and the structure asks for it.
    wanted: bool,
    /// `None` before the first pass.
    sum: Option<CrossFactors>,
}

impl Link {
    fn new(wanted: bool) -> Self {
        Self { wanted, sum: None }
    }

    fn add(&mut self, [this, next]: [&LayerUses; 2], homogeneous: [bool; 2], moments: Moments) {
        if !self.wanted || this.is_empty() || next.is_empty() {
            return;
        }
        let activation = || {
            let rows = |uses: &LayerUses, homogeneous| {
                let features = uses.features(&(0..uses.cases()), (1, homogeneous));
                features.into_iter().next().map(single_position)
            };
            let both = rows(this, homogeneous[0]).zip(rows(next, homogeneous[1]));
            both.map(|(this, next)| cross_moment(this, next))
        };
        let gradient = cross_moment(
            single_position(this.output_gradients()),
            single_position(next.output_gradients()),
        );
        self.sum = match (self.sum.take(), moments) {
            (None, _) => activation().map(|activation| CrossFactors {
                activation,
                gradient,
            }),
            (Some(sum), Moments::Both) => activation().map(|activation| CrossFactors {
                activation: sum.activation + activation,
                gradient: sum.gradient + gradient,
            }),
            (Some(sum), Moments::GradientOnly) => Some(CrossFactors {
                gradient: sum.gradient + gradient,
                ..sum
            }),
        };
    }
}

/// `[n, 1, d] -> [n, d]`: the layers of a chain have one position.
fn single_position(features: Tensor<3>) -> Tensor<2> {
    features.squeeze_dim(1)
}

impl<'a> Sums<'a> {
    /// Sums of no case yet, for each layer and each link that the structure uses.
    pub(crate) fn new(
        layers: &'a Layers,
        structure: InverseStructure,
        estimate: FisherEstimate,
    ) -> Self {
        let linked =
            |layer| structure == InverseStructure::BlockTridiagonal && layers.linked(layer);
        Self {
            layers,
            moments: vec![None; layers.len()],
            links: (0..layers.len()).map(linked).map(Link::new).collect(),
            correction: None,
            estimate,
        }
    }

    /// The same, and sums for corrected eigenvalues.
    #[must_use]
    pub(crate) fn correcting(self, correction: Option<CorrectionSums<'a>>) -> Self {
        Self { correction, ..self }
    }

    /// The factors of a batch of so many cases, all of whose passes are in the sums, and the corrected
    /// eigenvalues.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a layer was in no pass, or a factor is not finite.
    pub(crate) fn factors(
        self,
        cases: usize,
    ) -> Result<(FactorSet, Option<CorrectionSums<'a>>), StepError> {
        let layers = self.moments.into_par_iter().zip(self.layers.as_slice());
        let factors: Vec<_> = layers
            .map(|(moments, layer)| layer_factors(layer, moments, cases))
            .collect();
        // One after another, so that of several faults the first layer's is told.
        let factors = factors.into_iter().collect::<Result<_, _>>()?;
        // By Cauchy and Schwarz these are finite where the layers' own factors are.
        let links = self.links.into_iter().map(|link| {
            link.sum.map(|sum| CrossFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / cases as f64,
            })
        });
        let factors = FactorSet {
            links: links.collect(),
            layers: factors,
        };
        Ok((factors, self.correction))
    }

    /// Takes in a pass.
    pub(crate) fn accumulate(&mut self, pass: CapturedPass, moments: Moments) {
        self.accumulate_links(&pass, moments);
        if let Some(correction) = &mut self.correction {
            correction.accumulate(self.layers, &pass);
        }
        let all = self.layers.iter().zip(pass.layers).zip(&mut self.moments);
        for ((layer, uses), sum) in all {
            if uses.is_empty() {
                continue;
            }
            // The first pass brings the activations in any case.
            let which = if sum.is_none() {
                Moments::Both
            } else {
                moments
            };
            let of_pass = LayerMoments::of(layer, &uses, which);
            let of_pass = match self.estimate {
                FisherEstimate::MonteCarlo => of_pass,
                // Each pass is of one case then.
                FisherEstimate::Exact | FisherEstimate::Empirical => of_pass.squared(),
            };
            *sum = Some(match sum.take() {
                None => of_pass,
                Some(sum) => sum.plus(of_pass, which),
            });
        }
    }

    fn accumulate_links(&mut self, pass: &CapturedPass, moments: Moments) {
        let biases = self.layers.as_slice().windows(2);
        let uses = pass.layers.windows(2);
        for ((link, uses), layers) in self.links.iter_mut().zip(uses).zip(biases) {
            if let ([this, next], [a, b]) = (uses, layers) {
                let homogeneous = [a.bias.is_some(), b.bias.is_some()];
                link.add([this, next], homogeneous, moments);
            }
        }
    }
}

/// A layer's factors from its sums over so many cases.
fn layer_factors(
    layer: &Layer,
    moments: Option<LayerMoments>,
    cases: usize,
) -> Result<LayerFactors, StepError> {
    let moments = moments.map(LayerMoments::squared);
    let factors = moments.and_then(|moments| mean_factors(layer, moments, cases as f64));
    let Some(factors) = factors else {
        return Err(StepError::LayerNotReached {
            layer: layer.path.clone(),
        });
    };
    match factors.non_finite() {
        None => Ok(factors),
        Some(kind) => Err(StepError::NonFinite {
            quantity: Quantity::Factor(kind),
            layer: Some(layer.path.clone()),
        }),
    }
}

/// The means; `None` where no pass has brought the inputs of a product.
fn mean_factors(layer: &Layer, moments: LayerMoments, cases: f64) -> Option<LayerFactors> {
    let ProductMoments {
        activation,
        gradient,
        count,
    } = match (moments, layer.structure) {
        (LayerMoments::Block(sum), BlockStructure::Full) => {
            return Some(LayerFactors::Full(sum / cases));
        }
        (LayerMoments::Block(sum) | LayerMoments::Gradient(sum), _) => {
            return Some(LayerFactors::Diagonal(sum / cases));
        }
        (LayerMoments::Product(moments), _) => moments,
    };
    let pairs = activation.into_iter().zip(gradient);
    let mut pairs = pairs.map(|(activation, gradient)| KroneckerFactors {
        activation: activation / cases,
        gradient: gradient / count,
    });
    if layer.kind.groups() > 1 {
        return Some(LayerFactors::Groups(pairs.collect()));
    }
    let factors = pairs.next()?;
    Some(match layer.structure {
        BlockStructure::DiagonalKronecker => LayerFactors::Embedding {
            activation: factors.activation,
            gradient: factors.gradient,
        },
        _ => LayerFactors::Kronecker(factors),
    })
}
