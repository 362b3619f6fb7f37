//! Blocks that are one Kronecker product of two factors.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use super::{
    block::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, FactorForm, InverseMethod, Inversion,
        PreparedBlock, replaced,
    },
    eigen::{EigenBasis, EigenInverse, EigenPair},
    host::{DeviceFactor, FactorInverse, plus_identity},
    identity::IdentityInverse,
    magnitudes::Magnitudes,
    moments::{Moments, Pass, of_product},
    products::sandwich,
};
use crate::{
    capture::LayerUses,
    damping::{DampingRule, ProductDamping},
    error::FactorKind,
    network::{BlockDescription, Layer},
    record::{Record, RecordError},
};

/// `Ā ⊗ G`: layers that multiply rows of inputs by a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kronecker;

/// The Kronecker factors of one layer: its Fisher block is `Ā ⊗ G`.
///
/// # Definition
///
/// ```text
/// Ā = E[ā āᵀ]   over the training cases
/// G = E[g gᵀ]   over the training cases and targets sampled from the model
/// ```
///
/// For a layer applied at `R` positions a case see [`WeightSharing`](crate::WeightSharing).
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

/// The factors with what does not depend on γ.
#[derive(Debug)]
pub(crate) struct PreparedKronecker {
    factors: KroneckerFactors,
    pi: f64,
    method: InverseMethod,
    /// The eigendecompositions, once they are needed.
    eigen: OnceLock<EigenPair>,
}

/// The inverse of a Kronecker product, both damped factors inverted: `U = A⁻¹ V B⁻¹`.
#[derive(Clone, Debug)]
pub struct KroneckerInverse {
    /// Of the input factor.
    pub activation: FactorInverse,
    /// Of the output factor.
    pub gradient: FactorInverse,
}

impl BlockStructure for Kronecker {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let [a, g] = [layer.activation_dimension(), layer.gradient_dimension()];
        BlockDescription {
            structure: "kronecker".to_owned(),
            form: format!("factors {a} and {g}"),
            elements: a * a + g * g,
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        of_product(layer, uses, pass)
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let [activation, gradient] = factors.try_into().ok()?;
        let factors = KroneckerFactors {
            activation,
            gradient,
        };
        let expected = [layer.activation_dimension(), layer.gradient_dimension()];
        (factors.dimensions() == expected).then(|| Arc::new(factors) as Arc<dyn BlockEstimate>)
    }

    fn restore(
        &self,
        _layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        match record.form.as_str() {
            KroneckerInverse::FORM => Ok(Arc::new(KroneckerInverse::restore(record)?)),
            EigenInverse::FORM => Ok(Arc::new(EigenInverse::restore(record, 1)?)),
            IdentityInverse::FORM => Ok(Arc::new(IdentityInverse::restore(record)?)),
            _ => Err(record.of_other_form("`kronecker`, `eigen` or `identity`")),
        }
    }
}

impl KroneckerFactors {
    pub(super) fn dimensions(&self) -> [usize; 2] {
        [self.activation.dims()[0], self.gradient.dims()[0]]
    }

    /// What the inverses for all γ share.
    pub(crate) fn prepared(
        &self,
        rule: &dyn DampingRule,
        method: InverseMethod,
    ) -> PreparedKronecker {
        let norms = [&self.activation, &self.gradient].map(DeviceFactor);
        PreparedKronecker {
            factors: self.clone(),
            pi: rule.balance(&norms[0], &norms[1]),
            method,
            eigen: OnceLock::new(),
        }
    }

    /// The factors with a factored damping on their diagonals.
    pub(super) fn with_damping(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Self> {
        let pi = self.prepared(rule, InverseMethod::Automatic).pi;
        match rule.product(gamma, pi) {
            ProductDamping::Factored {
                activation,
                gradient,
            } => Some(Self {
                activation: plus_identity(&self.activation, activation),
                gradient: plus_identity(&self.gradient, gradient),
            }),
            ProductDamping::Exact(_) => None,
        }
    }
}

impl BlockEstimate for KroneckerFactors {
    fn factors(&self) -> Vec<Factor<'_>> {
        let factor = |kind, tensor| Factor {
            kind,
            form: FactorForm::SecondMoment,
            tensor,
        };
        vec![
            factor(FactorKind::Activation, &self.activation),
            factor(FactorKind::Gradient, &self.gradient),
        ]
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        let [activation, gradient] = replaced([&self.activation, &self.gradient], factors);
        Arc::new(Self {
            activation,
            gradient,
        })
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        sandwich(&self.activation, v, &self.gradient)
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let damped = self.with_damping(rule, gamma)?;
        Some(Arc::new(damped))
    }

    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(self.prepared(rule, method))
    }
}

impl PreparedKronecker {
    /// The estimate.
    pub(crate) fn factors(&self) -> &KroneckerFactors {
        &self.factors
    }

    /// The inverse in the factors' eigenbases where the method or the damping asks for it, otherwise
    /// that of both damped factors.
    pub(super) fn inverse(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<ProductInverse> {
        let damping = rule.product(gamma, self.pi);
        let Some([activation, gradient]) = self.method.of_factors(damping) else {
            let basis = self.in_eigenbases(damping);
            return basis.map(|basis| ProductInverse::Eigen(Box::new(basis)));
        };
        let factors = &self.factors;
        let activation = FactorInverse::of(&factors.activation, FactorKind::Activation, activation);
        let gradient = FactorInverse::of(&factors.gradient, FactorKind::Gradient, gradient);
        activation.zip(gradient).map(|(activation, gradient)| {
            ProductInverse::Factored(Box::new(KroneckerInverse {
                activation,
                gradient,
            }))
        })
    }

    fn in_eigenbases(&self, damping: ProductDamping) -> Inversion<EigenBasis> {
        let eigen = self
            .eigen
            .get_or_init(|| EigenPair::of(&self.factors.activation, &self.factors.gradient));
        eigen.damped(damping)
    }
}

/// Either form of the inverse of a product.
#[derive(Clone, Debug)]
pub(super) enum ProductInverse {
    Factored(Box<KroneckerInverse>),
    Eigen(Box<EigenBasis>),
}

impl PreparedBlock for PreparedKronecker {
    fn pi(&self) -> f64 {
        self.pi
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        self.inverse(rule, gamma)
            .map(|inverse| -> Arc<dyn BlockInverse> {
                match inverse {
                    ProductInverse::Factored(inverse) => Arc::new(*inverse),
                    ProductInverse::Eigen(basis) => Arc::new(EigenInverse::new(vec![*basis])),
                }
            })
    }
}

impl KroneckerInverse {
    pub(super) const FORM: &str = "kronecker";

    pub(super) fn restore(record: &Record) -> Result<Self, RecordError> {
        record.expect_form(Self::FORM)?;
        Ok(Self {
            activation: FactorInverse::restore(record.part(0)?)?,
            gradient: FactorInverse::restore(record.part(1)?)?,
        })
    }
}

impl BlockInverse for KroneckerInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        sandwich(&self.activation.inverse, v, &self.gradient.inverse)
    }

    fn magnitudes(&self) -> Magnitudes {
        self.activation.magnitudes.times(self.gradient.magnitudes)
    }

    fn record(&self) -> Record {
        let parts = [&self.activation, &self.gradient].map(FactorInverse::record);
        Record::new(Self::FORM).with_parts(parts.into())
    }
}
