//! From estimates to damped inverses over all layers (sections 4.2, 4.3 and 6.3).

use std::sync::Arc;

use burn::tensor::DType;

use super::{
    chain::ChainLink,
    conditional::LinkedLayer,
    fisher_inverse::{FisherInverse, InverseStructure},
};
use crate::{
    blocks::{
        BlockInverse, FactorAction, FactorRepair, FactorSet, IdentityInverse, InverseMethod,
        Inversion, PreparedBlock, PreparedKronecker, factorise,
    },
    damping::{DampingRule, ProductDamping, check_damping},
    error::{FactorKind, StepError},
    linalg::host::Scalar,
    network::{Layer, Layers},
    workers::map_at_once,
};

/// A damped inverse and how it came about.
#[derive(Clone, Debug)]
pub(crate) struct DampedInverse {
    pub(crate) gamma: f64,
    pub(crate) inverse: FisherInverse,
    /// `π` of each layer; one where there is none.
    pub(crate) pi: Vec<f64>,
    pub(crate) repairs: Vec<FactorRepair>,
}

/// The estimates of all layers, ready to be inverted for several γ.
#[derive(Clone, Debug)]
pub(crate) struct PreparedFactors {
    factors: FactorSet,
    blocks: Vec<Arc<dyn PreparedBlock>>,
    rule: Arc<dyn DampingRule>,
    method: InverseMethod,
}

/// What an inverse is made for.
#[derive(Clone, Copy)]
pub(crate) struct InverseOf<'a> {
    /// The layers.
    pub(crate) layers: &'a Layers,
    /// γ.
    pub(crate) gamma: f64,
    /// The last inverse: a layer whose block cannot be inverted keeps that.
    pub(crate) previous: Option<&'a FisherInverse>,
}

impl FactorSet {
    /// The inverse of these estimates, damped for a γ: block-tridiagonal where they have links between
    /// layers, otherwise block-diagonal. A block that cannot be inverted leaves gradients as they are;
    /// the optimizer keeps its last inverse. The block's own repairs tell of it.
    ///
    /// # Errors
    ///
    /// [`StepError::Damping`] where the rule gives what damps nothing.
    pub fn damped_inverse(
        &self,
        layers: &Layers,
        rule: Arc<dyn DampingRule>,
        method: InverseMethod,
        gamma: f64,
    ) -> Result<FisherInverse, StepError> {
        let prepared = PreparedFactors::new(self, rule, method);
        let damped = prepared.inverse(InverseOf {
            layers,
            gamma,
            previous: None,
        })?;
        Ok(damped.inverse)
    }

    fn structure(&self) -> InverseStructure {
        if self.links.iter().any(Option::is_some) {
            InverseStructure::BlockTridiagonal
        } else {
            InverseStructure::BlockDiagonal
        }
    }
}

impl PreparedFactors {
    /// Balances the damping of each block.
    pub(crate) fn new(
        factors: &FactorSet,
        rule: Arc<dyn DampingRule>,
        method: InverseMethod,
    ) -> Self {
        // Within chains the method says how the links are made; the blocks are factorised there.
        let of_blocks = match factors.structure() {
            InverseStructure::BlockDiagonal => method,
            InverseStructure::BlockTridiagonal => InverseMethod::Automatic,
        };
        let (device, _) = factors.place();
        let blocks = factors.blocks.iter().collect();
        Self {
            blocks: map_at_once(&device, blocks, |block| block.prepare(&*rule, of_blocks)),
            factors: factors.clone(),
            rule,
            method,
        }
    }

    /// The estimates.
    pub(crate) fn factors(&self) -> &FactorSet {
        &self.factors
    }

    /// The damped inverse for one γ.
    ///
    /// # Errors
    ///
    /// [`StepError::Damping`] where the rule gives what damps nothing.
    pub(crate) fn inverse(&self, of: InverseOf<'_>) -> Result<DampedInverse, StepError> {
        for (index, block) in self.blocks.iter().enumerate() {
            check_damping(&*self.rule, of.gamma, block.pi(), of.layers.path(index))?;
        }
        let mut repairs = Repairs::new(of.layers);
        let inverse = match (self.factors.structure(), self.factors.place().1) {
            (InverseStructure::BlockDiagonal, _) => self.block_diagonal(of, &mut repairs),
            (_, DType::F64) => self.block_tridiagonal::<f64>(of, &mut repairs),
            _ => self.block_tridiagonal::<f32>(of, &mut repairs),
        };
        Ok(DampedInverse {
            gamma: of.gamma,
            inverse,
            pi: self.blocks.iter().map(|block| block.pi()).collect(),
            repairs: repairs.all,
        })
    }

