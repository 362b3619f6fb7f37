//! The damped approximate inverse of the Fisher (sections 4.2 and 4.3).

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::chain::ChainLink;
use crate::{
    blocks::BlockInverse,
    error::StepError,
    network::{Layers, ParameterVector},
};

/// The structure of the approximate inverse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum InverseStructure {
    /// Each layer on its own.
    ///
    /// `F̌⁻¹` (section 4.2).
    #[default]
    #[cfg_attr(feature = "clap", value(name = "diagonal"))]
    BlockDiagonal,
    /// Each layer with the next one of its chain: more progress an iteration, at more cost.
    ///
    /// `F̂⁻¹` (section 4.3). The refresh needs eigendecompositions and each step about four times the
    /// products.
    ///
    /// Chains are runs of dense layers, in the order of the forward pass, that are each used once and
    /// at one position a case; all other layers are block-diagonal, and the parameter table says which.
    #[cfg_attr(feature = "clap", value(name = "tridiagonal"))]
    BlockTridiagonal,
}

/// The damped approximate inverse of the Fisher: one block a layer, and links between neighbours in
/// chains.
///
/// # Definition
///
/// Without links, the inverse of the block-diagonal `F̌`:
///
/// ```text
/// F̌ = diag(Ā₀₀ ⊗ G₁₁, …, Ā_{ℓ−1,ℓ−1} ⊗ G_ℓℓ),   U_i = G_ii⁻¹ V_i Ā_{i−1,i−1}⁻¹  (the paper's layout)
/// ```
///
/// With them, the inverse of `F̂`, the matrix that agrees with the Kronecker-factored Fisher `F̃` on its
/// block tridiagonal and has a block-tridiagonal inverse:
///
/// ```text
/// F̂⁻¹ = Ξᵀ Λ Ξ,  Ξ: −Ψ_{i,i+1} beside the identity,  Λ = diag(Σ_{1|2}⁻¹, …, Σ_{ℓ−1|ℓ}⁻¹, Σ_ℓ⁻¹)
/// ```
///
/// with `Ψ` and `Σ` of [`ChainLink`]. A layer without a link to the next ends a chain; a layer outside
/// all chains is block-diagonal.
///
/// # References
///
/// Martens and Grosse (2015), sections 4.2 and 4.3, arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct FisherInverse {
    blocks: Vec<Arc<dyn BlockInverse>>,
    links: Vec<Option<ChainLink>>,
}

impl FisherInverse {
    /// An inverse of one block a layer, and the link of each layer to the next, as many.
    pub fn new(blocks: Vec<Arc<dyn BlockInverse>>, links: Vec<Option<ChainLink>>) -> Self {
        Self { blocks, links }
    }

    /// The inverse of each layer's own block.
    pub fn blocks(&self) -> &[Arc<dyn BlockInverse>] {
        &self.blocks
    }

    /// The link of each layer to the next one of its chain.
    pub fn links(&self) -> &[Option<ChainLink>] {
        &self.links
    }

    /// The inverse with other blocks.
    pub(super) fn with_blocks(&self, blocks: Vec<Arc<dyn BlockInverse>>) -> Self {
        Self {
            blocks,
            links: self.links.clone(),
        }
    }

    /// The inverse times a vector.
    ///
    /// # Cost
    ///
    /// `d_in d_out (d_in + d_out)` multiply-adds a layer; about four times that in chains, in three
    /// passes, each over all layers independently.
    pub fn multiply(&self, v: &ParameterVector) -> ParameterVector {
        if self.links.iter().all(Option::is_none) {
            return self.multiply_lambda(v);
        }
        let residual = self.multiply_xi(v);
        let weighted = self.multiply_lambda(&residual);
        self.multiply_xi_transposed(&weighted)
    }

    /// The inverse times a vector of the layers.
    ///
    /// # Errors
    ///
    /// [`StepError::BlockShape`] where a block of the user's own gives another shape.
    pub(crate) fn multiply_layers(
        &self,
        layers: &Layers,
        v: &ParameterVector,
    ) -> Result<ParameterVector, StepError> {
        let product = self.multiply(v);
        let blocks = v.blocks().iter().zip(product.blocks()).enumerate();
        for (layer, (v, product)) in blocks {
            if product.dims() != v.dims() {
                return Err(StepError::BlockShape {
                    layer: layers.path(layer).to_owned(),
                    quantity: "product with the inverse",
                    expected: v.dims(),
                    found: product.dims(),
                });
            }
        }
        Ok(product)
    }

    /// `Λ v`: each layer's block given the next layer, its own where there is no link.
    fn multiply_lambda(&self, v: &ParameterVector) -> ParameterVector {
        let product = |(index, v): (usize, &Tensor<2>)| match &self.links[index] {
            Some(link) => link.conditional.multiply(v.clone()),
            None => self.blocks[index].multiply(v.clone()),
        };
        ParameterVector::new(v.blocks().iter().enumerate().map(product).collect())
    }

    /// `Ξ v`: each layer less what the next one predicts of it.
    fn multiply_xi(&self, v: &ParameterVector) -> ParameterVector {
        let v = v.blocks();
        let block = |(layer, link): (usize, &Option<ChainLink>)| match link {
            Some(link) => v[layer].clone() - link.regression.multiply(&v[layer + 1]),
            None => v[layer].clone(),
        };
        ParameterVector::new(self.links.iter().enumerate().map(block).collect())
    }

    /// `Ξᵀ v`.
    fn multiply_xi_transposed(&self, v: &ParameterVector) -> ParameterVector {
        let v = v.blocks();
        let from_before = |layer: usize| self.links.get(layer.checked_sub(1)?)?.as_ref();
        let block = |layer: usize| match from_before(layer) {
            Some(link) => v[layer].clone() - link.regression.multiply_transposed(&v[layer - 1]),
            None => v[layer].clone(),
        };
        ParameterVector::new((0..v.len()).map(block).collect())
    }
}
