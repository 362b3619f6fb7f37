//! Tikhonov damping of a Kronecker product (section 6.3).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rule::{DampingRule, FactorNorms, ProductDamping};

/// How γ enters the blocks of the approximate Fisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DampingScheme {
    /// [`FactoredTikhonov`]: the paper's choice, often better than the exact form.
    FactoredTikhonov {
        /// The norm that balances the two factors.
        pi: PiNorm,
    },
    /// [`ExactTikhonov`].
    ExactTikhonov,
}

impl Default for DampingScheme {
    /// Factored, balanced by the traces.
    fn default() -> Self {
        Self::FactoredTikhonov { pi: PiNorm::Trace }
    }
}

#[cfg(feature = "clap")]
impl clap::ValueEnum for DampingScheme {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::FactoredTikhonov { pi: PiNorm::Trace },
            Self::FactoredTikhonov {
                pi: PiNorm::Frobenius,
            },
            Self::FactoredTikhonov { pi: PiNorm::One },
            Self::ExactTikhonov,
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let (name, help) = match self {
            Self::FactoredTikhonov { pi: PiNorm::Trace } => {
                ("trace", "Factored Tikhonov, π from the traces")
            }
            Self::FactoredTikhonov {
                pi: PiNorm::Frobenius,
            } => ("frobenius", "Factored Tikhonov, π from the Frobenius norms"),
            Self::FactoredTikhonov { pi: PiNorm::One } => ("one", "Factored Tikhonov, π = 1"),
            Self::ExactTikhonov => ("exact", "Exact Tikhonov"),
        };
        Some(clap::builder::PossibleValue::new(name).help(help))
    }
}

impl DampingScheme {
    /// The rule.
    pub fn rule(self) -> Arc<dyn DampingRule> {
        match self {
            Self::FactoredTikhonov { pi } => Arc::new(FactoredTikhonov { pi }),
            Self::ExactTikhonov => Arc::new(ExactTikhonov),
        }
    }
}

/// `(Ā + πγI) ⊗ (G + γ/π I)`, and `γ² I` for blocks that are no products.
///
/// # References
///
/// Martens and Grosse (2015), section 6.3, arXiv 1503.05671.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactoredTikhonov {
    /// The norm that balances the two factors.
    pub pi: PiNorm,
}

impl DampingRule for FactoredTikhonov {
    fn balance(&self, activation: &dyn FactorNorms, gradient: &dyn FactorNorms) -> f64 {
        let sizes = [activation, gradient].map(|factor| self.pi.mean_size(factor));
        factored_pi(sizes[0], sizes[1])
    }

    fn product(&self, gamma: f64, pi: f64) -> ProductDamping {
        ProductDamping::Factored {
            activation: pi * gamma,
            gradient: gamma / pi,
        }
    }

    fn block(&self, gamma: f64) -> f64 {
        gamma * gamma
    }
}

/// `Ā ⊗ G + γ² I`, and the same for blocks that are no products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactTikhonov;

impl DampingRule for ExactTikhonov {
    fn balance(&self, _activation: &dyn FactorNorms, _gradient: &dyn FactorNorms) -> f64 {
        1.0
    }

    fn product(&self, gamma: f64, _pi: f64) -> ProductDamping {
        ProductDamping::Exact(self.block(gamma))
    }

    fn block(&self, gamma: f64) -> f64 {
        gamma * gamma
    }
}

/// The norm in `π = √(‖Ā ⊗ I‖ / ‖I ⊗ G‖)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PiNorm {
    /// `π² = (tr Ā / dim Ā) / (tr G / dim G)`: the ratio of the mean eigenvalues.
    #[default]
    Trace,
    /// `π² = (‖Ā‖_F / √dim Ā) / (‖G‖_F / √dim G)`: the ratio of the root mean square eigenvalues.
    Frobenius,
    /// `π = 1`.
    One,
}

impl PiNorm {
    fn mean_size(self, factor: &dyn FactorNorms) -> f64 {
        let dimension = factor.dimension() as f64;
        match self {
            Self::Trace => factor.trace() / dimension,
            Self::Frobenius => factor.frobenius() / dimension.sqrt(),
            Self::One => 1.0,
        }
    }
}

/// The balance `π` of the damping between two factors, given the size of each in the chosen norm.
///
/// A size that is zero (a dead layer), or not finite, has no balance: `π` is one then, so that a
/// zero factor is damped to `γI`.
///
/// # References
///
/// Martens and Grosse (2015), section 6.3, arXiv 1503.05671.
pub fn factored_pi(activation_size: f64, gradient_size: f64) -> f64 {
    let pi = (activation_size / gradient_size).sqrt();
    if pi.is_finite() && pi > 0.0 { pi } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_the_factors() {
        assert!((factored_pi(8.0, 2.0) - 2.0).abs() < 1e-15);
    }

    #[test]
    fn dead_factors_have_no_balance() {
        for (a, g) in [
            (0.0, 1.0),
            (1.0, 0.0),
            (0.0, 0.0),
            (f64::INFINITY, 1.0),
            (-1.0, 1.0),
        ] {
            assert!(
                (factored_pi(a, g) - 1.0).abs() < f64::EPSILON,
                "sizes {a}, {g}"
            );
        }
    }
}
