//! The optimizer's type: what it holds, how a step becomes final, what can be asked of it.

use super::{
    averaging::IterateAverage,
    config::KfacConfig,
    evaluate::Objective,
    refresh::RefreshAhead,
    report::StepReport,
    step::{Advance, Step},
};
use crate::{
    capture::{BatchStatistics, FormerStatistics, Layers, ParameterTable},
    cases::{Batch, Cases},
    curvature::FisherInverse,
    damping::{DampingStart, LambdaAction, LevenbergMarquardt},
    error::StepError,
    loss::PredictiveDistribution,
    network::Network,
    statistics::{FactorSet, RunningFactors},
    vector::ParameterVector,
};

/// The K-FAC optimizer; made by [`KfacConfig::init`].
///
/// # References
///
/// Martens and Grosse (2015), section 9 (Algorithm 2), arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct Kfac<L> {
    pub(super) config: KfacConfig,
    pub(super) loss: L,
    pub(super) layers: Layers,
    pub(super) table: ParameterTable,
    pub(super) state: State,
}

/// What a step changes besides the model: all that the next step starts from.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) statistics: RunningFactors,
    pub(super) inverse: Option<FisherInverse>,
    /// The next inverse under way.
    pub(super) ahead: Option<RefreshAhead>,
    pub(super) iteration: u64,
    pub(super) lambda: f64,
    pub(super) gamma: f64,
    /// Whether λ and γ still follow [`DampingStart::Calibrated`].
    pub(super) calibrating: bool,
    pub(super) previous_step: Option<ParameterVector>,
    /// The average of the iterates that a step has started from. The last one joins only when its
    /// objective turns out finite.
    pub(super) average: IterateAverage,
}

impl State {
    /// Before the first step.
    pub(super) fn new(config: &KfacConfig) -> Self {
        Self {
            statistics: RunningFactors::new(config.statistics_cap),
            inverse: None,
            ahead: None,
            iteration: 0,
            lambda: config.initial_lambda,
            gamma: config.gamma_of(config.initial_lambda),
            calibrating: config.damping_start == DampingStart::Calibrated,
            previous_step: None,
            average: IterateAverage::new(config.averaging),
        }
    }

    /// Whether the next step takes a refreshed inverse.
    pub(super) fn refreshes(&self, config: &KfacConfig) -> bool {
        self.calibrating || config.refreshes(self.iteration + 1)
    }
}

impl<L: PredictiveDistribution> Kfac<L> {
    /// Takes one step on a mini-batch, a random sample of the training cases.
    ///
    /// Where the batch is not finite at the model's parameters, but is at those before the last
    /// step, that step went too far: it is taken back, λ grows, and the new step starts from there
    /// ([`StepReport::took_back_last_step`]).
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed or something is not finite. Model and optimizer
    /// are then exactly as before: the next good batch goes on as if this one had not been.
    pub fn step<M: Network>(
        &mut self,
        model: &mut M,
        batch: &Batch<M::Input>,
    ) -> Result<StepReport, StepError> {
        let former = self.move_running_statistics(model, batch);
        let advance = match self.attempt(&self.state, model, batch) {
            Err(error @ StepError::NonFinite { .. }) => {
                self.attempt_before_last_step(model, batch).ok_or(error)
            }
            attempt => attempt,
        };
        let advance = advance.inspect_err(|_| former.restore())?;
        self.state = advance.state;
        *model = advance.model;
        Ok(advance.report)
    }

    /// Moves the running statistics of batch normalisations by those of the batch's first cases.
    fn move_running_statistics<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
    ) -> FormerStatistics {
        let config = &self.config;
        if batch.is_empty() || !self.layers.normalises() {
            return FormerStatistics::default();
        }
        let cases = batch
            .head(config.statistics_fraction, config.model_min_cases)
            .inputs;
        let cases = cases.slice(0..cases.len().min(config.chunk_size));
        let statistics = BatchStatistics::of(model, cases);
        statistics.move_running(self.state.iteration + 1)
    }

    fn attempt<M: Network>(
        &self,
        state: &State,
        model: &M,
        batch: &Batch<M::Input>,
    ) -> Result<Advance<M>, StepError> {
        let step = Step {
            optimizer: self,
            state,
            model,
            batch,
        };
        step.take()
    }

    /// The same batch at the parameters before the last step; `None` where that fails too, so that
    /// the batch is to blame and not the step.
    fn attempt_before_last_step<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
    ) -> Option<Advance<M>> {
        let last_step = self.state.previous_step.as_ref()?;
        let parameters = self.layers.parameters(model).add_scaled(last_step, -1.0);
        let model = self.layers.with_parameters(model.clone(), &parameters);
        let rule = self.lambda_rule();
        let state = State {
            lambda: rule.apply(self.state.lambda, LambdaAction::Increase),
            previous_step: None,
            ..self.state.clone()
        };
        let mut advance = self.attempt(&state, &model, batch).ok()?;
        advance.report.took_back_last_step = true;
        Some(advance)
    }

    pub(super) fn lambda_rule(&self) -> LevenbergMarquardt {
        LevenbergMarquardt {
            omega: self.config.omega_lambda(),
        }
    }

    pub(super) fn objective_of(&self) -> Objective<'_, L> {
        Objective {
            layers: &self.layers,
            loss: &self.loss,
            l2: self.config.l2,
            chunk_size: self.config.chunk_size,
        }
    }

    /// The objective `h` on a batch, the penalty included; evaluated in chunks.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed.
    pub fn objective<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
    ) -> Result<f64, StepError> {
        self.objective_of()
            .value(model, &self.layers.parameters(model), batch)
    }

    /// The model with the average of the iterates as its parameters, once averaging has begun.
    pub fn averaged_model<M: Network>(&self, model: &M) -> Option<M> {
        let mut average = self.state.average.clone();
        average.update(self.state.iteration, &self.layers.parameters(model));
        let average = average.get()?;
        Some(self.layers.with_parameters(model.clone(), average))
    }

    /// The settings.
    pub fn config(&self) -> &KfacConfig {
        &self.config
    }

    /// The number of steps so far.
    pub fn iteration(&self) -> u64 {
        self.state.iteration
    }

    /// λ, the damping of the quadratic model.
    pub fn lambda(&self) -> f64 {
        self.state.lambda
    }

    /// γ, the damping of the approximate inverse.
    pub fn gamma(&self) -> f64 {
        self.state.gamma
    }

    /// Which block covers each parameter of the model.
    pub fn parameter_table(&self) -> &ParameterTable {
        &self.table
    }

    /// The layers with a curvature block, in the order of the forward pass.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The running estimates of the layers' factors; empty before the first step.
    pub fn factors(&self) -> &FactorSet {
        self.state.statistics.factors()
    }

    /// The damped inverse in use; `None` before the first step.
    pub fn inverse(&self) -> Option<&FisherInverse> {
        self.state.inverse.as_ref()
    }
}