    fn block_diagonal(&self, of: InverseOf<'_>, repairs: &mut Repairs<'_>) -> FisherInverse {
        let (device, _) = self.factors.place();
        let blocks = self.blocks.iter().collect();
        let inverted = map_at_once(&device, blocks, |block: &Arc<dyn PreparedBlock>| {
            block.invert(&*self.rule, of.gamma)
        });
        let inverted = inverted.into_iter().enumerate();
        let blocks: Vec<_> = inverted
            .map(|(index, inversion)| of.or_last(index, repairs.take(index, inversion)))
            .collect();
        let links = blocks.iter().map(|_| None).collect();
        FisherInverse::new(blocks, links)
    }

    fn block_tridiagonal<E: Scalar>(
        &self,
        of: InverseOf<'_>,
        repairs: &mut Repairs<'_>,
    ) -> FisherInverse {
        let (device, _) = self.factors.place();
        let layers: Vec<usize> = (0..self.blocks.len()).collect();
        let inverted = map_at_once(&device, layers.clone(), |index| {
            self.layer::<E>(index, of.gamma)
        });
        let mut blocks = Vec::with_capacity(layers.len());
        let mut linked: Vec<Option<Box<LinkedLayer<E>>>> = Vec::with_capacity(layers.len());
        for (index, inversion) in inverted.into_iter().enumerate() {
            let (block, layer) = repairs.take(index, inversion).unzip();
            blocks.push(of.or_last(index, block));
            linked.push(layer.flatten());
        }
        let links = map_at_once(&device, layers, |index| self.link(index, &linked));
        let links = links.into_iter().enumerate();
        let links = links.map(|(index, link)| repairs.take(index, link?));
        let links = links.collect();
        FisherInverse::new(blocks, links)
    }

    /// A layer's own inverse; of a layer in a chain also its factorised factors.
    fn layer<E: Scalar>(&self, index: usize, gamma: f64) -> Inversion<LayerInverse<E>> {
        let block = &self.blocks[index];
        let linked = |at: Option<usize>| at.is_some_and(|at| self.factors.links[at].is_some());
        if linked(Some(index)) || linked(index.checked_sub(1)) {
            let product = block.downcast::<PreparedKronecker>();
            let damping = self.rule.product(gamma, block.pi());
            if let (
                Some(product),
                ProductDamping::Factored {
                    activation,
                    gradient,
                },
            ) = (product, damping)
            {
                let factors = product.factors();
                let a = factorise::<E>(&factors.activation, FactorKind::Activation, activation);
                let g = factorise::<E>(&factors.gradient, FactorKind::Gradient, gradient);
                return a.zip(g).map(|(activation, gradient)| {
                    let layer = LinkedLayer {
                        activation,
                        gradient,
                    };
                    let inverse: Arc<dyn BlockInverse> = Arc::new(layer.inverse());
                    (inverse, Some(Box::new(layer)))
                });
            }
        }
        block
            .invert(&*self.rule, gamma)
            .map(|inverse| (inverse, None))
    }

    /// The link of a layer to the next; `None` where there is none to be made (one of the two may have kept its
    /// last inverse, as its repair says).
    fn link<E: Scalar>(
        &self,
        index: usize,
        linked: &[Option<Box<LinkedLayer<E>>>],
    ) -> Option<Inversion<ChainLink>> {
        let cross = self.factors.links[index].as_ref()?;
        let this = linked[index].as_ref()?;
        let next = linked.get(index + 1)?.as_ref()?;
        Some(ChainLink::new(this, next, cross, self.method))
    }
}

type LayerInverse<E> = (Arc<dyn BlockInverse>, Option<Box<LinkedLayer<E>>>);

impl InverseOf<'_> {
    /// A layer's inverse; the last good one where there is none, and the identity where there is no
    /// last one either.
    fn or_last(
        &self,
        index: usize,
        inverse: Option<Arc<dyn BlockInverse>>,
    ) -> Arc<dyn BlockInverse> {
        let last = || {
            let previous = self.previous?;
            previous.blocks().get(index).cloned()
        };
        let identity = || -> Arc<dyn BlockInverse> {
            let layer: &Layer = &self.layers.as_slice()[index];
            Arc::new(IdentityInverse::new(layer.dimension()))
        };
        inverse.or_else(last).unwrap_or_else(identity)
    }
}

/// The repairs of all layers.
struct Repairs<'a> {
    layers: &'a Layers,
    all: Vec<FactorRepair>,
}

impl<'a> Repairs<'a> {
    fn new(layers: &'a Layers) -> Self {
        let all = Vec::new();
        Self { layers, all }
    }

    /// The result of a layer's inversion, whose repairs are kept: at least that there is no result.
    fn take<T>(&mut self, layer: usize, inversion: Inversion<T>) -> Option<T> {
        if inversion.inverse.is_none() && inversion.repairs.is_empty() {
            let action = FactorAction::KeptLastInverse { pivot: None };
            self.add(layer, FactorKind::Block, action);
        }
        for (factor, action) in inversion.repairs {
            self.add(layer, factor, action);
        }
        inversion.inverse
    }

    fn add(&mut self, layer: usize, factor: FactorKind, action: FactorAction) {
        self.all.push(FactorRepair {
            layer: self.layers.path(layer).to_owned(),
            factor,
            action,
        });
    }
}
