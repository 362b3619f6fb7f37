//! A batch taken into the running factors (section 5) and into corrected eigenvalues.

use super::{discover::Engine, state::EngineState};
use crate::{
    capture::Network,
    clock::Stopwatch,
    curvature::{BatchSums, Passes, check_case_axis},
    error::StepError,
    inverse::CorrectionSums,
    loss::{Likelihood, Loss},
    network::{Batch, Cases},
    random::{Purpose, RandomStream},
};

/// A model and the batch from some of whose cases its curvature is estimated.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'a, M: Network, T> {
    pub(crate) model: &'a M,
    pub(crate) batch: &'a Batch<M::Input, T>,
    /// The loss of the targets, which weighs the cases; `None` where they are not those of a loss.
    pub(crate) given: Option<&'a dyn Loss<M::Output, T>>,
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
    /// Which layers the batch has to reach.
    pub(crate) reach: Reach,
}

/// Which layers a batch has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All: each has a part of the step.
    All,
    /// Some: the factors of the others stay as they are, once there are such.
    Some,
}

/// Seconds of an observation, and what it did not see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The passes over the network.
    pub(crate) passes: f64,
    /// The factors of the batch, the running averages, and corrected eigenvalues.
    pub(crate) factors: f64,
    /// Paths of the layers that the batch did not reach.
    pub(crate) unreached: Vec<String>,
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
    ) -> Result<(EngineState, Observed), StepError>
    where
        L: Likelihood<M::Output>,
    {
        let Observation {
            number,
            refreshes,
            gamma,
            reach,
        } = observation;
        let mut observed = Observed::default();
        if !self.observes(number, refreshes) {
            return Ok((state.clone(), observed));
        }
        let batch = self.statistics_subset(sample.batch, number, 1);
        if state.statistics.updates == 0 {
            check_case_axis(self.blocks.layers(), sample.model, &batch.inputs)?;
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
            chunk_size: self.chunk_size,
            given: sample.given,
        };
        passes.over(sample.model, &batch, &mut random, |captured, pass| {
            observed.passes += watch.lap();
            sums.accumulate(captured, pass);
            observed.factors += watch.lap();
        })?;
        let cases = batch.len();
        observed.unreached = sums.unreached();
        let former = (reach == Reach::Some).then(|| state.factors());
        let (factors, correction) = sums.factors(cases, former)?;
        let cap = config.statistics_cap;
        let damping = self.rule.block(gamma);
        let corrected = correction.map(|sums| sums.corrected(cases, cap, damping));
        let next = EngineState {
            statistics: state.statistics.updated(factors, cap),
            inverse: corrected.or_else(|| state.inverse.clone()),
            ahead: state.ahead.clone(),
        };
        observed.factors += watch.lap();
        Ok((next, observed))
    }
}
