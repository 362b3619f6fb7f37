//! Which blocks the approximate inverse has (section 4).

use serde::{Deserialize, Serialize};

use super::{
    block::BlockInverse, block_diagonal::BlockDiagonalInverse,
    block_tridiagonal::BlockTridiagonalInverse,
};
use crate::vector::ParameterVector;

/// The structure of the approximate inverse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InverseStructure {
    /// `F̌⁻¹`: each layer on its own (section 4.2).
    #[default]
    BlockDiagonal,
    /// `F̂⁻¹`: each layer with the next one of its chain (section 4.3). More progress an iteration;
    /// the refresh needs eigendecompositions and each step about four times the products.
    ///
    /// Chains are runs of dense layers, in the order of the forward pass, that are each used once and
    /// at one position a case; all other layers are block-diagonal, and the parameter table says which.
    BlockTridiagonal,
}

/// The damped approximate inverse of the Fisher.
#[derive(Clone, Debug)]
pub enum FisherInverse {
    /// `F̌⁻¹`.
    BlockDiagonal(BlockDiagonalInverse),
    /// `F̂⁻¹`.
    BlockTridiagonal(BlockTridiagonalInverse),
}

impl FisherInverse {
    /// The inverse times a vector.
    pub fn multiply(&self, v: &ParameterVector) -> ParameterVector {
        match self {
            Self::BlockDiagonal(inverse) => inverse.multiply(v),
            Self::BlockTridiagonal(inverse) => inverse.multiply(v),
        }
    }

    /// The block-diagonal inverse whose blocks are made from these, by layer.
    pub(super) fn map_blocks(&self, block: impl Fn(usize, &BlockInverse) -> BlockInverse) -> Self {
        let blocks = self.blocks().iter().enumerate();
        let blocks = blocks.map(|(layer, old)| block(layer, old)).collect();
        Self::BlockDiagonal(BlockDiagonalInverse::new(blocks))
    }

    /// Each layer's own block: of the inverse, or of `Λ` within `F̂⁻¹ = Ξᵀ Λ Ξ`.
    pub fn blocks(&self) -> &[BlockInverse] {
        match self {
            Self::BlockDiagonal(inverse) => inverse.blocks(),
            Self::BlockTridiagonal(inverse) => inverse.conditional().blocks(),
        }
    }
}
