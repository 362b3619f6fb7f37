//! The refresh of the inverse (sections 6.6 and 8), and how its work is spread over iterations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{config::KfacConfig, kfac::State};
use crate::{
    capture::Layers,
    damping::{DampedInverse, PreparedFactors},
    statistics::FactorSet,
};

/// When the work of a refresh of the inverse is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTiming {
    /// In the iteration in which the inverse takes effect, all of it. The paper's way: every `T₂`-th
    /// iteration waits for the inverses of three candidates γ.
    AtOnce,
    /// In the iterations just before that one, an inverse in each: one where γ stays, three where it is
    /// searched. They are all made from the factors at the first of these iterations, and so are one or
    /// three iterations old when they take effect.
    ///
    /// The work is the same, but no iteration waits for more than one inverse. Where `T₃` leaves no
    /// iterations for it, and in the first iterations, which refresh each time, the work is done at once.
    #[default]
    Ahead,
}

/// A refresh under way: inverses that are made before they take effect.
#[derive(Clone, Debug)]
pub(super) struct RefreshAhead {
    factors: Arc<PreparedFactors>,
    /// The candidates.
    gammas: Vec<f64>,
    /// The inverses of the first of them.
    inverses: Vec<DampedInverse>,
}

impl RefreshAhead {
    fn next_inverse(mut self) -> Self {
        if let Some(gamma) = self.gammas.get(self.inverses.len()) {
            self.inverses.push(self.factors.inverse(*gamma));
        }
        self
    }
}

/// What an iteration does about the inverse.
pub(super) enum Refresh {
    /// It steps with the last one, and may work ahead for the next.
    Later(Option<RefreshAhead>),
    /// It chooses among these, one a candidate γ.
    Now(Vec<DampedInverse>),
}

/// An iteration, counted from one, and what its refresh is made from.
pub(super) struct RefreshPoint<'a> {
    pub(super) config: &'a KfacConfig,
    pub(super) layers: &'a Layers,
    pub(super) state: &'a State,
    pub(super) factors: &'a FactorSet,
    pub(super) iteration: u64,
}

impl RefreshPoint<'_> {
    /// The work that is due.
    pub(super) fn work(&self) -> Refresh {
        if !self.state.refreshes(self.config) {
            return Refresh::Later(self.ahead());
        }
        if let Some(ahead) = &self.state.ahead {
            return Refresh::Now(ahead.inverses.clone());
        }
        let factors = self.prepared();
        let gammas = self.config.candidates(self.iteration, self.state.gamma);
        Refresh::Now(gammas.iter().map(|gamma| factors.inverse(*gamma)).collect())
    }

    fn ahead(&self) -> Option<RefreshAhead> {
        if let Some(ahead) = self.state.ahead.clone() {
            return Some(ahead.next_inverse());
        }
        let period = self.config.inverse_period;
        let due = self.iteration.next_multiple_of(period);
        let gammas = self.config.candidates(due, self.state.gamma);
        let begins = self.config.refresh_timing == RefreshTiming::Ahead
            && due - self.iteration == gammas.len() as u64;
        begins.then(|| {
            let ahead = RefreshAhead {
                factors: Arc::new(self.prepared()),
                gammas,
                inverses: Vec::new(),
            };
            ahead.next_inverse()
        })
    }

    fn prepared(&self) -> PreparedFactors {
        let kind = self.config.curvature().inverse;
        PreparedFactors::new(self.layers, self.factors, kind, self.state.inverse.as_ref())
    }
}
