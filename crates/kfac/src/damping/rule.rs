//! What a damping rule decides: how γ enters the blocks.

use std::fmt::Debug;

use crate::error::StepError;

/// How γ damps the blocks of the approximate Fisher.
///
/// The two built-in rules are [`FactoredTikhonov`](super::FactoredTikhonov) and
/// [`ExactTikhonov`](super::ExactTikhonov); see [`DampingScheme`](super::DampingScheme).
///
/// # Example
///
/// Damping of the output factors only:
///
/// ```
/// use kfac::damping::{DampingRule, FactorNorms, ProductDamping};
///
/// #[derive(Debug)]
/// struct OutputsOnly;
///
/// impl DampingRule for OutputsOnly {
///     fn balance(&self, _activation: &dyn FactorNorms, gradient: &dyn FactorNorms) -> f64 {
///         gradient.trace() / gradient.dimension() as f64
///     }
///
///     fn product(&self, gamma: f64, mean_eigenvalue: f64) -> ProductDamping {
///         ProductDamping::Factored {
///             activation: 0.0,
///             gradient: gamma * gamma * mean_eigenvalue,
///         }
///     }
///
///     fn block(&self, gamma: f64) -> f64 {
///         gamma * gamma
///     }
/// }
/// ```
pub trait DampingRule: Debug + Send + Sync {
    /// `π`, what the damping of a product `Ā ⊗ G` depends on besides γ. It is found once for all γ, and
    /// reported. Finite, or the step is refused.
    fn balance(&self, activation: &dyn FactorNorms, gradient: &dyn FactorNorms) -> f64;

    /// The damping of a product: finite and at least zero, or the step is refused.
    fn product(&self, gamma: f64, pi: f64) -> ProductDamping;

    /// What is added to the diagonal of a block that is not a product, and to corrected eigenvalues, which
    /// are none either: finite and at least zero, or the step is refused.
    fn block(&self, gamma: f64) -> f64;
}

/// The damping of a Kronecker product `Ā ⊗ G`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProductDamping {
    /// `(Ā + a I) ⊗ (G + g I)`.
    Factored {
        /// `a`.
        activation: f64,
        /// `g`.
        gradient: f64,
    },
    /// `Ā ⊗ G + d I`: no product, so it is applied in the eigenbases of the factors.
    Exact(f64),
}

impl ProductDamping {
    /// The damped eigenvalue of the product from those of the two factors.
    pub fn eigenvalue(self, activation: f64, gradient: f64) -> f64 {
        match self {
            Self::Factored {
                activation: a,
                gradient: g,
            } => (activation + a) * (gradient + g),
            Self::Exact(damping) => activation * gradient + damping,
        }
    }
}

/// The size of a symmetric positive semi-definite factor in several norms.
pub trait FactorNorms {
    /// The number of rows.
    fn dimension(&self) -> usize;

    /// The sum of the eigenvalues.
    fn trace(&self) -> f64;

    /// The root of the sum of the squared eigenvalues.
    fn frobenius(&self) -> f64;
}

/// Refuses what a rule of the user's own may give for the block of a layer.
pub(crate) fn check_damping(
    rule: &dyn DampingRule,
    gamma: f64,
    pi: f64,
    layer: &str,
) -> Result<(), StepError> {
    let fault = |quantity, value, expected| {
        let layer = layer.to_owned();
        Err(StepError::Damping {
            layer,
            quantity,
            value,
            expected,
        })
    };
    if !pi.is_finite() {
        return fault("the balance", pi, "a finite number");
    }
    let product = match rule.product(gamma, pi) {
        ProductDamping::Factored {
            activation,
            gradient,
        } => vec![activation, gradient],
        ProductDamping::Exact(damping) => vec![damping],
    };
    let mut dampings = product.into_iter().chain([rule.block(gamma)]);
    match dampings.find(|damping| !(damping.is_finite() && *damping >= 0.0)) {
        Some(damping) => fault("a damping", damping, "a finite number of at least 0"),
        None => Ok(()),
    }
}
