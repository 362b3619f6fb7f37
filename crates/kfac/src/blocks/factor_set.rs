//! The estimates of all layers' blocks, and of what links neighbours in a chain.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::{
    block::{BlockEstimate, FactorForm},
    host::diagonal,
    kronecker::KroneckerFactors,
};
use crate::{
    damping::DampingRule, error::FactorKind, linalg::host, moving_average::old_weight,
    workers::map_at_once,
};

/// The Kronecker factors between a layer and the next one of its chain: the Fisher block of the two
/// is `Ā_{i−1,i} ⊗ G_{i,i+1}`.
///
/// # Definition
///
/// ```text
/// Ā_{i−1,i} = E[ā_{i−1} ā_iᵀ]     G_{i,i+1} = E[g_i g_{i+1}ᵀ]
/// ```
///
/// # References
///
/// Martens and Grosse (2015), sections 3 and 4.3, arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct CrossFactors {
    /// `Ā_{i−1,i}`: this layer's inputs (rows) with the next layer's (columns).
    pub activation: Tensor<2>,
    /// `G_{i,i+1}`: the gradients at this layer's outputs (rows) with those at the next layer's.
    pub gradient: Tensor<2>,
}

/// The estimates of all layers' blocks.
#[derive(Clone, Debug, Default)]
pub struct FactorSet {
    /// The estimate of each layer's block.
    pub blocks: Vec<Arc<dyn BlockEstimate>>,
    /// The factors between each layer and the next, `None` where the two are not neighbours in a
    /// chain or the structure of the inverse does not use them. As many as layers.
    pub links: Vec<Option<CrossFactors>>,
}

impl dyn BlockEstimate {
    /// Where the estimate is, and its precision.
    pub(crate) fn place(&self) -> (Device, DType) {
        let factors = self.factors();
        let first = factors.first();
        first.map_or_else(
            || (Device::default(), DType::F32),
            |factor| (factor.tensor.device(), factor.tensor.dtype()),
        )
    }

    /// The shape that the first factor should have that has not the one it was made of, or is a second moment
    /// and not square; and its shape.
    pub(crate) fn misshapen(&self, made_of: &[[usize; 2]]) -> Option<[[usize; 2]; 2]> {
        let mut factors = self.factors().into_iter().zip(made_of);
        factors.find_map(|(factor, made_of)| {
            let found = factor.tensor.dims();
            let expected = match factor.form {
                FactorForm::SecondMoment => [made_of[0]; 2],
                FactorForm::Diagonal => *made_of,
            };
            (found != expected).then_some([expected, found])
        })
    }

    /// The first factor with an element that is not finite, if any.
    pub(crate) fn non_finite(&self) -> Option<FactorKind> {
        let finite = |form, tensor: &Tensor<2>| match form {
            // The diagonal tells: by Cauchy and Schwarz no element of a second moment is larger than
            // the diagonal's, and a NaN in a column reaches its diagonal element.
            FactorForm::SecondMoment => host::sum(diagonal(tensor)).is_finite(),
            FactorForm::Diagonal => host::sum(tensor.clone()).is_finite(),
        };
        let factors = self.factors().into_iter();
        let mut not_finite = factors.filter(|factor| !finite(factor.form, factor.tensor));
        not_finite.next().map(|factor| factor.kind)
    }

    /// `old_weight · self + (1 − old_weight) · new`, both of one structure.
    fn averaged(&self, new: &Self, old_weight: f64) -> Arc<dyn BlockEstimate> {
        let factors = self.factors().into_iter().zip(new.factors());
        let mixed = factors.map(|(old, new)| mix(old.tensor, new.tensor.clone(), old_weight));
        self.with_factors(mixed.collect())
    }
}

fn mix(old: &Tensor<2>, new: Tensor<2>, old_weight: f64) -> Tensor<2> {
    new * (1.0 - old_weight) + old.clone() * old_weight
}

impl FactorSet {
    /// The estimates of layers whose blocks are single Kronecker products, in their order.
    pub fn kronecker(&self) -> Vec<&KroneckerFactors> {
        let blocks = self.blocks.iter();
        blocks.filter_map(|block| block.downcast()).collect()
    }

    /// Where the estimates are, and their precision.
    pub(crate) fn place(&self) -> (Device, DType) {
        let first = self.blocks.first();
        first.map_or_else(|| (Device::default(), DType::F32), |block| block.place())
    }

    /// The estimates with the damping of a rule on the diagonals of their factors (section 6.3); the
    /// factors between layers stay as they are. `None` where the rule damps products in a way that no
    /// factors have.
    pub fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Self> {
        let blocks = self.blocks.iter().map(|block| block.damped(rule, gamma));
        Some(Self {
            blocks: blocks.collect::<Option<_>>()?,
            links: self.links.clone(),
        })
    }

    /// `old_weight · self + (1 − old_weight) · new`, the layers at the same time.
    fn averaged(&self, new: &Self, old_weight: f64) -> Self {
        let (device, _) = self.place();
        let link = |(old, new): (&Option<CrossFactors>, &Option<CrossFactors>)| {
            let Some((old, new)) = old.as_ref().zip(new.as_ref()) else {
                return old.clone();
            };
            Some(CrossFactors {
                activation: mix(&old.activation, new.activation.clone(), old_weight),
                gradient: mix(&old.gradient, new.gradient.clone(), old_weight),
            })
        };
        let blocks = self.blocks.iter().zip(&new.blocks).collect();
        let links = self.links.iter().zip(&new.links).collect();
        Self {
            blocks: map_at_once(&device, blocks, |(old, new)| {
                if Arc::ptr_eq(old, new) {
                    // A batch that did not reach the layer brings the average itself.
                    return old.clone();
                }
                old.averaged(&**new, old_weight)
            }),
            links: map_at_once(&device, links, link),
        }
    }
}

/// Exponentially decaying averages of every layer's estimate.
#[derive(Clone, Debug, Default)]
pub struct RunningFactors {
    /// The averages; empty before the first update.
    pub factors: FactorSet,
    /// The number of batches taken in.
    pub updates: u64,
}

impl RunningFactors {
    /// The averages after one more batch; `cap` bounds the weight of the past. `self` is left as it is,
    /// so that a step can be refused.
    #[must_use]
    pub(crate) fn updated(&self, batch: FactorSet, cap: f64) -> Self {
        let updates = self.updates + 1;
        let factors = if self.updates == 0 {
            batch
        } else {
            self.factors.averaged(&batch, old_weight(updates, cap))
        };
        Self { factors, updates }
    }
}
