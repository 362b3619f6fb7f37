//! The approximation `F̂` whose inverse is block-tridiagonal (section 4.3).

use burn::tensor::Tensor;

use super::{
    block::{KroneckerInverse, sandwich},
    block_diagonal::BlockDiagonalInverse,
};
use crate::{statistics::CrossFactors, vector::ParameterVector};

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
    /// The regression of a layer on the next, from the factors between them and the inverses of the
    /// next one's own.
    pub fn new(cross: &CrossFactors, next: &KroneckerInverse) -> Self {
        Self {
            activation: cross.activation.clone().matmul(next.activation.clone()),
            gradient: cross.gradient.clone().matmul(next.gradient.clone()),
        }
    }

    /// The parts of a layer's own two factors that the next layer explains: `Ψᴬ Ā_ii Ψᴬᵀ` and
    /// `Ψᴳ G_{i+1,i+1} Ψᴳᵀ`.
    pub fn explained(&self, cross: &CrossFactors) -> [Tensor<2>; 2] {
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

/// The inverse of `F̂`, the matrix that agrees with the Kronecker-factored Fisher `F̃` on its block
/// tridiagonal and has a block-tridiagonal inverse.
///
/// # Definition
///
/// ```text
/// F̂⁻¹ = Ξᵀ Λ Ξ,  Ξ: −Ψ_{i,i+1} beside the identity,  Λ = diag(Σ_{1|2}⁻¹, …, Σ_{ℓ−1|ℓ}⁻¹, Σ_ℓ⁻¹)
/// Σ_{i|i+1} = Ā_{i−1,i−1} ⊗ G_ii − (Ψᴬ Ā_ii Ψᴬᵀ) ⊗ (Ψᴳ G_{i+1,i+1} Ψᴳᵀ)
/// ```
///
/// Layers without a regression on the next end a chain; a layer outside all chains is
/// block-diagonal.
///
/// # References
///
/// Martens and Grosse (2015), section 4.3, arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct BlockTridiagonalInverse {
    conditional: BlockDiagonalInverse,
    regressions: Vec<Option<Regression>>,
}

impl BlockTridiagonalInverse {
    /// An inverse from `Λ`, and each layer's regression on the next.
    pub fn new(conditional: BlockDiagonalInverse, regressions: Vec<Option<Regression>>) -> Self {
        Self {
            conditional,
            regressions,
        }
    }

    /// `Λ`: the inverse covariance of each layer given the next.
    pub fn conditional(&self) -> &BlockDiagonalInverse {
        &self.conditional
    }

    /// `Ψ_{i,i+1}` of each layer, `None` where the next one is in no chain with it.
    pub fn regressions(&self) -> &[Option<Regression>] {
        &self.regressions
    }

    /// `F̂⁻¹ v`, in three passes, each over all layers independently.
    pub fn multiply(&self, v: &ParameterVector) -> ParameterVector {
        let residual = self.multiply_xi(v);
        let weighted = self.conditional.multiply(&residual);
        self.multiply_xi_transposed(&weighted)
    }

    /// `Ξ v`: each layer less what the next one predicts of it.
    fn multiply_xi(&self, v: &ParameterVector) -> ParameterVector {
        let v = v.blocks();
        let block = |(layer, regression): (usize, &Option<Regression>)| match regression {
            Some(psi) => v[layer].clone() - psi.multiply(&v[layer + 1]),
            None => v[layer].clone(),
        };
        ParameterVector::new(self.regressions.iter().enumerate().map(block).collect())
    }

    /// `Ξᵀ v`.
    fn multiply_xi_transposed(&self, v: &ParameterVector) -> ParameterVector {
        let v = v.blocks();
        let from_before = |layer: usize| self.regressions.get(layer.checked_sub(1)?)?.as_ref();
        let block = |layer: usize| match from_before(layer) {
            Some(psi) => v[layer].clone() - psi.multiply_transposed(&v[layer - 1]),
            None => v[layer].clone(),
        };
        ParameterVector::new((0..v.len()).map(block).collect())
    }
}
