//! The block-diagonal approximation `F̌` (section 4.2).

use burn::tensor::Tensor;

use crate::vector::ParameterVector;

/// The inverse of one layer's damped block.
///
/// # Shapes
///
/// All matrices that it multiplies are `[d_in + 1, d_out]`, the transpose of the paper's `W`.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "tensors are handles; there is one block a layer"
)]
pub enum BlockInverse {
    /// `U = (Ā + πγI)⁻¹ V (G + γ/π I)⁻¹` with both inverses formed.
    Factored {
        /// `(Ā + πγI)⁻¹`.
        activation: Tensor<2>,
        /// `(G + γ/π I)⁻¹`.
        gradient: Tensor<2>,
    },
    /// `U = Q_A [(Q_Aᵀ V Q_G) ⊙ S] Q_Gᵀ` in the eigenbases of the undamped factors.
    Eigen {
        /// Eigenvectors of `Ā`, as columns.
        activation_basis: Tensor<2>,
        /// Eigenvectors of `G`, as columns.
        gradient_basis: Tensor<2>,
        /// The reciprocals of the damped eigenvalues, `[d_in + 1, d_out]`.
        reciprocals: Tensor<2>,
    },
}

impl BlockInverse {
    /// The inverse block times a layer's matrix.
    ///
    /// # Cost
    ///
    /// `d_in d_out (d_in + d_out)` multiply-adds, twice that in the eigenbasis.
    pub fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Factored {
                activation,
                gradient,
            } => activation.clone().matmul(v).matmul(gradient.clone()),
            Self::Eigen {
                activation_basis: qa,
                gradient_basis: qg,
                reciprocals,
            } => {
                let rotated = qa.clone().transpose().matmul(v).matmul(qg.clone());
                let scaled = rotated * reciprocals.clone();
                qa.clone().matmul(scaled).matmul(qg.clone().transpose())
            }
        }
    }
}

/// The inverse of the damped block-diagonal Fisher approximation.
///
/// # Definition
///
/// ```text
/// F̌ = diag(Ā₀₀ ⊗ G₁₁, …, Ā_{ℓ−1,ℓ−1} ⊗ G_ℓℓ),   U_i = G_ii⁻¹ V_i Ā_{i−1,i−1}⁻¹  (the paper's layout)
/// ```
///
/// # References
///
/// Martens and Grosse (2015), section 4.2, arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct BlockDiagonalInverse {
    blocks: Vec<BlockInverse>,
}

impl BlockDiagonalInverse {
    /// An inverse of one block a layer.
    pub fn new(blocks: Vec<BlockInverse>) -> Self {
        Self { blocks }
    }

    /// The blocks, in the order of the layers.
    pub fn blocks(&self) -> &[BlockInverse] {
        &self.blocks
    }

    /// `F̌⁻¹ v`.
    pub fn multiply(&self, v: &ParameterVector) -> ParameterVector {
        let product = |(inverse, v): (&BlockInverse, &Tensor<2>)| inverse.multiply(v.clone());
        ParameterVector::new(self.blocks.iter().zip(v.blocks()).map(product).collect())
    }
}
