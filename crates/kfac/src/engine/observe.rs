//! A batch taken into the running factors (section 5) and into corrected eigenvalues.

use super::{discover::Engine, state::EngineState};
use crate::{
    blocks::{GradientKind, Pass},
    capture::{CapturedPass, Network, normalised_by},
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
    pub(crate) normalisation: Normalisation,
}

/// Which statistics the batch normalisations of a model use, as constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normalisation {
    /// Its running ones.
    Running,
    /// Those of the batch, as training has them.
    Batch,
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
    /// The cases that were taken in.
    pub(crate) cases: usize,
    /// Those of the batches that they are from.
    pub(crate) of_batch: usize,
    /// Paths of the layers that the batch did not reach.
    pub(crate) unreached: Vec<String>,
}

/// The sums of the batches of one call, taken in one after another.
#[derive(Clone, Debug)]
pub(crate) struct Gathering {
    sums: BatchSums,
    random: RandomStream,
    observed: Observed,
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
        if !self.observes(observation.number, observation.refreshes) {
            return Ok((state.clone(), Observed::default()));
        }
        let mut gathering = self.gathering(state, observation);
        self.gather(&mut gathering, state, sample, observation)?;
        self.gathered(gathering, state, observation)
    }

    /// Sums of no case yet, for a call that takes statistics.
    pub(crate) fn gathering(&self, state: &EngineState, observation: Observation) -> Gathering {
        let config = &self.config;
        // A refreshed inverse has eigenvalues of its own.
        let inverse = state.inverse.as_ref();
        let inverse = inverse.filter(|_| !observation.refreshes);
        let correction =
            inverse.and_then(|inverse| CorrectionSums::new(inverse, config.eigenvalues));
        let purpose = Purpose::SampledTargets;
        Gathering {
            sums: BatchSums::new(&self.blocks, config.structure).correcting(correction),
            random: RandomStream::for_step(config.seed, observation.number, purpose),
            observed: Observed::default(),
        }
    }

    /// Takes in a batch; what is gathered is of no use where that fails.
    pub(crate) fn gather<M: Network, T: Cases>(
        &self,
        gathering: &mut Gathering,
        state: &EngineState,
        sample: Sample<'_, M, T>,
        observation: Observation,
    ) -> Result<(), StepError>
    where
        L: Likelihood<M::Output>,
    {
        let batch = self.statistics_subset(sample.batch, observation.number, 1);
        if state.statistics.updates == 0 {
            check_case_axis(self.blocks.layers(), sample.model, &batch.inputs)?;
        }
        let mut watch = Stopwatch::start();
        let model = match sample.normalisation {
            Normalisation::Running => sample.model.clone(),
            Normalisation::Batch => {
                normalised_by(self.layers(), sample.model, &sample.batch.inputs)
            }
        };
        let config = &self.config;
        let passes = Passes {
            blocks: &self.blocks,
            loss: &self.loss,
            estimate: config.fisher,
            samples: config.samples,
            chunk_size: self.chunk_size,
            given: sample.given,
        };
        let Gathering {
            sums,
            random,
            observed,
        } = gathering;
        passes.over(&model, &batch, random, |captured, pass| {
            observed.passes += watch.lap();
            sums.accumulate(captured, pass);
            observed.factors += watch.lap();
        })?;
        observed.cases += batch.len();
        observed.of_batch += sample.batch.len();
        Ok(())
    }

    /// Takes in a pass that was recorded in training.
    pub(crate) fn gather_recorded(gathering: &mut Gathering, recorded: CapturedPass) {
        let mut watch = Stopwatch::start();
        let pass = Pass {
            first: true,
            gradients: GradientKind::Given,
        };
        gathering.observed.cases += recorded.cases;
        gathering.observed.of_batch += recorded.cases;
        gathering.sums.accumulate(recorded, pass);
        gathering.observed.factors += watch.lap();
    }

    /// The state with what was gathered taken in.
    pub(crate) fn gathered(
        &self,
        gathering: Gathering,
        state: &EngineState,
        observation: Observation,
    ) -> Result<(EngineState, Observed), StepError> {
        let Gathering {
            sums, mut observed, ..
        } = gathering;
        let mut watch = Stopwatch::start();
        let cases = observed.cases;
        observed.unreached = sums.unreached();
        let former = (observation.reach == Reach::Some).then(|| state.factors());
        let (factors, correction) = sums.factors(cases, former)?;
        let cap = self.config.statistics_cap;
        let damping = self.rule.block(observation.gamma);
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
