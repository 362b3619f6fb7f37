//! How often the inverse is refreshed (section 8): as soon as it goes stale.

use serde::{Deserialize, Serialize};

/// When the inverse is refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum RefreshRule {
    /// As soon as it goes stale, and every `inverse_period` iterations at the latest.
    ///
    /// `α` tells: where the inverse has the right scale along the proposal, it stays what it was just after the last
    /// refresh, and it falls as curvature grows that the inverse does not know of. The next refresh is when `α` has
    /// fallen to `e^(−½)` of what a fresh inverse has, by the mean decline before the last few refreshes.
    #[default]
    WhenStale,
    /// Every `inverse_period` iterations, as in the paper.
    Periodic,
}

/// The decline of `ln α` at which an inverse is stale.
const STALE: f64 = 0.5;

/// The shortest interval: one iteration makes the inverse, the next one steps by it.
const SHORTEST: f64 = 2.0;

/// The shortest interval where refreshes are eigendecompositions, which take ten times as long as Cholesky
/// decompositions.
const SHORTEST_OF_EIGEN: f64 = 10.0;

/// The most by which an interval is longer than the last: a single α tells little.
const LARGEST_GROWTH: f64 = 1.5;

/// Weight of the past in the mean decline.
const PAST: f64 = 0.8;

/// The bounds of what a single refresh tells of the decline.
const BOUNDS: [f64; 2] = [-3.0, 5.0];

/// When the next refresh is due, by what the last ones told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RefreshPace {
    /// The iteration of the last refresh.
    pub(super) last: u64,
    /// That of the next one.
    pub(super) due: u64,
    /// The interval between them, before it is rounded.
    interval: f64,
    /// α of the last step.
    alpha: Option<f64>,
    /// Sums of declines and of the iterations in which they came about, the past ones weighing less.
    declines: [f64; 2],
}

/// What a step tells of the inverse.
#[derive(Clone, Copy, Debug)]
pub(super) struct InverseUse {
    pub(super) iteration: u64,
    /// Whether the inverse was refreshed.
    pub(super) refreshed: bool,
    /// Whether it is refreshed in each iteration for now.
    pub(super) starting: bool,
    pub(super) alpha: f64,
    /// Whether refreshes are eigendecompositions.
    pub(super) eigen: bool,
    /// `T₃`, the longest interval.
    pub(super) longest: u64,
}

impl RefreshPace {
    /// After a step.
    pub(super) fn after(self, step: InverseUse) -> Self {
        let known = step.alpha > 0.0 && step.alpha.is_finite();
        let next = if step.starting {
            Self::default().refreshed(step, 0.0)
        } else if step.refreshed {
            let fresh = self.alpha.filter(|_| known);
            let declines = match fresh {
                None => self.declines,
                Some(stale) => {
                    let decline = (step.alpha / stale).ln().clamp(BOUNDS[0], BOUNDS[1]);
                    let age = step.iteration.saturating_sub(self.last) as f64;
                    [
                        PAST * self.declines[0] + decline,
                        PAST * self.declines[1] + age,
                    ]
                }
            };
            Self { declines, ..self }.refreshed(step, declines[0] / declines[1].max(1.0))
        } else {
            self
        };
        Self {
            alpha: known.then_some(step.alpha),
            ..next
        }
    }

    /// With the next refresh after one, for a mean decline an iteration.
    fn refreshed(self, step: InverseUse, decline: f64) -> Self {
        let shortest = if step.eigen {
            SHORTEST_OF_EIGEN
        } else {
            SHORTEST
        };
        let longest = step.longest as f64;
        let most = (LARGEST_GROWTH * self.interval).max(shortest).min(longest);
        let wanted = if decline > 0.0 { STALE / decline } else { most };
        let interval = wanted.max(shortest).min(most);
        Self {
            last: step.iteration,
            due: step.iteration.saturating_add(interval.round() as u64),
            interval,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(iteration: u64, refreshed: bool, alpha: f64) -> InverseUse {
        InverseUse {
            iteration,
            refreshed,
            starting: false,
            alpha,
            eigen: false,
            longest: 20,
        }
    }

    /// The intervals of refreshes where α falls by a factor an iteration and is one with a fresh inverse.
    fn intervals(factor: f64, eigen: bool) -> Vec<u64> {
        let start = InverseUse {
            starting: true,
            eigen,
            ..step(5, true, 1.0)
        };
        let mut pace = RefreshPace::default().after(start);
        let mut found = Vec::new();
        for iteration in 6..300 {
            let refreshed = iteration >= pace.due;
            if refreshed {
                found.push(iteration - pace.last);
            }
            let age = if refreshed { 0 } else { iteration - pace.last };
            let alpha = factor.powi(i32::try_from(age).unwrap());
            pace = pace.after(InverseUse {
                eigen,
                ..step(iteration, refreshed, alpha)
            });
        }
        found
    }

    #[test]
    fn intervals_grow_to_the_longest_while_the_inverse_stays_good() {
        let found = intervals(1.0, false);
        assert_eq!(&found[..4], [2, 3, 5, 7]);
        assert_eq!(found.last(), Some(&20));
        assert!(found.is_sorted());
    }

    #[test]
    fn an_inverse_that_goes_stale_is_refreshed_before_it_is() {
        assert!(intervals(0.5, false).iter().all(|&interval| interval == 2));
        // ln α falls by 0.09 in the nine steps before a refresh after ten, so 0.05 would be.
        let found = intervals((-0.05f64).exp(), false);
        assert!(
            found[5..]
                .iter()
                .all(|interval| (9..=12).contains(interval)),
            "{found:?}"
        );
    }

    #[test]
    fn eigendecompositions_are_rarer() {
        assert!(intervals(0.5, true).iter().all(|&interval| interval == 10));
    }

    #[test]
    fn alphas_that_tell_nothing_leave_the_pace() {
        let pace = RefreshPace::default().after(InverseUse {
            starting: true,
            ..step(3, true, 1.0)
        });
        let unknown = pace.after(step(4, false, f64::NAN));
        assert_eq!(unknown.alpha, None);
        let refreshed = unknown.after(step(5, true, -1.0));
        assert_eq!((refreshed.due, refreshed.declines), (8, [0.0, 0.0]));
    }

    #[test]
    fn a_longest_interval_of_one_is_kept() {
        let always = InverseUse {
            longest: 1,
            ..step(7, true, 1.0)
        };
        assert_eq!(RefreshPace::default().after(always).due, 8);
    }
}
