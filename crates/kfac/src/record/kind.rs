//! Which optimizer a record is of.

use serde::{Deserialize, Serialize};

/// Which optimizer a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// [`Kfac`](crate::Kfac).
    Kfac,
    /// [`Preconditioner`](crate::Preconditioner).
    Preconditioner,
}
