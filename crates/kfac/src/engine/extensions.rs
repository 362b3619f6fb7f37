//! Parts of the curvature that are the user's own.

use std::sync::Arc;

use crate::{blocks::BlockStructure, damping::DampingRule};

/// Objects of your own that take the place of the library's; a configuration holds settings only.
///
/// # Example
///
/// The full block of a small layer, instead of its Kronecker product:
///
/// ```
/// use std::sync::Arc;
/// use kfac::{Extensions, blocks::Full};
///
/// let extensions = Extensions::new().with_structure("encoder.0", Arc::new(Full));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    pub(super) structures: Vec<(String, Arc<dyn BlockStructure>)>,
    pub(super) damping: Option<Arc<dyn DampingRule>>,
}

impl Extensions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The structure of a layer's block, by the layer's path in the parameter table.
    #[must_use]
    pub fn with_structure(
        mut self,
        path: impl Into<String>,
        structure: Arc<dyn BlockStructure>,
    ) -> Self {
        self.structures.push((path.into(), structure));
        self
    }

    /// How γ damps the blocks, instead of [`CurvatureConfig::damping`](crate::CurvatureConfig::damping).
    #[must_use]
    pub fn with_damping(self, rule: Arc<dyn DampingRule>) -> Self {
        Self {
            damping: Some(rule),
            ..self
        }
    }
}
