//! Batches taken into the statistics of a preconditioner.

use std::ops::Range;

use super::{Preconditioner, report::ObserveReport};
use crate::{
    capture::Network,
    clock::Stopwatch,
    curvature::FisherEstimate,
    damping::{LambdaState, check_lambda},
    engine::{
        Gathering, Normalisation, Observation, Observed, Reach, Refresh, RefreshPoint, Sample,
    },
    error::StepError,
    loss::{Likelihood, Loss},
    network::{Batch, Cases, check_batch},
    optim::report::PhaseTimes,
};

/// So many cases, of whose targets nothing is known.
#[derive(Clone, Copy, Debug)]
struct Untargeted(usize);

impl Cases for Untargeted {
    fn len(&self) -> usize {
        self.0
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self(range.len())
    }

    fn select(&self, cases: &[usize]) -> Self {
        Self(cases.len())
    }
}

impl<L> Preconditioner<L> {
    /// Takes a batch into the statistics, and refreshes the inverse, where these are due.
    ///
    /// Call it once a step, with the training batch or a part of it ([`Batch::slice`]); parts that were accumulated
    /// before are taken in with it. The targets give the weights of the cases; beyond that only the empirical Fisher
    /// reads them. The model stays as it is: batch normalisations use the statistics of the batch (of at most 1024
    /// cases), as constants, and their running ones move in the training pass alone.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed, a factor is not finite, or the first batch does not reach
    /// a layer; later ones may leave layers out ([`unreached`](Self::unreached)). The preconditioner is then
    /// exactly as before, and the call does not count for the schedule.
    ///
    /// # Cost
    ///
    /// Where statistics are due, a forward and backward pass over `statistics_fraction` of the batch and the
    /// second moments of each layer's inputs and output gradients. A refresh adds the factorisations on the
    /// host, about `d³` for a factor of dimension `d`. Nothing in other calls.
    pub fn observe<M: Network, T: Cases>(
        &mut self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<ObserveReport, StepError>
    where
        L: Loss<M::Output, T>,
    {
        check_batch(batch)?;
        let gathered = self.gathered(model, batch, Some(&self.engine.loss))?;
        self.close(gathered)
    }

    /// The same with the inputs of a batch alone: estimates with sampled targets, and the exact one, read no
    /// others.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe), and where the targets matter: with the empirical estimate, and with
    /// [`Weighted`](crate::Weighted) losses.
    pub fn observe_inputs<M: Network>(
        &mut self,
        model: &M,
        inputs: &M::Input,
    ) -> Result<ObserveReport, StepError>
    where
        L: Likelihood<M::Output>,
    {
        let gathered = self.gathered_inputs(model, inputs)?;
        self.close(gathered)
    }

    /// Takes in a part of a batch whose gradients are accumulated; [`observe_accumulated`](Self::observe_accumulated)
    /// completes the observation.
    ///
    /// The statistics are then those of the whole batch. `statistics_fraction` is of each part.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the part is malformed; the parts before are kept. What is not finite is found when the
    /// parts are observed.
    pub fn accumulate<M: Network, T: Cases>(
        &mut self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(), StepError>
    where
        L: Loss<M::Output, T>,
    {
        check_batch(batch)?;
        self.state.gathering = self.gathered(model, batch, Some(&self.engine.loss))?;
        Ok(())
    }

    /// The same with the inputs of a part alone.
    ///
    /// # Errors
    ///
    /// As [`accumulate`](Self::accumulate), and where the targets matter.
    pub fn accumulate_inputs<M: Network>(
        &mut self,
        model: &M,
        inputs: &M::Input,
    ) -> Result<(), StepError>
    where
        L: Likelihood<M::Output>,
    {
        self.state.gathering = self.gathered_inputs(model, inputs)?;
        Ok(())
    }

    /// Takes the accumulated parts into the statistics, and refreshes the inverse, where these are due.
    ///
    /// # Errors
    ///
    /// [`StepError`] where statistics are due and no part was accumulated, a factor is not finite, or the first
    /// parts do not reach a layer. The parts are then dropped; everything else is as before.
    pub fn observe_accumulated(&mut self) -> Result<ObserveReport, StepError> {
        let gathering = self.state.gathering.take();
        self.close(gathering)
    }

    /// Whether the next observation takes statistics; the others cost nothing and look at nothing.
    pub fn statistics_due(&self) -> bool {
        let observation = self.observation();
        self.engine
            .observes(observation.number, observation.refreshes)
    }

    fn gathered_inputs<M: Network>(
        &self,
        model: &M,
        inputs: &M::Input,
    ) -> Result<Option<Gathering>, StepError>
    where
        L: Likelihood<M::Output>,
    {
        if self.config.curvature.fisher == FisherEstimate::Empirical
            || self.engine.loss.weighs_cases()
        {
            return Err(StepError::TargetsNeeded);
        }
        let batch = Batch::new(inputs.clone(), Untargeted(inputs.len()));
        check_batch(&batch)?;
        self.gathered(model, &batch, None)
    }

    /// What was gathered for the observation under way, with a batch taken in; nothing where none is due.
    fn gathered<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
        given: Option<&dyn Loss<M::Output, T>>,
    ) -> Result<Option<Gathering>, StepError>
    where
        L: Likelihood<M::Output>,
    {
        self.engine.check_model(model)?;
        if !self.statistics_due() {
            return Ok(None);
        }
        let observation = self.observation();
        let state = &self.state.engine;
        let begun = self.state.gathering.clone();
        let mut gathering = begun.unwrap_or_else(|| self.engine.gathering(state, observation));
        let sample = Sample {
            model,
            batch,
            given,
            normalisation: Normalisation::Batch,
        };
        self.engine
            .gather(&mut gathering, state, sample, observation)?;
        Ok(Some(gathering))
    }

    /// Completes an observation.
    fn close(&mut self, gathering: Option<Gathering>) -> Result<ObserveReport, StepError> {
        let observation = self.observation();
        let lambda = self.lambda_of(observation.number);
        check_lambda(lambda.lambda)?;
        let (mut engine, observed) = match gathering {
            Some(gathering) => {
                let state = &self.state.engine;
                self.engine.gathered(gathering, state, observation)?
            }
            None if self.statistics_due() => return Err(StepError::NothingAccumulated),
            None => (self.state.engine.clone(), Observed::default()),
        };
        let mut watch = Stopwatch::start();
        let point = RefreshPoint {
            next: self.engine.next_refresh(observation.number),
            iteration: observation.number,
            refreshes: observation.refreshes,
            candidates: &|_| vec![observation.gamma],
        };
        let mut repairs = None;
        match self.engine.refresh(&engine, &point)? {
            Refresh::Later(ahead) => engine.ahead = ahead,
            Refresh::Now(inverses) => {
                engine.ahead = None;
                for refreshed in inverses {
                    engine.inverse = Some(refreshed.inverse);
                    repairs = Some(refreshed.repairs);
                }
            }
        }
        let report = ObserveReport {
            observation: observation.number,
            lambda: lambda.lambda,
            cases: observed.cases,
            refreshed: repairs.is_some(),
            unreached: observed.unreached.clone(),
            repairs: repairs.clone().unwrap_or_default(),
            times: PhaseTimes {
                curvature_pass: observed.passes,
                factor_update: observed.factors,
                inverse: watch.lap(),
                ..PhaseTimes::default()
            },
        };
        let state = &mut self.state;
        state.engine = engine;
        if observed.of_batch > 0 {
            state.cases = observed.of_batch;
        }
        state.observations = observation.number;
        state.unreached = observed.unreached;
        state.repairs = repairs.unwrap_or_else(|| std::mem::take(&mut state.repairs));
        state.gathering = None;
        state.lambda = lambda;
        Ok(report)
    }

    /// The observation under way, or the next one.
    pub(super) fn observation(&self) -> Observation {
        let number = self.state.observations + 1;
        let lambda = self.lambda_of(number);
        Observation {
            number,
            refreshes: lambda.starting || self.engine.refreshes(number),
            gamma: lambda.lambda.sqrt(),
            reach: Reach::Some,
        }
    }

    /// λ in an observation: what the rule makes of it where no step was judged since the last one.
    fn lambda_of(&self, observation: u64) -> LambdaState {
        let (last, lambda) = (observation - 1, self.state.lambda);
        if self.state.judged >= last {
            lambda
        } else {
            self.rule.update(lambda, last, None).state
        }
    }
}
