//! What an optimizer does not change while it trains.

use std::sync::Arc;

use super::config::KfacConfig;
use crate::{damping::LambdaRule, engine::Engine};

/// The settings, the curvature of the model, and the rule for λ.
#[derive(Clone, Debug)]
pub(super) struct Setup<L> {
    pub(super) config: KfacConfig,
    pub(super) engine: Engine<L>,
    pub(super) rule: Arc<dyn LambdaRule>,
}
