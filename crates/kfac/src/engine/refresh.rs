//! The refresh of the inverse (sections 6.6 and 8), and how its work is spread over iterations.

use super::{
    config::RefreshTiming,
    discover::Engine,
    state::{EngineState, RefreshAhead},
};
use crate::{
    error::StepError,
    inverse::{DampedInverse, InverseOf, PreparedFactors},
};

/// What an iteration does about the inverse.
pub(crate) enum Refresh {
    /// It steps with the last one, and may work ahead for the next.
    Later(Option<RefreshAhead>),
    /// It chooses among these, one a candidate γ.
    Now(Vec<DampedInverse>),
}

/// An iteration, and the candidates of its refreshes.
pub(crate) struct RefreshPoint<'a> {
    /// The number of the iteration, counted from one.
    pub(crate) iteration: u64,
    /// Whether the inverse is refreshed in this iteration.
    pub(crate) refreshes: bool,
    /// The next iteration in which it is, if not in this one.
    pub(crate) next: u64,
    /// The candidates γ of a refresh in an iteration.
    pub(crate) candidates: &'a dyn Fn(u64) -> Vec<f64>,
}

impl<L> Engine<L> {
    /// The work on the inverse that is due.
    ///
    /// # Errors
    ///
    /// [`StepError::Damping`] where the damping rule gives what damps nothing.
    pub(crate) fn refresh(
        &self,
        state: &EngineState,
        point: &RefreshPoint<'_>,
    ) -> Result<Refresh, StepError> {
        if !point.refreshes {
            return Ok(Refresh::Later(self.ahead(state, point)?));
        }
        if let Some(mut ahead) = state.ahead.clone() {
            // Where the interval was too short for all of them.
            while ahead.inverses.len() < ahead.gammas.len() {
                ahead = self.continued(ahead, state)?;
            }
            return Ok(Refresh::Now(ahead.inverses));
        }
        let factors = self.prepared(state);
        let gammas = (point.candidates)(point.iteration).into_iter();
        let inverses = gammas.map(|gamma| factors.inverse(self.inverse_of(state, gamma)));
        Ok(Refresh::Now(inverses.collect::<Result<_, _>>()?))
    }

    fn ahead(
        &self,
        state: &EngineState,
        point: &RefreshPoint<'_>,
    ) -> Result<Option<RefreshAhead>, StepError> {
        if let Some(ahead) = state.ahead.clone() {
            return self.continued(ahead, state).map(Some);
        }
        let gammas = (point.candidates)(point.next);
        // Work ahead would begin between two updates of the statistics.
        let fresh = self.config.statistics_period == 1;
        let begins = fresh
            && self.config.refresh_timing == RefreshTiming::Ahead
            && point.next.saturating_sub(point.iteration) <= gammas.len() as u64;
        if !begins {
            return Ok(None);
        }
        let ahead = RefreshAhead {
            factors: self.prepared(state),
            gammas,
            inverses: Vec::new(),
        };
        self.continued(ahead, state).map(Some)
    }

    /// The refresh with one more inverse.
    fn continued(
        &self,
        mut ahead: RefreshAhead,
        state: &EngineState,
    ) -> Result<RefreshAhead, StepError> {
        if let Some(gamma) = ahead.gammas.get(ahead.inverses.len()) {
            let inverse = ahead.factors.inverse(self.inverse_of(state, *gamma))?;
            ahead.inverses.push(inverse);
        }
        Ok(ahead)
    }

    fn prepared(&self, state: &EngineState) -> PreparedFactors {
        let method = self.config.inverse_method;
        PreparedFactors::new(state.factors(), self.rule.clone(), method)
    }

    fn inverse_of<'a>(&'a self, state: &'a EngineState, gamma: f64) -> InverseOf<'a> {
        InverseOf {
            layers: self.blocks.layers(),
            gamma,
            previous: state.inverse.as_ref(),
        }
    }
}
