//! The refresh of the inverse (sections 6.6 and 8), and how its work is spread over iterations.

use serde::{Deserialize, Serialize};

use super::{discover::Engine, state::EngineState};
use crate::inverse::{DampedInverse, InverseOf, PreparedFactors};

/// When the work of a refresh of the inverse is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum RefreshTiming {
    /// In the iteration in which the inverse takes effect, all of it.
    ///
    /// The paper's way: every `T₂`-th iteration waits for the inverses of three candidates γ.
    AtOnce,
    /// In the iterations just before that one, an inverse in each.
    ///
    /// One where γ stays, three where it is searched. They are all made from the factors at the first
    /// of these iterations, and so are one or three iterations old when they take effect.
    ///
    /// The work is the same, but no iteration waits for more than one inverse. Where `T₃` leaves no
    /// iterations for it, and in the first iterations, which refresh each time, the work is done at once.
    #[default]
    Ahead,
}

/// A refresh under way: inverses that are made before they take effect.
#[derive(Clone, Debug)]
pub(crate) struct RefreshAhead {
    /// The factors at its beginning.
    factors: PreparedFactors,
    /// The candidates.
    gammas: Vec<f64>,
    /// The inverses of the first of them.
    inverses: Vec<DampedInverse>,
}

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
        let begins = self.config.refresh_timing == RefreshTiming::Ahead
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
