//! Blocks of embeddings: a Kronecker product whose input factor is diagonal.

use std::sync::{Arc, OnceLock};

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{
    block::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, FactorForm, InverseMethod, Inversion,
        PreparedBlock, replaced,
    },
    eigen::{EigenInverse, EigenPair},
    host::{DeviceFactor, DiagonalFactor, FactorInverse, plus_identity},
    identity::IdentityInverse,
    magnitudes::Magnitudes,
    moments::{Moments, Pass, of_gradients, summed},
};
use crate::{
    capture::LayerUses,
    damping::{DampingRule, ProductDamping},
    error::FactorKind,
    linalg::host,
    network::{BlockDescription, Layer, WeightSharing},
    record::{Record, RecordError},
};

/// `diag(E[ā ⊙ ā]) ⊗ G`: the input factor of one-hot inputs has nothing off its diagonal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneHot;

/// `diag(ā) ⊗ G`.
#[derive(Clone, Debug)]
pub struct OneHotFactors {
    /// The diagonal of `Ā`: how often a case has each token, `[count, 1]`.
    pub activation: Tensor<2>,
    /// `G`.
    pub gradient: Tensor<2>,
}

/// The factors with what does not depend on γ.
#[derive(Debug)]
struct PreparedOneHot {
    factors: OneHotFactors,
    counts: Vec<f64>,
    pi: f64,
    method: InverseMethod,
    /// The eigendecomposition, once it is needed.
    eigen: OnceLock<EigenPair>,
}

/// The inverse of `diag(a) ⊗ B`: `U = diag(a)⁻¹ V B⁻¹`.
#[derive(Clone, Debug)]
pub struct OneHotInverse {
    /// The reciprocals of the damped diagonal, `[count, 1]`.
    pub activation: Tensor<2>,
    /// Of the output factor.
    pub gradient: FactorInverse,
}

impl BlockStructure for OneHot {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let [tokens, g] = [layer.activation_dimension(), layer.d_out];
        BlockDescription {
            structure: "one-hot kronecker".to_owned(),
            form: format!("factors {tokens} (diagonal) and {g}"),
            elements: tokens + g * g,
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        let inputs = match (pass.first, layer.sharing) {
            (false, _) => Vec::new(),
            (true, WeightSharing::Reduce) => summed(layer, uses, |one_hot| {
                let counts: Tensor<2> = one_hot.sum_dim(1).squeeze_dim(1);
                (counts.clone() * counts).sum_dim(0).transpose()
            }),
            (true, WeightSharing::Expand | WeightSharing::Automatic) => token_counts(layer, uses),
        };
        Moments {
            inputs,
            ..of_gradients(layer, uses, pass)
        }
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let [activation, gradient] = factors.try_into().ok()?;
        let fits = activation.dims() == [layer.d_in, 1] && gradient.dims() == [layer.d_out; 2];
        let factors = OneHotFactors {
            activation,
            gradient,
        };
        fits.then(|| Arc::new(factors) as Arc<dyn BlockEstimate>)
    }

    fn restore(
        &self,
        _layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        match record.form.as_str() {
            OneHotInverse::FORM => Ok(Arc::new(OneHotInverse {
                activation: record.tensor("activation")?,
                gradient: FactorInverse::restore(record.part(0)?)?,
            })),
            EigenInverse::FORM => Ok(Arc::new(EigenInverse::restore(record, 1)?)),
            IdentityInverse::FORM => Ok(Arc::new(IdentityInverse::restore(record)?)),
            _ => Err(record.of_other_form("`one-hot`, `eigen` or `identity`")),
        }
    }
}

/// How often each token occurs, `[count, 1]`.
fn token_counts(layer: &Layer, uses: &LayerUses) -> Vec<Tensor<2>> {
    let counts = uses.tokens().map(|(tokens, weights)| {
        let occurrences = weights.dims().iter().product();
        // In half precision counting ends at 256 or 2048.
        let weights = host::at_least_single(weights.reshape([occurrences, 1]));
        sum_by_token(tokens.flatten(0, 1), weights, layer.d_in)
    });
    counts.into_iter().collect()
}

