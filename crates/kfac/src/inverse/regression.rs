//! What the next layer of a chain predicts of a layer (section 4.3).

use burn::tensor::Tensor;

use crate::blocks::{CrossFactors, sandwich};

/// The linear regression of a layer's parameters on those of the next: `Ψ_{i,i+1} = Ψᴬ ⊗ Ψᴳ`.
///
/// # Definition
///
/// ```text
/// Ψᴬ = Ā_{i−1,i} Ā_ii⁻¹ : [d_{i−1} + 1, d_i + 1]     Ψᴳ = G_{i,i+1} G_{i+1,i+1}⁻¹ : [d_i, d_{i+1}]
/// ```
///
/// with the diagonal factors damped, the cross-layer factors not.
#[derive(Clone, Debug)]
pub struct Regression {
    /// `Ψᴬ`.
    pub activation: Tensor<2>,
    /// `Ψᴳ`.
    pub gradient: Tensor<2>,
}

impl Regression {
    /// The regression of a layer on the next, from the factors between them and the inverses `Ā_ii⁻¹`
    /// and `G_{i+1,i+1}⁻¹` of the next one's own.
    pub(super) fn new(cross: &CrossFactors, [activation, gradient]: [&Tensor<2>; 2]) -> Self {
        Self {
            activation: cross.activation.clone().matmul(activation.clone()),
            gradient: cross.gradient.clone().matmul(gradient.clone()),
        }
    }

    /// The parts of a layer's own two factors that the next layer explains: `Ψᴬ Ā_ii Ψᴬᵀ` and
    /// `Ψᴳ G_{i+1,i+1} Ψᴳᵀ`.
    pub(super) fn explained(&self, cross: &CrossFactors) -> [Tensor<2>; 2] {
        let by = |cross: &Tensor<2>, psi: &Tensor<2>| cross.clone().matmul(psi.clone().transpose());
        [
            by(&cross.activation, &self.activation),
            by(&cross.gradient, &self.gradient),
        ]
    }

    /// `Ψ v` of a matrix of the next layer: `Ψᴬ V Ψᴳᵀ`.
    pub fn multiply(&self, v: &Tensor<2>) -> Tensor<2> {
        let right = self.gradient.clone().transpose();
        sandwich(&self.activation, v.clone(), &right)
    }

    /// `Ψᵀ v` of a matrix of this layer: `Ψᴬᵀ V Ψᴳ`.
    pub fn multiply_transposed(&self, v: &Tensor<2>) -> Tensor<2> {
        let left = self.activation.clone().transpose();
        sandwich(&left, v.clone(), &self.gradient)
    }
}
