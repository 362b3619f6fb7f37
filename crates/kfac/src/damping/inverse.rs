//! From running factors to a damped inverse (sections 4.2, 4.3 and 6.3).

use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    conditional::HostCross,
    host_layer::{Form, HostLayer, LayerInverse},
    repair::{FactorAction, FactorRepair},
    tikhonov::DampingScheme,
};
use crate::{
    capture::Layers,
    curvature::{
        BlockDiagonalInverse, BlockInverse, BlockTridiagonalInverse, FisherInverse,
        InverseStructure, Regression,
    },
    linalg::host::Scalar,
    statistics::{FactorKind, FactorSet, LayerFactors},
};

/// How the damped blocks are inverted; all methods give the same product up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InverseMethod {
    /// The cheaper. Block-diagonal: Cholesky for factored damping, eigendecomposition for exact
    /// damping. Block-tridiagonal: the series where strong damping makes it short, otherwise
    /// eigendecompositions.
    #[default]
    Automatic,
    /// A Cholesky factorisation of both damped factors for each γ: d³ flops, and products with two
    /// matrices. Not for exact damping. Within chains Smith's series (appendix B), which is long where
    /// the damping is weak.
    Cholesky,
    /// An eigendecomposition of both undamped factors, shared by all γ: about 9 d³ flops, and
    /// products with four matrices. Within chains the canonical correlations of neighbours, which
    /// depend on γ: an eigendecomposition of the smaller of each two neighbouring factors.
    Eigen,
}

/// What kind of inverse to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InverseKind {
    pub(crate) structure: InverseStructure,
    pub(crate) damping: DampingScheme,
    pub(crate) method: InverseMethod,
}

/// A damped inverse and how it came about.
#[derive(Clone, Debug)]
pub(crate) struct DampedInverse {
    pub(crate) gamma: f64,
    pub(crate) inverse: FisherInverse,
    /// `π` of each layer; one for exact damping.
    pub(crate) pi: Vec<f64>,
    pub(crate) repairs: Vec<FactorRepair>,
}

/// The factors of all layers on the host, ready to be inverted for several γ.
#[derive(Debug)]
pub(crate) struct PreparedFactors {
    layers: Layers,
    kind: InverseKind,
    previous: Option<FisherInverse>,
    factors: Prepared,
    device: Device,
    dtype: DType,
}

impl FactorSet {
    /// The block-diagonal inverse of these factors, damped by γ. A block that cannot be inverted leaves
    /// gradients as they are; the optimizer, which reports that, keeps its last inverse.
    pub fn damped_inverse(
        &self,
        layers: &Layers,
        (damping, method): (DampingScheme, InverseMethod),
        gamma: f64,
    ) -> FisherInverse {
        let kind = InverseKind {
            structure: InverseStructure::BlockDiagonal,
            damping,
            method,
        };
        PreparedFactors::new(layers, self, kind, None)
            .inverse(gamma)
            .inverse
    }
}

/// All layers in one precision: the host's arithmetic is the factors' own.
#[derive(Debug)]
enum Prepared {
    Single(HostSet<f32>),
    Double(HostSet<f64>),
}

#[derive(Debug)]
struct HostSet<E> {
    layers: Vec<HostLayer<E>>,
    links: Vec<Option<HostCross<E>>>,
}

impl<E: Scalar> HostSet<E> {
    fn new(factors: &FactorSet, kind: InverseKind) -> Self {
        let eigen = match (kind.structure, kind.method, kind.damping) {
            (InverseStructure::BlockTridiagonal, ..) => false,
            (_, InverseMethod::Eigen, _) | (.., DampingScheme::ExactTikhonov) => true,
            (.., DampingScheme::FactoredTikhonov { .. }) => false,
        };
        let layers = factors.layers.par_iter();
        let links = factors.links.iter();
        Self {
            layers: layers
                .map(|f| HostLayer::new(f, kind.damping, eigen))
                .collect(),
            links: links
                .map(|link| link.as_ref().map(HostCross::new))
                .collect(),
        }
    }
}

impl PreparedFactors {
    /// Copies the factors to the host and, for the eigen path, decomposes them.
    pub(crate) fn new(
        layers: &Layers,
        factors: &FactorSet,
        kind: InverseKind,
        previous: Option<&FisherInverse>,
    ) -> Self {
        let first = factors.layers.first().map(LayerFactors::place);
        let (device, dtype) = first.unwrap_or_else(|| (Device::default(), DType::F32));
        let prepared = if dtype == DType::F64 {
            Prepared::Double(HostSet::new(factors, kind))
        } else {
            Prepared::Single(HostSet::new(factors, kind))
        };
        Self {
            layers: layers.clone(),
            kind,
            previous: previous.cloned(),
            factors: prepared,
            device,
            dtype,
        }
    }

