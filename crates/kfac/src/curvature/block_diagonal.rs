//! The block-diagonal approximation `F̌` (section 4.2).

use burn::tensor::Tensor;

use super::block::BlockInverse;
use crate::vector::ParameterVector;

/// The inverse of a damped block-diagonal matrix, one block a layer.
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
