//! One batch's factors, summed over the passes that it takes (section 5).

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{
    blocks::{BlockEstimate, BlockStructure, Blocks, CrossFactors, FactorSet, Moments, Pass},
    capture::{CapturedPass, LayerUses},
    error::{Quantity, StepError},
    inverse::{CorrectionSums, InverseStructure},
    linalg::cross_moment,
    network::Layer,
    workers::map_at_once,
};

/// Sums of outer products over the uses and passes seen so far.
#[derive(Clone, Debug)]
pub(crate) struct BatchSums {
    blocks: Blocks,
    moments: Vec<Option<Moments>>,
    links: Vec<Link>,
    correction: Option<CorrectionSums>,
    /// What makes the sums none.
    fault: Option<StepError>,
}

/// The sums between a layer and the next.
#[derive(Clone, Debug)]
struct Link {
    /// Whether the two are neighbours in a chain and the structure asks for it.
    wanted: bool,
    /// `None` before the first pass.
    sum: Option<CrossFactors>,
}

/// What a layer of a chain did in a pass.
struct Called<'a> {
    layer: &'a Layer,
    uses: &'a LayerUses,
}

impl Called<'_> {
    /// Refuses a layer that has come to have several positions.
    fn fault(&self) -> Option<StepError> {
        let positions = self.uses.rows_of_case();
        (positions > 1).then(|| StepError::ChainPositions {
            layer: self.layer.path.clone(),
            positions,
        })
    }

    /// The activations as rows: the layers of a chain have one position.
    fn activations(&self) -> Option<Tensor<2>> {
        let cases = 0..self.uses.cases();
        let activations = self.uses.activations(self.layer, &cases);
        activations.into_iter().next().map(|a| a.squeeze_dim(1))
    }

    fn output_gradients(&self) -> Tensor<2> {
        self.uses.output_gradients().squeeze_dim(1)
    }
}

impl Link {
    fn add(&mut self, this: &Called<'_>, next: &Called<'_>, pass: Pass) {
        if this.uses.is_empty() || next.uses.is_empty() {
            return;
        }
        let activation = || {
            let both = this.activations().zip(next.activations());
            both.map(|(this, next)| cross_moment(this, next))
        };
        let gradient = cross_moment(this.output_gradients(), next.output_gradients());
        self.sum = match (self.sum.take(), pass.first) {
            (None, _) => activation().map(|activation| CrossFactors {
                activation,
                gradient,
            }),
            (Some(sum), true) => activation().map(|activation| CrossFactors {
                activation: sum.activation + activation,
                gradient: sum.gradient + gradient,
            }),
            (Some(sum), false) => Some(CrossFactors {
                gradient: sum.gradient + gradient,
                ..sum
            }),
        };
    }
}

impl BatchSums {
    /// Sums of no case yet, for each layer and each link that the structure uses.
    pub(crate) fn new(blocks: &Blocks, structure: InverseStructure) -> Self {
        let layers = blocks.layers();
        let link = |layer| Link {
            wanted: structure == InverseStructure::BlockTridiagonal && layers.linked(layer),
            sum: None,
        };
        Self {
            blocks: blocks.clone(),
            moments: vec![None; layers.len()],
            links: (0..layers.len()).map(link).collect(),
            correction: None,
            fault: None,
        }
    }

    /// The same, and sums for corrected eigenvalues.
    #[must_use]
    pub(crate) fn correcting(self, correction: Option<CorrectionSums>) -> Self {
        Self { correction, ..self }
    }

    /// Takes in a pass.
    pub(crate) fn accumulate(&mut self, captured: CapturedPass, pass: Pass) {
        if let Some(misfit) = captured.misfit {
            self.fault = Some(StepError::LayerRows {
                layer: self.blocks.layers().path(misfit.layer).to_owned(),
                rows: misfit.rows,
                outputs: misfit.outputs,
            });
            return;
        }
        self.accumulate_links(&captured, pass);
        if let Some(correction) = &mut self.correction {
            correction.accumulate(self.blocks.layers(), &captured);
        }
        let sums = std::mem::take(&mut self.moments);
        let device = captured.device();
        let layers = self.blocks.iter().zip(captured.layers).zip(sums).collect();
        self.moments = map_at_once(&device, layers, |(((layer, structure), uses), sum)| {
            if uses.is_empty() {
                return sum;
            }
            Some(match sum {
                // The first pass brings the inputs in any case.
                None => structure.moments(
                    layer,
                    &uses,
                    Pass {
                        first: true,
                        ..pass
                    },
                ),
                Some(sum) => sum.plus(structure.moments(layer, &uses, pass)),
            })
        });
    }