/// Adds up values by token: row `t` of the result, `[count, d]`, is the sum of the values `[n, d]` of
/// token `t`.
fn sum_by_token(tokens: Tensor<1, Int>, values: Tensor<2>, count: usize) -> Tensor<2> {
    let d = values.dims()[1];
    let zeros = Tensor::<2>::zeros([count, d], (&values.device(), values.dtype()));
    zeros.select_assign(0, tokens, values, IndexingUpdateOp::Add)
}

impl BlockEstimate for OneHotFactors {
    fn factors(&self) -> Vec<Factor<'_>> {
        vec![
            Factor {
                kind: FactorKind::Activation,
                form: FactorForm::Diagonal,
                tensor: &self.activation,
            },
            Factor {
                kind: FactorKind::Gradient,
                form: FactorForm::SecondMoment,
                tensor: &self.gradient,
            },
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
        (v * self.activation.clone()).matmul(self.gradient.clone())
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let pi = self.prepared(rule, InverseMethod::Automatic).pi;
        match rule.product(gamma, pi) {
            ProductDamping::Factored {
                activation,
                gradient,
            } => Some(Arc::new(Self {
                activation: self.activation.clone() + activation,
                gradient: plus_identity(&self.gradient, gradient),
            })),
            ProductDamping::Exact(_) => None,
        }
    }

    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(self.prepared(rule, method))
    }
}

impl OneHotFactors {
    fn prepared(&self, rule: &dyn DampingRule, method: InverseMethod) -> PreparedOneHot {
        let counts: Vec<f64> = host::to_vec(&self.activation);
        PreparedOneHot {
            pi: rule.balance(&DiagonalFactor(&counts), &DeviceFactor(&self.gradient)),
            factors: self.clone(),
            counts,
            method,
            eigen: OnceLock::new(),
        }
    }
}

impl PreparedOneHot {
    fn factored(&self, activation: f64, gradient: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let factor = &self.factors.gradient;
        let gradient = FactorInverse::of(factor, FactorKind::Gradient, gradient);
        gradient.map(|gradient| {
            let damped = self.counts.iter().map(|count| count + activation);
            let reciprocals: Vec<f64> = damped.map(f64::recip).collect();
            let shape = [self.counts.len(), 1];
            Arc::new(OneHotInverse {
                activation: host::of_values(reciprocals, shape, &factor.device(), factor.dtype()),
                gradient,
            }) as Arc<dyn BlockInverse>
        })
    }
}

impl PreparedBlock for PreparedOneHot {
    fn pi(&self) -> f64 {
        self.pi
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let damping = rule.product(gamma, self.pi);
        if let Some([activation, gradient]) = self.method.of_factors(damping) {
            return self.factored(activation, gradient);
        }
        let (counts, gradient) = (&self.counts, &self.factors.gradient);
        let eigen = || EigenPair::of_diagonal(counts.clone(), gradient);
        let basis = self.eigen.get_or_init(eigen).damped(damping);
        basis.map(|basis| Arc::new(EigenInverse::new(vec![basis])) as Arc<dyn BlockInverse>)
    }
}

impl OneHotInverse {
    const FORM: &str = "one-hot";
}

impl BlockInverse for OneHotInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        (v * self.activation.clone()).matmul(self.gradient.inverse.clone())
    }

    fn magnitudes(&self) -> Magnitudes {
        let reciprocals: Vec<f64> = host::to_vec(&self.activation);
        let damped = Magnitudes::of_eigenvalues(reciprocals.into_iter().map(f64::recip));
        damped.times(self.gradient.magnitudes)
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM)
            .with_tensor("activation", &self.activation)
            .with_parts(vec![self.gradient.record()])
    }
}
