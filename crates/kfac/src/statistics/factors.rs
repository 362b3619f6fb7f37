//! The Kronecker factors: two a layer, and two between neighbours in a chain.

use burn::tensor::{Tensor, s};
use rayon::prelude::*;

use crate::linalg::host;

/// The Kronecker factors of one dense layer: its Fisher block is `Ā ⊗ G`.
///
/// # Definition
///
/// ```text
/// Ā = E[ā āᵀ]   over the training cases
/// G = E[g gᵀ]   over the training cases and targets sampled from the model
/// ```
///
/// For a layer applied at `R` positions a case, `Ā` is the sum and `G` the mean over positions.
///
/// # Shapes
///
/// `activation` is `[d_in + 1, d_in + 1]` (`[d_in, d_in]` without bias), `gradient` is
/// `[d_out, d_out]`.
///
/// # References
///
/// Martens and Grosse (2015), section 3, arXiv 1503.05671; Eschenhagen et al. (2023) for positions.
#[derive(Clone, Debug)]
pub struct KroneckerFactors {
    /// `Ā`, the second moment of the layer's inputs.
    pub activation: Tensor<2>,
    /// `G`, the second moment of the gradients at its outputs.
    pub gradient: Tensor<2>,
}

/// Which of the two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorKind {
    /// `Ā`.
    Activation,
    /// `G`.
    Gradient,
}

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

/// The factors of all layers.
#[derive(Clone, Debug, Default)]
pub struct FactorSet {
    /// The factors of each layer.
    pub layers: Vec<KroneckerFactors>,
    /// The factors between each layer and the next, `None` where the two are not neighbours in a
    /// chain or the structure of the inverse does not use them. As many as layers.
    pub links: Vec<Option<CrossFactors>>,
}

impl FactorSet {
    /// The factors with `π γ I` added to each layer's `Ā` and `γ / π I` to its `G` (section 6.3). The
    /// factors between layers stay as they are.
    #[must_use]
    pub fn damped(&self, gamma: f64, pi: &[f64]) -> Self {
        let plus = |factor: &Tensor<2>, damping: f64| {
            let identity =
                Tensor::<2>::eye(factor.dims()[0], &factor.device()).cast(factor.dtype());
            factor.clone() + identity * damping
        };
        let layers = self
            .layers
            .iter()
            .zip(pi)
            .map(|(factors, pi)| KroneckerFactors {
                activation: plus(&factors.activation, pi * gamma),
                gradient: plus(&factors.gradient, gamma / pi),
            });
        Self {
            layers: layers.collect(),
            links: self.links.clone(),
        }
    }

    /// `old_weight · self + (1 − old_weight) · new`, the layers at the same time.
    pub(super) fn averaged(&self, new: Self, old_weight: f64) -> Self {
        let mix =
            |old: &Tensor<2>, new: Tensor<2>| new * (1.0 - old_weight) + old.clone() * old_weight;
        let layer = |(old, new): (&KroneckerFactors, KroneckerFactors)| KroneckerFactors {
            activation: mix(&old.activation, new.activation),
            gradient: mix(&old.gradient, new.gradient),
        };
        let link = |(old, new): (&Option<CrossFactors>, Option<CrossFactors>)| {
            let (old, new) = old.as_ref().zip(new)?;
            Some(CrossFactors {
                activation: mix(&old.activation, new.activation),
                gradient: mix(&old.gradient, new.gradient),
            })
        };
        let layers = self.layers.par_iter().zip(new.layers);
        let links = self.links.par_iter().zip(new.links);
        Self {
            layers: layers.map(layer).collect(),
            links: links.map(link).collect(),
        }
    }
}

impl KroneckerFactors {
    /// The factor with an element that is not finite, if any.
    ///
    /// The diagonal tells: by Cauchy and Schwarz no element of a second moment is larger than the
    /// diagonal's, and a NaN in a column reaches its diagonal element.
    pub(crate) fn non_finite(&self) -> Option<FactorKind> {
        let finite = |factor: &Tensor<2>| {
            let dimension = factor.dims()[0];
            let elements = factor.clone().reshape([dimension * dimension]);
            let diagonal: Tensor<1> = elements.slice(s![..;dimension.cast_signed() + 1]);
            host::sum(diagonal).is_finite()
        };
        if !finite(&self.activation) {
            Some(FactorKind::Activation)
        } else if !finite(&self.gradient) {
            Some(FactorKind::Gradient)
        } else {
            None
        }
    }
}
