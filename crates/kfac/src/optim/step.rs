//! One step of K-FAC: Algorithm 2 (section 9).

use super::{
    averaging::IterateAverage,
    config::{KfacConfig, Momentum},
    evaluate::Objective,
    proposal::{Choice, Proposal, choose},
    quadratic_model::{Subspace, fisher_gram},
    report::{LambdaReport, PhaseClock, PhaseTimes, QuadraticReport, StepOutcome, StepReport},
};
use crate::{
    capture::{Layers, ParameterTable},
    cases::Batch,
    curvature::{BlockDiagonalInverse, FisherEstimator},
    damping::{LevenbergMarquardt, PreparedFactors, gamma_candidates},
    error::{Quantity, StepError},
    loss::PredictiveDistribution,
    network::Network,
    random::{Purpose, RandomStream},
    statistics::{KroneckerFactors, RunningFactors},
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
    pub(super) statistics: RunningFactors,
    pub(super) inverse: Option<BlockDiagonalInverse>,
    pub(super) iteration: u64,
    pub(super) lambda: f64,
    pub(super) gamma: f64,
    pub(super) previous_step: Option<ParameterVector>,
    pub(super) average: IterateAverage,
}

impl<L: PredictiveDistribution> Kfac<L> {
    /// Takes one step on a mini-batch, a random sample of the training cases.
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
        let (mut clock, mut times) = (PhaseClock::start(), PhaseTimes::default());
        let iteration = self.iteration + 1;

        let parameters = self.layers.parameters(model);
        let (objective, gradient) = self.objective_of().gradient(model, &parameters, batch)?;
        clock.lap(&mut times.gradient);

        let statistics = self.updated_statistics(model, batch, iteration)?;
        clock.lap(&mut times.statistics);

        let proposals = self.propose(&gradient, &statistics, iteration, (&mut clock, &mut times));
        let choice = self.rescale(model, batch, &gradient, proposals)?;
        let step = self.step_of(&choice);
        let after = parameters.add_scaled(&step, 1.0);
        let moved = self.layers.with_parameters(model.clone(), &after);
        clock.lap(&mut times.quadratic_model);

        let (lambda, outcome) =
            self.adapt_lambda(&moved, &after, batch, (objective, choice.model_change))?;
        clock.lap(&mut times.lambda);

