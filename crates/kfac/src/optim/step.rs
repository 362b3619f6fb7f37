//! One step of K-FAC: Algorithm 2 (section 9).

use super::{
    config::{KfacConfig, Momentum},
    kfac::{Kfac, State},
    proposal::{Choice, Proposal, choose},
    quadratic_model::{Subspace, fisher_gram},
    refresh::{Refresh, RefreshAhead, RefreshPoint},
    report::{LambdaReport, PhaseClock, PhaseTimes, QuadraticReport, StepOutcome, StepReport},
    statistics::StatisticsUpdate,
};
use crate::{
    cases::Batch,
    curvature::{FisherEstimator, FisherInverse},
    damping::{DampedInverse, LevenbergMarquardt, calibrated_lambda},
    error::{Quantity, StepError},
    loss::PredictiveDistribution,
    network::Network,
    random::{Purpose, RandomStream},
    statistics::RunningFactors,
    vector::ParameterVector,
};

/// One step from a state of the optimizer and a model, neither of which it changes.
pub(super) struct Step<'a, L, M: Network> {
    pub(super) optimizer: &'a Kfac<L>,
    pub(super) state: &'a State,
    pub(super) model: &'a M,
    pub(super) batch: &'a Batch<M::Input>,
}

/// The way of a step through parameter space.
struct Path<M> {
    start: ParameterVector,
    step: ParameterVector,
    end: ParameterVector,
    /// The model at the end.
    model: M,
}

/// Where a step leads.
pub(super) struct Advance<M> {
    pub(super) state: State,
    pub(super) model: M,
    pub(super) report: StepReport,
}

