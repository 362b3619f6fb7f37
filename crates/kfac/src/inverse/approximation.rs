//! The approximations of the Fisher itself, `F̌` and `F̂`, as products (sections 4.2 and 4.3).

use burn::tensor::Tensor;

use super::regression::Regression;
use crate::{
    blocks::{CrossFactors, FactorSet, KroneckerFactors, sandwich},
    linalg::{self, NotPositiveDefinite, host},
    network::ParameterVector,
};

/// The approximate Fisher matrix of some factors: `F̂` where layers are linked, and `F̌` where none
/// are.
///
/// The optimizer only needs inverses; this is for checks, and for those who need the curvature.
///
/// # Definition
///
/// ```text
/// F̂ = Ξ⁻¹ Λ⁻¹ Ξ⁻ᵀ
/// ```
///
/// with the matrices of [`FisherInverse`](super::FisherInverse).
///
/// # Example
///
/// ```
/// # use std::sync::Arc;
/// # use burn::tensor::Tensor;
/// # use kfac::{
/// #     ParameterVector,
/// #     blocks::{FactorSet, KroneckerFactors},
/// #     curvature::FisherApproximation,
/// # };
/// # let device = burn::tensor::Device::default();
/// let factors = FactorSet {
///     blocks: vec![Arc::new(KroneckerFactors {
///         activation: Tensor::eye(3, &device) * 2.0,
///         gradient: Tensor::eye(2, &device) * 3.0,
///     })],
///     links: vec![None],
/// };
/// let fisher = FisherApproximation::new(factors)?;
/// let v = ParameterVector::new(vec![Tensor::ones([3, 2], &device)]);
/// assert!((fisher.multiply(&v).dot(&v) - 36.0).abs() < 1e-4);
/// # Ok::<(), kfac::curvature::NotPositiveDefinite>(())
/// ```
#[derive(Clone, Debug)]
pub struct FisherApproximation {
    factors: FactorSet,
    regressions: Vec<Option<Regression>>,
}

impl FisherApproximation {
    /// The approximation of some factors, damped by [`FactorSet::damped`] or not.
    ///
    /// # Errors
    ///
    /// [`NotPositiveDefinite`] where the factor of a layer that another one is linked to is singular,
    /// for instance when it was estimated from fewer cases than it has rows.
    pub fn new(factors: FactorSet) -> Result<Self, NotPositiveDefinite> {
        let inverse = |factor: &Tensor<2>| {
            let (cholesky, _) = linalg::factorise::<f64>(&host::to_host(factor), 0.0)?;
            let (device, dtype) = (factor.device(), factor.dtype());
            Ok(host::to_device(&cholesky.inverse, &device, dtype))
        };
        let regression = |(layer, link): (usize, &Option<CrossFactors>)| {
            // Only layers whose blocks are both single Kronecker products are linked.
            let product = |layer: usize| factors.blocks.get(layer)?.downcast::<KroneckerFactors>();
            let both = product(layer).zip(product(layer + 1));
            let (Some(cross), Some((_, next))) = (link, both) else {
                return Ok(None);
            };
            let inverses = [inverse(&next.activation)?, inverse(&next.gradient)?];
            Ok(Some(Regression::new(cross, inverses.each_ref())))
        };
        let regressions = factors.links.iter().enumerate().map(regression);
        Ok(Self {
            regressions: regressions.collect::<Result<_, _>>()?,
            factors,
        })
    }

    /// The approximate Fisher times a vector.
    pub fn multiply(&self, v: &ParameterVector) -> ParameterVector {
        let mut blocks = v.blocks().to_vec();
        // Ξ⁻ᵀ, from the first layer to the last.
        for layer in 1..blocks.len() {
            if let Some(psi) = &self.regressions[layer - 1] {
                let predicted = psi.multiply_transposed(&blocks[layer - 1]);
                blocks[layer] = blocks[layer].clone() + predicted;
            }
        }
        // Λ⁻¹
        for (layer, block) in blocks.iter_mut().enumerate() {
            *block = self.multiply_conditional(layer, block.clone());
        }
        // Ξ⁻¹, from the last layer to the first.
        for layer in (1..blocks.len()).rev() {
            if let Some(psi) = &self.regressions[layer - 1] {
                let predicted = psi.multiply(&blocks[layer]);
                blocks[layer - 1] = blocks[layer - 1].clone() + predicted;
            }
        }
        ParameterVector::new(blocks)
    }

    /// `Σ_{i|i+1} v`, or `Σ_i v` at the end of a chain.
    fn multiply_conditional(&self, layer: usize, v: Tensor<2>) -> Tensor<2> {
        let own = self.factors.blocks[layer].multiply(v.clone());
        match (&self.factors.links[layer], &self.regressions[layer]) {
            (Some(cross), Some(psi)) => {
                let [c, d] = psi.explained(cross);
                own - sandwich(&c, v, &d)
            }
            _ => own,
        }
    }
}