        let refreshed = &choice.proposal.refreshed;
        let mut report = StepReport {
            iteration,
            outcome,
            batch_size: batch.len(),
            objective,
            gradient_norm: gradient.norm(),
            proposal_norm: choice.proposal.direction.norm(),
            step_norm: step.norm(),
            previous_step_norm: self
                .previous_step
                .as_ref()
                .map_or(0.0, ParameterVector::norm),
            parameter_norm_before: parameters.norm(),
            parameter_norm: after.norm(),
            alpha: choice.scale.alpha,
            mu: choice.scale.mu,
            quadratic: QuadraticReport::new(&choice.model, choice.model_change),
            lambda,
            gamma_before: self.gamma,
            gamma: choice.proposal.gamma,
            gamma_candidates: choice.candidates,
            refreshed: refreshed.is_some(),
            pi: refreshed.as_ref().map(|inverse| inverse.pi.clone()),
            repairs: Vec::new(),
            times,
        };
        if let Some(refreshed) = choice.proposal.refreshed {
            report.repairs = refreshed.repairs;
            self.inverse = Some(refreshed.inverse);
        }
        self.statistics = statistics;
        self.advance(&report);
        if outcome == StepOutcome::Taken {
            *model = moved;
            self.average.update(iteration, &after);
            self.previous_step = Some(step);
        } else {
            report.parameter_norm = report.parameter_norm_before;
            self.previous_step = None;
        }
        clock.lap(&mut report.times.update);
        Ok(report)
    }

    /// The numbers that the next step starts from.
    fn advance(&mut self, report: &StepReport) {
        self.iteration = report.iteration;
        self.lambda = report.lambda.after;
        self.gamma = report.gamma;
    }

    fn objective_of(&self) -> Objective<'_, L> {
        Objective {
            layers: &self.layers,
            loss: &self.loss,
            l2: self.config.l2,
            chunk_size: self.config.chunk_size,
        }
    }

    /// Section 5: the running factors with those of the subset S₁ taken in.
    fn updated_statistics<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        iteration: u64,
    ) -> Result<RunningFactors, StepError> {
        let subset = batch.head(self.config.statistics_fraction, 1);
        let mut random =
            RandomStream::for_step(self.config.seed, iteration, Purpose::SampledTargets);
        let estimator = FisherEstimator {
            layers: &self.layers,
            loss: &self.loss,
            estimate: self.config.fisher,
            chunk_size: self.config.chunk_size,
        };
        Ok(self
            .statistics
            .updated(estimator.factors(model, &subset, &mut random)?))
    }

    /// Sections 4.2, 6.3 and 6.6: a proposal for each γ to be tried.
    fn propose(
        &self,
        gradient: &ParameterVector,
        statistics: &RunningFactors,
        iteration: u64,
        (clock, times): (&mut PhaseClock, &mut PhaseTimes),
    ) -> Vec<Proposal> {
        let searching = iteration.is_multiple_of(self.config.gamma_period);
        let stale = self
            .inverse
            .as_ref()
            .filter(|_| !self.config.refreshes(iteration));
        if let Some(inverse) = stale {
            let direction = inverse.multiply(gradient).scaled(-1.0);
            clock.lap(&mut times.proposal);
            return vec![Proposal {
                gamma: self.gamma,
                direction,
                refreshed: None,
            }];
        }
        let prepared = PreparedFactors::new(
            &self.layers,
            statistics.factors(),
            (self.config.damping, self.config.inverse_method),
            self.inverse.as_ref(),
        );
        let search = gamma_candidates(
            self.gamma,
            self.config.omega_gamma(),
            self.config.gamma_bounds(),
        );
        let gammas: &[f64] = if searching { &search } else { &[self.gamma] };
        let mut propose = |&gamma: &f64| {
            let refreshed = prepared.inverse(gamma);
            clock.lap(&mut times.inverse);
            let direction = refreshed.inverse.multiply(gradient).scaled(-1.0);
            clock.lap(&mut times.proposal);
            Proposal {
                gamma,
                direction,
                refreshed: Some(refreshed),
            }
        };
        gammas.iter().map(&mut propose).collect()
    }

    /// Sections 6.4 and 7: the best proposal, with its coefficients from the exact Fisher on S₂.
    fn rescale<M: Network>(
        &self,
        model: &M,
        batch: &Batch<M::Input>,
        gradient: &ParameterVector,
        proposals: Vec<Proposal>,
    ) -> Result<Choice, StepError> {
        let KfacConfig {
            model_fraction,
            model_min_cases,
            chunk_size,
            derivatives,
            ..
        } = self.config;
        let previous = self.momentum_direction();
        let mut directions: Vec<_> = proposals.iter().map(|p| p.direction.clone()).collect();
        directions.extend(previous.cloned());
        let subset = batch.head(model_fraction, model_min_cases);
        let network = (model, &self.layers, &self.loss);
        let fisher = fisher_gram(network, subset.chunks(chunk_size), &directions, derivatives);
        let subspace = Subspace::new(&directions, gradient, fisher);
        choose(
            proposals,
            &subspace,
            previous.is_some(),
            self.lambda + self.config.l2,
        )
        .ok_or(StepError::NonFinite {
            quantity: Quantity::Proposal,
            layer: None,
        })
    }

    fn momentum_direction(&self) -> Option<&ParameterVector> {
        self.previous_step
            .as_ref()
            .filter(|_| self.config.momentum == Momentum::Adaptive)
    }

    /// `δ = α Δ + μ δ₀`.
    fn step_of(&self, choice: &Choice) -> ParameterVector {
        let step = choice.proposal.direction.scaled(choice.scale.alpha);
        match (choice.scale.mu, &self.previous_step) {
            (Some(mu), Some(previous)) => step.add_scaled(previous, mu),
            _ => step,
        }
    }

    /// Section 6.5: λ after comparing the objective after the step with the model's prediction.
    fn adapt_lambda<M: Network>(
        &self,
        moved: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input>,
        (objective, model_change): (f64, f64),
    ) -> Result<(LambdaReport, StepOutcome), StepError> {
        let mut report = LambdaReport {
            used: self.lambda,
            after: self.lambda,
            trial_objective: None,
            reduction_ratio: None,
            action: None,
        };
        if !(self.iteration + 1).is_multiple_of(self.config.lambda_period) {
            return Ok((report, StepOutcome::Taken));
        }
        let trial = self.objective_of().value(moved, parameters, batch)?;
        let (ratio, action) = LevenbergMarquardt::judge(objective, trial, model_change);
        let rule = LevenbergMarquardt {
            omega: self.config.omega_lambda(),
        };
        report.after = rule.apply(self.lambda, action);
        report.trial_objective = Some(trial);
        report.reduction_ratio = Some(ratio);
        report.action = Some(action);
        let outcome = if trial.is_finite() {
            StepOutcome::Taken
        } else {
            StepOutcome::Rejected
        };
        Ok((report, outcome))
    }
}

impl<L: PredictiveDistribution> Kfac<L> {
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
        let average = self.average.get()?;
        Some(self.layers.with_parameters(model.clone(), average))
    }

    /// The settings.
    pub fn config(&self) -> &KfacConfig {
        &self.config
    }

    /// The number of steps so far.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    /// λ, the damping of the quadratic model.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// γ, the damping of the approximate inverse.
    pub fn gamma(&self) -> f64 {
        self.gamma
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
    pub fn factors(&self) -> &[KroneckerFactors] {
        self.statistics.factors()
    }

    /// The damped inverse in use; `None` before the first step.
    pub fn inverse(&self) -> Option<&BlockDiagonalInverse> {
        self.inverse.as_ref()
    }
}