impl<L: PredictiveDistribution, M: Network> Step<'_, L, M> {
    /// Algorithm 2, one iteration.
    pub(super) fn take(&self) -> Result<Advance<M>, StepError> {
        let (mut clock, mut times) = (PhaseClock::start(), PhaseTimes::default());
        let Self {
            optimizer,
            state,
            model,
            batch,
        } = *self;

        let parameters = optimizer.layers.parameters(model);
        let objective_of = optimizer.objective_of();
        let (objective, gradient) = objective_of.gradient(model, &parameters, batch)?;
        clock.lap(&mut times.gradient);

        let (statistics, inverse) = self.updated_statistics((&mut clock, &mut times))?;
        let curvature = (&statistics, inverse.as_ref());
        let (proposals, ahead) = self.propose(&gradient, curvature, (&mut clock, &mut times));
        let choice = self.rescale(&gradient, proposals)?;
        let path = self.path(parameters, &choice);
        clock.lap(&mut times.quadratic_model);

        let change = (objective, choice.model_change);
        let (lambda, outcome) = self.adapt_lambda(&path, change)?;
        clock.lap(&mut times.lambda);

        let gradient_norm = gradient.norm();
        let mut report = self.report((objective, gradient_norm), &choice, &path, lambda);
        let mut next = self.next_state((statistics, inverse, ahead), choice, &report);
        next.average.update(state.iteration, &path.start);
        let model = match outcome {
            StepOutcome::Taken => {
                next.previous_step = Some(path.step);
                path.model
            }
            StepOutcome::Rejected => {
                report.outcome = outcome;
                report.parameter_norm = report.parameter_norm_before;
                model.clone()
            }
        };
        clock.lap(&mut times.update);
        report.times = times;
        Ok(Advance {
            state: next,
            model,
            report,
        })
    }

    /// Section 5: the running factors with those of the subset S₁ taken in, and the last inverse with
    /// the eigenvalues that the subset corrects.
    fn updated_statistics(
        &self,
        (clock, times): (&mut PhaseClock, &mut PhaseTimes),
    ) -> Result<(RunningFactors, Option<FisherInverse>), StepError> {
        let config = self.config();
        let subset = self.batch.head(config.statistics_fraction, 1);
        let mut random =
            RandomStream::for_step(config.seed, self.iteration(), Purpose::SampledTargets);
        let last = self.state.inverse.as_ref();
        let update = StatisticsUpdate {
            estimator: FisherEstimator {
                layers: &self.optimizer.layers,
                loss: &self.optimizer.loss,
                estimate: config.fisher,
                chunk_size: config.chunk_size,
            },
            settings: config.curvature(),
            statistics: &self.state.statistics,
            // A refreshed inverse has eigenvalues of its own.
            inverse: last.filter(|_| !self.state.refreshes(config)),
            weights: (config.statistics_cap, self.state.gamma),
        };
        let (updated, corrected) =
            update.with((self.model, &subset), &mut random, (clock, times))?;
        Ok((updated, corrected.or_else(|| last.cloned())))
    }

    /// Sections 4.2, 6.3 and 6.6: a proposal for each γ to be tried, with a refreshed inverse or the last
    /// one; and the refresh under way for a later iteration.
    fn propose(
        &self,
        gradient: &ParameterVector,
        (statistics, inverse): (&RunningFactors, Option<&FisherInverse>),
        (clock, times): (&mut PhaseClock, &mut PhaseTimes),
    ) -> (Vec<Proposal>, Option<RefreshAhead>) {
        let state = self.state;
        let refresh = RefreshPoint {
            config: self.config(),
            layers: &self.optimizer.layers,
            state,
            factors: statistics.factors(),
            iteration: self.iteration(),
        };
        let refresh = refresh.work();
        clock.lap(&mut times.inverse);
        let direction = |inverse: &FisherInverse| inverse.multiply(gradient).scaled(-1.0);
        let stale = |inverse| Proposal {
            gamma: state.gamma,
            direction: direction(inverse),
            refreshed: None,
        };
        let fresh = |refreshed: DampedInverse| Proposal {
            gamma: refreshed.gamma,
            direction: direction(&refreshed.inverse),
            refreshed: Some(refreshed),
        };
        let (proposals, ahead) = match refresh {
            Refresh::Later(ahead) => (inverse.into_iter().map(stale).collect(), ahead),
            Refresh::Now(inverses) => (inverses.into_iter().map(fresh).collect(), None),
        };
        clock.lap(&mut times.proposal);
        (proposals, ahead)
    }

    /// Sections 6.4 and 7: the best proposal, with its coefficients from the exact Fisher on S₂.
    fn rescale(
        &self,
        gradient: &ParameterVector,
        proposals: Vec<Proposal>,
    ) -> Result<Choice, StepError> {
        let config = self.config();
        let previous = self.momentum_direction();
        let mut directions: Vec<_> = proposals.iter().map(|p| p.direction.clone()).collect();
        directions.extend(previous.cloned());
        let subset = self
            .batch
            .head(config.model_fraction, config.model_min_cases);
        let network = (self.model, &self.optimizer.layers, &self.optimizer.loss);
        let cases = (&subset, config.chunk_size);
        let fisher = fisher_gram(network, cases, &directions, config.derivatives);
        let subspace = Subspace::new(&directions, gradient, fisher);
        let damping = self.state.lambda + config.l2;
        choose(proposals, &subspace, previous.is_some(), damping).ok_or(StepError::NonFinite {
            quantity: Quantity::Proposal,
            layer: None,
        })
    }

    fn momentum_direction(&self) -> Option<&ParameterVector> {
        let last_step = self.state.previous_step.as_ref();
        last_step.filter(|_| self.config().momentum == Momentum::Adaptive)
    }

    /// `δ = α Δ + μ δ₀`, and the model that it leads to.
    fn path(&self, start: ParameterVector, choice: &Choice) -> Path<M> {
        let step = choice.proposal.direction.scaled(choice.scale.alpha);
        let step = match (choice.scale.mu, &self.state.previous_step) {
            (Some(mu), Some(previous)) => step.add_scaled(previous, mu),
            _ => step,
        };
        let end = start.add_scaled(&step, 1.0);
        let layers = &self.optimizer.layers;
        let model = layers.with_parameters(self.model.clone(), &end);
        Path {
            start,
            step,
            end,
            model,
        }
    }

    /// Section 6.5: λ after comparing the objective after the step with the model's prediction.
    fn adapt_lambda(
        &self,
        path: &Path<M>,
        (objective, model_change): (f64, f64),
    ) -> Result<(LambdaReport, StepOutcome), StepError> {
        let lambda = self.state.lambda;
        let mut report = LambdaReport {
            used: lambda,
            after: lambda,
            trial_objective: None,
            reduction_ratio: None,
            action: None,
            calibrated: false,
        };
        let due = self.iteration().is_multiple_of(self.config().lambda_period);
        if !due && !self.state.calibrating {
            return Ok((report, StepOutcome::Taken));
        }
        let objective_of = self.optimizer.objective_of();
        let trial = objective_of.value(&path.model, &path.end, self.batch)?;
        let (ratio, action) = LevenbergMarquardt::judge(objective, trial, model_change);
        let (iteration, l2) = (self.iteration(), self.config().l2);
        let calibrated = calibrated_lambda(lambda, ratio, (iteration, l2));
        let calibrated = calibrated.filter(|_| self.state.calibrating);
        let rule = self.optimizer.lambda_rule();
        report.calibrated = calibrated.is_some();
        report.after = calibrated.unwrap_or_else(|| rule.apply(lambda, action));
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

    fn report(
        &self,
        (objective, gradient_norm): (f64, f64),
        choice: &Choice,
        path: &Path<M>,
        lambda: LambdaReport,
    ) -> StepReport {
        let last_step = self.state.previous_step.as_ref();
        let refreshed = choice.proposal.refreshed.as_ref();
        StepReport {
            iteration: self.iteration(),
            outcome: StepOutcome::Taken,
            took_back_last_step: false,
            batch_size: self.batch.len(),
            objective,
            gradient_norm,
            proposal_norm: choice.proposal.direction.norm(),
            step_norm: path.step.norm(),
            previous_step_norm: last_step.map_or(0.0, ParameterVector::norm),
            parameter_norm_before: path.start.norm(),
            parameter_norm: path.end.norm(),
            alpha: choice.scale.alpha,
            mu: choice.scale.mu,
            quadratic: QuadraticReport::new(&choice.model, choice.model_change),
            lambda,
            gamma_before: self.state.gamma,
            gamma: choice.proposal.gamma,
            gamma_candidates: choice.candidates.clone(),
            refreshed: refreshed.is_some(),
            pi: refreshed.map(|inverse| inverse.pi.clone()),
            repairs: refreshed.map_or_else(Vec::new, |inverse| inverse.repairs.clone()),
            times: PhaseTimes::default(),
        }
    }

    /// What the next step starts from, without momentum.
    fn next_state(
        &self,
        (statistics, inverse, ahead): (RunningFactors, Option<FisherInverse>, Option<RefreshAhead>),
        choice: Choice,
        report: &StepReport,
    ) -> State {
        let refreshed = choice.proposal.refreshed.map(|refreshed| refreshed.inverse);
        State {
            statistics,
            inverse: refreshed.or(inverse),
            ahead,
            iteration: report.iteration,
            lambda: report.lambda.after,
            gamma: if report.lambda.calibrated {
                self.config().gamma_of(report.lambda.after)
            } else {
                report.gamma
            },
            calibrating: report.lambda.calibrated,
            previous_step: None,
            average: self.state.average.clone(),
        }
    }

    fn config(&self) -> &KfacConfig {
        &self.optimizer.config
    }

    /// The iteration of this step, counted from one.
    fn iteration(&self) -> u64 {
        self.state.iteration + 1
    }
}