    /// The damped inverse for one γ.
    pub(crate) fn inverse(&self, gamma: f64) -> DampedInverse {
        match &self.factors {
            Prepared::Single(factors) => self.damped(factors, gamma),
            Prepared::Double(factors) => self.damped(factors, gamma),
        }
    }

    fn damped<E: Scalar>(&self, factors: &HostSet<E>, gamma: f64) -> DampedInverse {
        let layer = |factors: &HostLayer<E>| factors.inverse(self.kind, gamma);
        let mut layers: Vec<LayerInverse<E>> = factors.layers.par_iter().map(layer).collect();
        let mut repairs = Vec::new();
        for (index, layer) in layers.iter_mut().enumerate() {
            for (factor, action) in layer.repairs.drain(..) {
                let layer = self.layers.path(index).to_owned();
                repairs.push(FactorRepair {
                    layer,
                    factor,
                    action,
                });
            }
        }
        let inverse = match self.kind.structure {
            InverseStructure::BlockDiagonal => {
                let block = |index: usize| self.block(&layers, index);
                let blocks = (0..layers.len()).map(block).collect();
                FisherInverse::BlockDiagonal(BlockDiagonalInverse::new(blocks))
            }
            InverseStructure::BlockTridiagonal => {
                FisherInverse::BlockTridiagonal(self.tridiagonal(&layers, factors, &mut repairs))
            }
        };
        DampedInverse {
            gamma,
            inverse,
            pi: factors.layers.iter().map(HostLayer::pi).collect(),
            repairs,
        }
    }

    /// A layer's own block; the last good one where there is none.
    fn block<E: Scalar>(&self, layers: &[LayerInverse<E>], index: usize) -> BlockInverse {
        match (&layers[index].form, &self.previous) {
            (Form::Cholesky(pair), _) => BlockInverse::Factored(pair.inverse.clone()),
            (Form::Block(block), _) => BlockInverse::clone(block),
            (Form::None, Some(previous)) => previous.blocks()[index].clone(),
            (Form::None, None) => BlockInverse::Diagonal(self.ones(index)),
        }
    }

    /// An inverse that leaves the layer's gradient as it is.
    fn ones(&self, index: usize) -> Tensor<2> {
        let layer = &self.layers.as_slice()[index];
        let shape = [layer.activation_dimension(), layer.d_out];
        Tensor::ones(shape, (&self.device, self.dtype))
    }

    fn tridiagonal<E: Scalar>(
        &self,
        layers: &[LayerInverse<E>],
        factors: &HostSet<E>,
        repairs: &mut Vec<FactorRepair>,
    ) -> BlockTridiagonalInverse {
        let given_next = |index: usize| self.given_next(layers, factors, index);
        let given: Vec<_> = (0..layers.len()).into_par_iter().map(given_next).collect();
        let mut blocks = Vec::with_capacity(layers.len());
        let mut regressions: Vec<Option<Regression>> = Vec::with_capacity(layers.len());
        for (index, given) in given.into_iter().enumerate() {
            let (block, regression) = given
                .unwrap_or_else(|action| {
                    let layer = self.layers.path(index).to_owned();
                    let factor = FactorKind::Activation;
                    repairs.push(FactorRepair {
                        layer,
                        factor,
                        action,
                    });
                    None
                })
                .unzip();
            blocks.push(block.unwrap_or_else(|| self.block(layers, index)));
            regressions.push(regression);
        }
        BlockTridiagonalInverse::new(BlockDiagonalInverse::new(blocks), regressions)
    }

    /// A layer given the next one: `None` where the two are not linked (one of them may have kept its
    /// last inverse, as its repair says), an action where the decomposition failed.
    fn given_next<E: Scalar>(
        &self,
        layers: &[LayerInverse<E>],
        factors: &HostSet<E>,
        index: usize,
    ) -> Result<Option<(BlockInverse, Regression)>, FactorAction> {
        let Some(cross) = &factors.links[index] else {
            return Ok(None);
        };
        let (Form::Cholesky(this), Form::Cholesky(next)) =
            (&layers[index].form, &layers[index + 1].form)
        else {
            return Ok(None);
        };
        let regression = cross.regression(&next.inverse);
        let Some(place) = factors.layers[index].place() else {
            return Ok(None);
        };
        let on = (self.kind.method, place);
        let block = cross.conditional((this, next), &regression, on);
        block
            .map(|block| Some((block, regression)))
            .ok_or(FactorAction::CutFromNextLayer)
    }
}
