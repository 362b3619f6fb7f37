//! A batch taken into the running factors (section 5) and into corrected eigenvalues.

use super::{discover::Engine, state::EngineState};
use crate::{
    capture::Network,
    clock::Stopwatch,
    curvature::{BatchSums, Passes, TargetGradient},
    error::StepError,
    inverse::CorrectionSums,
    loss::Likelihood,
    network::{Batch, Cases},
    random::{Purpose, RandomStream},
};

/// A model and the cases that its curvature is estimated from.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'a, M: Network, T> {
    pub(crate) model: &'a M,
    pub(crate) batch: &'a Batch<M::Input, T>,
    /// What the empirical Fisher needs; `None` where the targets are not those of the loss.
    pub(crate) given: Option<TargetGradient<'a, M::Output, T>>,
}

/// Which batch is observed, and what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// The number of the batch, counted from one.
    pub(crate) number: u64,
    /// Whether the inverse is refreshed in this call: its corrected eigenvalues are replaced then.
    pub(crate) refreshes: bool,
    /// γ of the inverse in use.
    pub(crate) gamma: f64,
}

/// Seconds of an observation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ObservationTimes {
    /// The passes over the network.
    pub(crate) passes: f64,
    /// The factors of the batch, the running averages, and corrected eigenvalues.
    pub(crate) factors: f64,
}

impl<L> Engine<L> {
    /// The state with a batch taken in, where that is due: its factors in the running averages, and the
    /// last inverse with the eigenvalues that the batch corrects. `state` is left as it is.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch does not go with the network, or a factor is not finite.
    pub(crate) fn observe<M: Network, T: Cases>(
        &self,
        state: &EngineState,
        sample: Sample<'_, M, T>,
        observation: Observation,
    ) -> Result<(EngineState, ObservationTimes), StepError>
    where
        L: Likelihood<M::Output>,
    {
        let Observation {
            number,
            refreshes,
            gamma,
        } = observation;
        let mut times = ObservationTimes::default();
        if !self.observes(number, refreshes) {
            return Ok((state.clone(), times));
        }
        let mut watch = Stopwatch::start();
        let config = &self.config;
        // A refreshed inverse has eigenvalues of its own.
        let inverse = state.inverse.as_ref().filter(|_| !refreshes);
        let correction =
            inverse.and_then(|inverse| CorrectionSums::new(inverse, config.eigenvalues));
        let mut sums = BatchSums::new(&self.blocks, config.structure).correcting(correction);
        let mut random = RandomStream::for_step(config.seed, number, Purpose::SampledTargets);
        let passes = Passes {
            blocks: &self.blocks,
            loss: &self.loss,
            estimate: config.fisher,
            samples: config.samples,
            chunk_size: config.chunk_size,
            given: sample.given,
        };
        passes.over(sample.model, sample.batch, &mut random, |captured, pass| {
            times.passes += watch.lap();
            sums.accumulate(captured, pass);
            times.factors += watch.lap();
        })?;
        let cases = sample.batch.len();
        let (factors, correction) = sums.factors(cases)?;
        let cap = config.statistics_cap;
        let damping = self.rule.block(gamma);
        let corrected = correction.map(|sums| sums.corrected(cases, cap, damping));
        let next = EngineState {
            statistics: state.statistics.updated(factors, cap),
            inverse: corrected.or_else(|| state.inverse.clone()),
            ahead: state.ahead.clone(),
        };
        times.factors += watch.lap();
        Ok((next, times))
    }
}
