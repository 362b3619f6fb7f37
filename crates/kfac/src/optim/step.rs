//! One step of K-FAC: Algorithm 2 (section 9).

use super::{
    averaging::Iterate,
    batch_growth::BatchGrowth,
    config::{KfacConfig, Momentum},
    model_cases::ModelSample,
    objective::{Descent, StepObjective},
    proposal::{Choice, Proposal, choose},
    quadratic_model::{Metric, Subspace},
    refresh_pace::{InverseUse, RefreshPace, RefreshRule},
    report::{GradientNoise, LambdaReport, PhaseTimes, StepOutcome, StepReport},
    schedule::BatchSchedule,
    setup::Setup,
    state::State,
};
use crate::{
    capture::Network,
    clock::Stopwatch,
    damping::{Evidence, LambdaUpdate, check_lambda},
    engine::{
        EngineState, Normalisation, Observation, Observed, Reach, Refresh, RefreshAhead,
        RefreshPoint, Sample, Share,
    },
    error::{Quantity, StepError},
    inverse::{DampedInverse, FisherInverse},
    linalg::host,
    loss::{Likelihood, Loss},
    network::{Batch, Cases, ParameterVector},
};

/// One step from a state of the optimizer and a model, neither of which it changes.
pub(super) struct Step<'a, L, M: Network, T, O> {
    pub(super) setup: &'a Setup<L>,
    pub(super) state: &'a State,
    pub(super) model: &'a M,
    pub(super) batch: &'a Batch<M::Input, T>,
    pub(super) objective: &'a O,
    /// The loss of the targets; `None` where they are those of an objective of the user's own.
    pub(super) given: Option<&'a dyn Loss<M::Output, T>>,
}

/// The way of a step through parameter space.
struct Path<M> {
    start: ParameterVector,
    step: ParameterVector,
    end: ParameterVector,
    start_norm: f64,
    step_norm: f64,
    /// The model at the end.
    model: M,
}

/// All that a step decides.
struct Decision<M> {
    choice: Choice,
    path: Path<M>,
    judgement: Judgement,
}

/// The cases that a step looked at besides the whole batch, and what it saw.
struct Sampled {
    /// `S₁`.
    statistics: usize,
    model: ModelSample,
    noise: Option<GradientNoise>,
}

/// λ after the step, and what it was judged by.
struct Judgement {
    update: LambdaUpdate,
    evidence: Option<Evidence>,
    outcome: StepOutcome,
}

/// A step that is longer than this part of the parameters is looked at before it is taken.
const FAR: f64 = 0.1;

/// A rise of the objective by more than twice its value, and by more than a part of the first one, is no step of training.
const ASTRAY: f64 = 2.0;

/// That part.
const ASTRAY_OF_FIRST: f64 = 0.01;

/// Where a step leads.
pub(super) struct Advance<M> {
    pub(super) state: State,
    pub(super) model: M,
    pub(super) report: StepReport,
}

