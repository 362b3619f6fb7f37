//! What was done about factors that could not be factorised as asked.

use serde::{Deserialize, Serialize};

use crate::{
    error::FactorKind,
    linalg::{Attempt, NotPositiveDefinite},
};

/// A factor that could not be factorised as asked, and what was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FactorRepair {
    /// Path of the layer.
    pub layer: String,
    /// Which factor.
    pub factor: FactorKind,
    /// What was done.
    pub action: FactorAction,
}

/// What was done about a factor that could not be factorised as asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FactorAction {
    /// Its own precision failed; double precision succeeded.
    DoublePrecision {
        /// The smallest pivot of the factorisation that succeeded; of an eigendecomposition the least eigenvalue.
        smallest_pivot: f64,
    },
    /// Double precision failed too; more damping succeeded.
    MoreDamping {
        /// The damping asked for.
        asked: f64,
        /// The damping used.
        used: f64,
        /// The smallest pivot of the factorisation that succeeded.
        smallest_pivot: f64,
    },
    /// Nothing succeeded: the layer's last good inverse stays in use (its gradient is not
    /// preconditioned where there is none yet). In a chain the layer stands alone until the next
    /// refresh.
    KeptLastInverse {
        /// Row of the first pivot that is not positive, where Cholesky tells.
        pivot: Option<usize>,
    },
    /// The canonical correlations with the next layer could not be computed: the two stand apart
    /// until the next refresh.
    CutFromNextLayer,
}

impl FactorAction {
    /// What a successful factorisation needed, if anything.
    pub(super) fn of(attempt: Attempt, asked: f64) -> Option<Self> {
        let smallest_pivot = attempt.smallest_pivot;
        if attempt.doublings > 0 {
            Some(Self::MoreDamping {
                asked,
                used: attempt.damping,
                smallest_pivot,
            })
        } else if attempt.double_precision {
            Some(Self::DoublePrecision { smallest_pivot })
        } else {
            None
        }
    }

    /// What an eigendecomposition needed.
    pub(crate) fn of_double_precision(eigenvalues: &[f64]) -> Self {
        Self::DoublePrecision {
            smallest_pivot: eigenvalues.iter().copied().fold(f64::INFINITY, f64::min),
        }
    }

    pub(super) fn given_up(error: NotPositiveDefinite) -> Self {
        Self::KeptLastInverse {
            pivot: Some(error.pivot),
        }
    }
}
