//! Making an optimizer for a model.

use std::sync::Arc;

use super::{
    config::KfacConfig,
    kfac::Kfac,
    preconditioner::{Preconditioner, PreconditionerConfig, PreconditionerState},
    setup::Setup,
    state::State,
};
use crate::{
    capture::Network,
    damping::{FixedLambda, LambdaRule},
    engine::{Engine, EngineParts, Extensions, InitError},
    loss::Likelihood,
};

/// The iteration from which `Kfac` counts its periods: `k ≡ 0 (mod T)`, as Algorithm 2 does.
const BEFORE_FIRST: u64 = 0;

/// The call of `observe` from which a preconditioner counts its periods.
const FIRST_CALL: u64 = 1;

impl KfacConfig {
    /// An optimizer for a model and a loss.
    ///
    /// The layers are found by one forward pass over the first case of `example`; the parameter
    /// table of the result tells what covers each parameter.
    ///
    /// # Errors
    ///
    /// [`InitError`]: faults of the configuration (all at once), a model without autodiff or
    /// without layers on the tape, and, with strict coverage, trainable parameters without a block.
    pub fn init<M: Network, L: Likelihood<M::Output>>(
        &self,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Kfac<L>, InitError> {
        self.init_with(Extensions::new(), model, loss, example)
    }

    /// An optimizer with parts of your own.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init), and where a part is for a layer that the model does not have.
    pub fn init_with<M: Network, L: Likelihood<M::Output>>(
        &self,
        extensions: Extensions,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Kfac<L>, InitError> {
        let parts = EngineParts {
            config: &self.curvature,
            loss,
            extensions,
            origin: BEFORE_FIRST,
            candidates: 3,
            faults: self.own_faults(),
        };
        let rule = self.lambda_rule();
        let engine = Engine::discover(parts, model, example)?;
        Ok(Kfac {
            state: State::new(self, rule.start(), engine.layers()),
            setup: Setup {
                engine,
                config: self.clone(),
                rule,
            },
        })
    }
}

impl PreconditionerConfig {
    /// A preconditioner for a model and a loss.
    ///
    /// The layers are found by one forward pass over the first case of `example`; the parameter
    /// table of the result tells what covers each parameter.
    ///
    /// # Errors
    ///
    /// [`InitError`]: faults of the configuration (all at once), a model without autodiff or
    /// without layers on the tape, and, with strict coverage, trainable parameters without a block.
    pub fn init<M: Network, L: Likelihood<M::Output>>(
        &self,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Preconditioner<L>, InitError> {
        self.init_with(Extensions::new(), model, loss, example)
    }

    /// A preconditioner with parts of your own.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init), and where a part is for a layer that the model does not have.
    pub fn init_with<M: Network, L: Likelihood<M::Output>>(
        &self,
        extensions: Extensions,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Preconditioner<L>, InitError> {
        let parts = EngineParts {
            config: &self.curvature,
            loss,
            extensions,
            origin: FIRST_CALL,
            candidates: 1,
            faults: self.own_faults(),
        };
        let rule = FixedLambda(self.lambda);
        Ok(Preconditioner {
            engine: Engine::discover(parts, model, example)?,
            config: self.clone(),
            state: PreconditionerState::new(rule.start()),
            rule: Arc::new(rule),
        })
    }
}
