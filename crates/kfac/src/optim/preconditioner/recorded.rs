//! Statistics taken from the training pass itself.

use burn::tensor::Gradients;

use super::{Preconditioner, report::ObserveReport};
use crate::{
    capture::{CapturedPass, Tape},
    curvature::FisherEstimate,
    engine::Engine,
    error::StepError,
};

/// What a training loss is of the losses of its cases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Reduction {
    /// Their mean over the cases.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum divided by this, as by the number of tokens, or of accumulated batches times cases.
    DividedBy(f64),
}

impl Reduction {
    fn divisor(self, cases: usize) -> f64 {
        match self {
            Self::Mean => cases as f64,
            Self::Sum => 1.0,
            Self::DividedBy(divisor) => divisor,
        }
    }
}

impl<L> Preconditioner<L> {
    /// The tape for a training pass that the statistics are taken from, with
    /// [`FisherEstimate::Empirical`](crate::FisherEstimate::Empirical): it records where statistics are due, and is
    /// off elsewhere. Batches are normalised by their own statistics and dropout is at work, as without a tape.
    ///
    /// Other estimates need a backward pass with gradients of their own, and Burn's graph can be walked once: they
    /// take [`observe`](Self::observe).
    ///
    /// # Cost
    ///
    /// Where it records, an addition at the output of each layer.
    pub fn tape(&self) -> Tape {
        if self.statistics_due() {
            Tape::recording_training(self.layers())
        } else {
            Tape::off()
        }
    }

    /// Takes a recorded training pass into the statistics, and refreshes the inverse, where these are due.
    ///
    /// Call it between the backward pass and `GradientsParams::from_grads`. Other passes of the same step come before,
    /// by [`accumulate_recorded`](Self::accumulate_recorded).
    ///
    /// # Errors
    ///
    /// As [`accumulate_recorded`](Self::accumulate_recorded) and
    /// [`observe_accumulated`](Self::observe_accumulated).
    ///
    /// # Cost
    ///
    /// The second moments of each layer's inputs and output gradients, and no pass.
    pub fn observe_recorded(
        &mut self,
        tape: Tape,
        gradients: &mut Gradients,
        cases: usize,
        reduction: Reduction,
    ) -> Result<ObserveReport, StepError> {
        self.accumulate_recorded(tape, gradients, cases, reduction)?;
        self.observe_accumulated()
    }

    /// Takes in a recorded training pass over so many cases.
    ///
    /// # Errors
    ///
    /// [`StepError`] where statistics are due and the tape is not that of [`tape`](Self::tape), the estimate is
    /// another one than the empirical, or the reduction divides by what is no positive number.
    pub fn accumulate_recorded(
        &mut self,
        tape: Tape,
        gradients: &mut Gradients,
        cases: usize,
        reduction: Reduction,
    ) -> Result<(), StepError> {
        if !self.statistics_due() {
            return Ok(());
        }
        let divisor = reduction.divisor(cases);
        if !(divisor.is_finite() && divisor > 0.0) {
            return Err(StepError::Reduction { divisor });
        }
        let empirical = self.config.curvature.fisher == FisherEstimate::Empirical;
        if !(empirical && tape.has_records()) {
            return Err(StepError::NotRecorded);
        }
        let empty = CapturedPass::empty(self.layers().len(), cases);
        let recorded = tape.into_pass(gradients, empty).scaled(divisor);
        let begun = self.state.gathering.take();
        let mut gathering = begun.unwrap_or_else(|| {
            let observation = self.observation();
            self.engine.gathering(&self.state.engine, observation)
        });
        Engine::<L>::gather_recorded(&mut gathering, recorded);
        self.state.gathering = Some(gathering);
        Ok(())
    }
}