impl<L, M, T, O> Step<'_, L, M, T, O>
where
    L: Likelihood<M::Output>,
    M: Network,
    T: Cases,
    O: StepObjective<M, T>,
{
    /// Algorithm 2, one iteration; the numbers are those of its lines.
    pub(super) fn take(&self) -> Result<Advance<M>, StepError> {
        let (mut watch, mut times) = (Stopwatch::start(), PhaseTimes::default());
        check_lambda(self.state.lambda.lambda)?;

        // 3: ∇h on the mini-batch, and the factors with those of S₁ taken in.
        let start = self.setup.engine.layers().parameters(self.model);
        let descent = if self.measures_noise() {
            self.objective
                .gradient_by_halves(self.model, &start, self.batch)?
        } else {
            Descent::whole(self.objective.gradient(self.model, &start, self.batch)?)
        };
        times.gradient = watch.lap();
        let (mut engine, observed) = self.observe()?;
        (times.curvature_pass, times.factor_update) = (observed.passes, observed.factors);
        watch.lap();

        // 4 to 10: for each γ the approximate inverse, and a proposal Δ.
        let refresh = self.refresh(&engine)?;
        times.inverse = watch.lap();
        let (proposals, ahead) =
            self.propose(&descent.gradient, engine.inverse.as_ref(), refresh)?;
        times.proposal = watch.lap();

        // 9 and 11: the final update δ of each, by the exact Fisher on S₂, and the best of them.
        let (choice, sample) = self.choose(&descent.gradient, proposals)?;
        let path = self.path(start, &choice);
        let noise = self.noise(&descent, &choice, engine.inverse.as_ref())?;
        let sampled = Sampled {
            statistics: observed.cases,
            model: sample,
            noise,
        };
        times.quadratic_model = watch.lap();

        // 12 to 14: λ.
        let judgement = self.judge(&path, descent.value, choice.model_change)?;
        times.lambda = watch.lap();

        // 15: θ + δ.
        engine.ahead = ahead;
        let decision = Decision {
            choice,
            path,
            judgement,
        };
        let report = self.report(&descent, &decision, &sampled);
        let mut advance = self.advance(engine, decision, (report, sampled.model));
        times.update = watch.lap();
        advance.report.times = times;
        Ok(advance)
    }

    /// Section 5: the running factors with those of the subset S₁ taken in, and the last inverse with
    /// the eigenvalues that the subset corrects.
    fn observe(&self) -> Result<(EngineState, Observed), StepError> {
        let sample = Sample {
            model: self.model,
            batch: self.batch,
            given: self.given,
            normalisation: Normalisation::Running,
        };
        let observation = Observation {
            number: self.iteration(),
            refreshes: self.refreshes(),
            gamma: self.state.gamma,
            reach: Reach::All,
        };
        let engine = &self.setup.engine;
        engine.observe(&self.state.engine, sample, observation)
    }

    /// Sections 4.2, 6.3 and 6.6: a refreshed inverse for each γ to be tried, or work ahead for a later
    /// iteration.
    fn refresh(&self, engine: &EngineState) -> Result<Refresh, StepError> {
        let last = self.state.pace.last;
        let candidates = |iteration| self.config().candidates(iteration, last, self.state.gamma);
        let point = RefreshPoint {
            iteration: self.iteration(),
            refreshes: self.refreshes(),
            next: self.next_refresh(),
            candidates: &candidates,
        };
        self.setup.engine.refresh(engine, &point)
    }

    /// A proposal for each refreshed inverse, or by the last one; and the refresh under way.
    fn propose(
        &self,
        gradient: &ParameterVector,
        last: Option<&FisherInverse>,
        refresh: Refresh,
    ) -> Result<(Vec<Proposal>, Option<RefreshAhead>), StepError> {
        let layers = self.setup.engine.layers();
        let direction = |inverse: &FisherInverse| {
            let product = inverse.multiply_layers(layers, gradient)?;
            Ok(product.scaled(-1.0))
        };
        let stale = |inverse| {
            Ok(Proposal {
                gamma: self.state.gamma,
                direction: direction(inverse)?,
                refreshed: None,
            })
        };
        let fresh = |refreshed: DampedInverse| {
            Ok(Proposal {
                gamma: refreshed.gamma,
                direction: direction(&refreshed.inverse)?,
                refreshed: Some(refreshed),
            })
        };
        let (proposals, ahead): (Result<_, _>, _) = match refresh {
            Refresh::Later(ahead) => (last.into_iter().map(stale).collect(), ahead),
            Refresh::Now(inverses) => (inverses.into_iter().map(fresh).collect(), None),
        };
        Ok((proposals?, ahead))
    }

    /// Sections 6.4 and 7: the best proposal, with its coefficients from the exact Fisher on S₂.
    fn choose(
        &self,
        gradient: &ParameterVector,
        proposals: Vec<Proposal>,
    ) -> Result<(Choice, ModelSample), StepError> {
        let config = self.config();
        let previous = self.momentum_direction();
        let mut directions: Vec<_> = proposals.iter().map(|p| p.direction.clone()).collect();
        directions.extend(previous.cloned());
        let State { spread, growth, .. } = self.state;
        let share = Share {
            size: spread.share(config, self.batch.len(), growth.fixed_passes()),
            number: self.iteration(),
        };
        let subset = self.setup.engine.subset(self.batch, share);
        let metric = Metric {
            model: self.model,
            layers: self.setup.engine.layers(),
            loss: &self.setup.engine.loss,
            given: self.given,
            derivatives: config.derivatives,
            chunk_size: self.setup.engine.chunk_size,
        };
        let fisher = metric.gram(&subset, &directions)?;
        let sample = ModelSample {
            cases: subset.len(),
            spread: fisher.spread(),
        };
        let subspace = Subspace::new(&directions, gradient, fisher.products);
        let damping = self.state.lambda.lambda + config.l2;
        let choice = choose(proposals, &subspace, previous.is_some(), damping);
        let choice = choice.ok_or(StepError::NonFinite {
            quantity: Quantity::Proposal,
            layer: None,
        });
        Ok((choice?, sample))
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
        let layers = self.setup.engine.layers();
        let model = layers.with_parameters(self.model.clone(), &end);
        Path {
            start_norm: start.norm(),
            step_norm: step.norm(),
            start,
            step,
            end,
            model,
        }
    }

    /// Section 6.5: λ after comparing the objective after the step with the model's prediction.
    fn judge(
        &self,
        path: &Path<M>,
        objective: f64,
        model_change: f64,
    ) -> Result<Judgement, StepError> {
        let (rule, lambda) = (&self.setup.rule, self.state.lambda);
        let wanted = rule.wants_evidence(lambda, self.iteration());
        let far = path.step_norm > FAR * path.start_norm;
        let evidence = if wanted || far {
            Some(Evidence {
                before: objective,
                after: self.objective.value(&path.model, &path.end, self.batch)?,
                model_change,
                l2: self.config().l2,
                precision: host::machine_epsilon(path.start.dtype()),
            })
        } else {
            None
        };
        let astray = evidence.is_some_and(|evidence| self.leads_astray(evidence));
        // What the rule did not ask for only keeps a step from leading astray.
        let evidence = evidence.filter(|_| wanted || astray);
        let update = rule.update(lambda, self.iteration(), evidence);
        check_lambda(update.state.lambda)?;
        let outcome = if astray {
            StepOutcome::Rejected
        } else {
            StepOutcome::Taken
        };
        Ok(Judgement {
            update,
            evidence,
            outcome,
        })
    }

    /// Whether the objective after the step is not finite, or is out of all proportion: where curvature vanishes, as
    /// at a perfect fit, the quadratic model tells nothing of how far a step may go.
    fn leads_astray(&self, evidence: Evidence) -> bool {
        let rise = evidence.after - evidence.before;
        let first = self.state.first_objective.unwrap_or(evidence.before);
        !evidence.after.is_finite()
            || rise > ASTRAY * evidence.before.abs() && rise > ASTRAY_OF_FIRST * first.abs()
    }

    /// How noisy the gradient is, in the norm of the inverse that made the proposal.
    fn noise(
        &self,
        descent: &Descent,
        choice: &Choice,
        last: Option<&FisherInverse>,
    ) -> Result<Option<GradientNoise>, StepError> {
        let refreshed = choice.proposal.refreshed.as_ref();
        let inverse = refreshed.map(|refreshed| &refreshed.inverse).or(last);
        let Some((halves, inverse)) = descent.halves.as_ref().zip(inverse) else {
            return Ok(None);
        };
        let layers = self.setup.engine.layers();
        let product = inverse.multiply_layers(layers, &halves.difference)?;
        let spread = halves.difference.dot(&product);
        Ok(Some(GradientNoise {
            variance: spread / (self.batch.len() as f64 * halves.inverse_cases),
            square: -choice.model.slopes[0],
        }))
    }

    fn measures_noise(&self) -> bool {
        self.config().batches == BatchSchedule::Automatic && BatchGrowth::measures(self.iteration())
    }

    fn report(&self, descent: &Descent, decision: &Decision<M>, sampled: &Sampled) -> StepReport {
        let Decision {
            choice,
            path,
            judgement,
        } = decision;
        let last_step = self.state.previous_step.as_ref();
        let refreshed = choice.proposal.refreshed.as_ref();
        StepReport {
            iteration: self.iteration(),
            outcome: judgement.outcome,
            took_back_last_step: false,
            batch_size: self.batch.len(),
            statistics_cases: sampled.statistics,
            model_cases: sampled.model.cases,
            objective: descent.value,
            gradient_norm: descent.gradient.norm(),
            proposal_norm: choice.proposal.direction.norm(),
            step_norm: path.step_norm,
            previous_step_norm: last_step.map_or(0.0, ParameterVector::norm),
            parameter_norm_before: path.start_norm,
            parameter_norm: match judgement.outcome {
                StepOutcome::Taken => path.end.norm(),
                StepOutcome::Rejected => path.start_norm,
            },
            alpha: choice.scale.alpha,
            mu: choice.scale.mu,
            quadratic: choice.quadratic(),
            lambda: judgement.report(self.state.lambda.lambda),
            gamma_before: self.state.gamma,
            gamma: choice.proposal.gamma,
            gamma_candidates: choice.candidates.clone(),
            refreshed: refreshed.is_some(),
            pi: refreshed.map(|inverse| inverse.pi.clone()),
            repairs: refreshed.map_or_else(Vec::new, |inverse| inverse.repairs.clone()),
            noise: sampled.noise,
            times: PhaseTimes::default(),
        }
    }

    /// The model that the step leads to, and what the next step starts from.
    fn advance(
        &self,
        mut engine: EngineState,
        decision: Decision<M>,
        (report, sample): (StepReport, ModelSample),
    ) -> Advance<M> {
        let Decision {
            choice,
            path,
            judgement,
        } = decision;
        let lambda = judgement.update.state;
        let gamma = if lambda.starting {
            // The next step refreshes for this γ.
            engine.ahead = None;
            self.config().gamma_of(lambda.lambda)
        } else {
            choice.proposal.gamma
        };
        if let Some(refreshed) = choice.proposal.refreshed {
            engine.inverse = Some(refreshed.inverse);
        }
        let mut average = self.state.average.clone();
        average.update(self.state.iteration, || Iterate {
            parameters: path.start,
            statistics: self.setup.engine.layers().running_statistics(self.model),
        });
        let (model, previous_step) = match judgement.outcome {
            StepOutcome::Taken => (path.model, Some(path.step)),
            StepOutcome::Rejected => (self.model.clone(), None),
        };
        let growth = self.state.growth;
        let state = State {
            growth: growth.after(report.noise, self.batch.len()),
            spread: self.state.spread.with(sample.spread),
            pace: self.pace(&report),
            engine,
            iteration: self.iteration(),
            lambda,
            gamma,
            previous_step,
            origins: self.state.origins.clone(),
            average,
            first_objective: self.state.first_objective.or(Some(report.objective)),
        };
        Advance {
            state,
            model,
            report,
        }
    }

    fn config(&self) -> &KfacConfig {
        &self.setup.config
    }

    /// The iteration of this step, counted from one.
    fn iteration(&self) -> u64 {
        self.state.iteration + 1
    }

    fn refreshes(&self) -> bool {
        let (engine, iteration) = (&self.setup.engine, self.iteration());
        let due = match self.config().refresh {
            RefreshRule::Periodic => engine.refreshes(iteration),
            RefreshRule::WhenStale => engine.begins(iteration) || self.state.pace.due <= iteration,
        };
        due || self.state.lambda.starting
    }

    /// The next iteration in which the inverse is refreshed, if not in this one.
    fn next_refresh(&self) -> u64 {
        match self.config().refresh {
            RefreshRule::Periodic => self.setup.engine.next_refresh(self.iteration()),
            RefreshRule::WhenStale => self.state.pace.due,
        }
    }

    /// When the inverse is refreshed after this step.
    fn pace(&self, report: &StepReport) -> RefreshPace {
        self.state.pace.after(InverseUse {
            iteration: self.iteration(),
            refreshed: report.refreshed,
            starting: self.state.lambda.starting || self.setup.engine.begins(self.iteration()),
            alpha: report.alpha,
            eigen: self.setup.engine.decomposes(),
            longest: self.config().curvature.inverse_period,
        })
    }
}

impl Judgement {
    fn report(&self, used: f64) -> LambdaReport {
        LambdaReport {
            used,
            after: self.update.state.lambda,
            trial_objective: self.evidence.map(|evidence| evidence.after),
            reduction_ratio: self.evidence.map(|evidence| evidence.reduction_ratio()),
            action: self.update.action,
            calibrated: self.update.state.starting,
        }
    }
}