    fn accumulate_links(&mut self, captured: &CapturedPass, pass: Pass) {
        let layers = self.blocks.layers().iter().zip(&captured.layers);
        let called: Vec<_> = layers.map(|(layer, uses)| Called { layer, uses }).collect();
        for (link, pair) in self.links.iter_mut().zip(called.windows(2)) {
            if let [this, next] = pair {
                if !link.wanted {
                    continue;
                }
                if let Some(fault) = [this, next].into_iter().find_map(Called::fault) {
                    self.fault = Some(fault);
                    return;
                }
                link.add(this, next, pass);
            }
        }
    }

    /// The paths of the layers that no pass reached.
    pub(crate) fn unreached(&self) -> Vec<String> {
        let layers = self.blocks.layers().iter().zip(&self.moments);
        let unreached = layers.filter(|(_, moments)| moments.is_none());
        unreached.map(|(layer, _)| layer.path.clone()).collect()
    }

    /// The factors of a batch of so many cases, all of whose passes are in the sums, and the corrected
    /// eigenvalues. Layers that no pass reached have their former factors, where these are given.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a layer was in no pass, its rows are not those of its outputs, a layer of a chain has
    /// several positions, or a factor is not finite.
    pub(crate) fn factors(
        self,
        cases: usize,
        former: Option<&FactorSet>,
    ) -> Result<(FactorSet, Option<CorrectionSums>), StepError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let gradients = self.moments.iter().flatten().flat_map(|m| &m.gradients);
        let device = gradients.map(Tensor::device).next().unwrap_or_default();
        let former = |layer: usize| former.and_then(|former| former.blocks.get(layer));
        let layers = self.blocks.iter().zip(self.moments).enumerate().collect();
        let blocks = map_at_once(
            &device,
            layers,
            |(index, ((layer, structure), moments))| match (moments, former(index)) {
                (None, Some(former)) => Ok(former.clone()),
                (moments, _) => {
                    let means = moments.map(|moments| moments.means(cases));
                    estimate(layer, structure, means)
                }
            },
        );
        // One after another, so that of several faults the first layer's is told.
        let blocks = blocks.into_iter().collect::<Result<_, _>>()?;
        // By Cauchy and Schwarz these are finite where the layers' own factors are.
        let links = self.links.into_iter().map(|link| {
            link.sum.map(|sum| CrossFactors {
                activation: sum.activation / cases as f64,
                gradient: sum.gradient / cases as f64,
            })
        });
        let factors = FactorSet {
            blocks,
            links: links.collect(),
        };
        Ok((factors, self.correction))
    }
}

/// The estimate of a layer's block from the means over the batch.
fn estimate(
    layer: &Layer,
    structure: &dyn BlockStructure,
    means: Option<Vec<Tensor<2>>>,
) -> Result<Arc<dyn BlockEstimate>, StepError> {
    let path = || layer.path.clone();
    let means = means.ok_or_else(|| StepError::LayerNotReached { layer: path() })?;
    let shapes: Vec<[usize; 2]> = means.iter().map(Tensor::dims).collect();
    let block = structure.estimate(layer, means);
    let block = block.filter(|block| block.factors().len() == shapes.len());
    let block = block.ok_or_else(|| StepError::NoBlock { layer: path() })?;
    if let Some([expected, found]) = block.misshapen(&shapes) {
        return Err(StepError::BlockShape {
            layer: path(),
            quantity: "factor",
            expected,
            found,
        });
    }
    match block.non_finite() {
        None => Ok(block),
        Some(kind) => Err(StepError::NonFinite {
            quantity: Quantity::Factor(kind),
            layer: Some(path()),
        }),
    }
}
