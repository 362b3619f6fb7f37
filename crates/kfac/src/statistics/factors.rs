//! The two factors of a layer's block.

use burn::tensor::Tensor;

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

impl KroneckerFactors {
    /// `old_weight · self + (1 − old_weight) · new`.
    pub(super) fn averaged(&self, new: &Self, old_weight: f64) -> Self {
        let mix = |old: &Tensor<2>, new: &Tensor<2>| {
            old.clone() * old_weight + new.clone() * (1.0 - old_weight)
        };
        Self {
            activation: mix(&self.activation, &new.activation),
            gradient: mix(&self.gradient, &new.gradient),
        }
    }

    /// The factor with an element that is not finite, if any.
    ///
    /// The diagonal tells: by Cauchy and Schwarz no element of a second moment is larger than the
    /// diagonal's, and a NaN in a column reaches its diagonal element.
    pub(crate) fn non_finite(&self) -> Option<FactorKind> {
        let finite = |factor: &Tensor<2>| {
            let identity = Tensor::<2>::eye(factor.dims()[0], &factor.device());
            let diagonal = factor
                .clone()
                .mask_where(identity.equal_elem(0.0), factor.zeros_like());
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
