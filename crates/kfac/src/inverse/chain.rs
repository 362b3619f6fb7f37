//! The link between a layer and the next one of its chain (section 4.3).

use super::{
    conditional::{ConditionalInverse, LinkedLayer},
    regression::Regression,
};
use crate::{
    blocks::{CrossFactors, InverseMethod, Inversion},
    linalg::host::Scalar,
};

/// A layer given the next one of its chain.
///
/// # Definition
///
/// ```text
/// Σ_{i|i+1} = Ā_{i−1,i−1} ⊗ G_ii − (Ψᴬ Ā_ii Ψᴬᵀ) ⊗ (Ψᴳ G_{i+1,i+1} Ψᴳᵀ)
/// ```
#[derive(Clone, Debug)]
pub struct ChainLink {
    /// `Ψ_{i,i+1}`: what the next layer predicts of this one.
    pub regression: Regression,
    /// `Σ_{i|i+1}⁻¹`: the inverse covariance of this layer given the next.
    pub conditional: ConditionalInverse,
}

impl ChainLink {
    /// The link of a layer to the next, or nothing where an eigendecomposition fails.
    pub(super) fn new<E: Scalar>(
        layer: &LinkedLayer<E>,
        next: &LinkedLayer<E>,
        cross: &CrossFactors,
        method: InverseMethod,
    ) -> Inversion<Self> {
        let inverses = [&next.activation, &next.gradient].map(|factor| &factor.inverse.inverse);
        let regression = Regression::new(cross, inverses);
        let conditional = layer.given(next, cross, &regression, method);
        conditional.map(|conditional| Self {
            regression,
            conditional,
        })
    }
}
