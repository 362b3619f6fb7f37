//! The refresh of the inverse (sections 6.6 and 8), and how its work is spread over iterations.

use super::{
    config::RefreshTiming,
    discover::Engine,
    state::{EngineState, RefreshAhead},
};
use crate::inverse::{DampedInverse, InverseOf, PreparedFactors};

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
    /// The candidates γ of a refresh in an iteration.
    pub(crate) candidates: &'a dyn Fn(u64) -> Vec<f64>,
}

impl<L> Engine<L> {
    /// The work on the inverse that is due.
    pub(crate) fn refresh(&self, state: &EngineState, point: &RefreshPoint<'_>) -> Refresh {
        if !point.refreshes {
            return Refresh::Later(self.ahead(state, point));
        }
        if let Some(ahead) = &state.ahead {
            return Refresh::Now(ahead.inverses.clone());
        }
        let factors = self.prepared(state);
        let gammas = (point.candidates)(point.iteration).into_iter();
        Refresh::Now(
            gammas
                .map(|gamma| factors.inverse(self.inverse_of(state, gamma)))
                .collect(),
        )
    }

    fn ahead(&self, state: &EngineState, point: &RefreshPoint<'_>) -> Option<RefreshAhead> {
        if let Some(ahead) = state.ahead.clone() {
            return Some(self.continued(ahead, state));
        }
        let due = self.next_refresh(point.iteration);
        let gammas = (point.candidates)(due);
        // Work ahead would begin between two updates of the statistics.
        let fresh = self.config.statistics_period == 1;
        let begins = fresh
            && self.config.refresh_timing == RefreshTiming::Ahead
            && due - point.iteration == gammas.len() as u64;
        begins.then(|| {
            let ahead = RefreshAhead {
                factors: self.prepared(state),
                gammas,
                inverses: Vec::new(),
            };
            self.continued(ahead, state)
        })
    }

    /// The refresh with one more inverse.
    fn continued(&self, mut ahead: RefreshAhead, state: &EngineState) -> RefreshAhead {
        if let Some(gamma) = ahead.gammas.get(ahead.inverses.len()) {
            let inverse = ahead.factors.inverse(self.inverse_of(state, *gamma));
            ahead.inverses.push(inverse);
        }
        ahead
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
