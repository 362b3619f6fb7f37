//! The part of a batch that an estimate is made from (section 8).

use super::{config::Subsets, discover::Engine};
use crate::{
    network::{Batch, Cases},
    random::{Purpose, RandomStream},
};

/// How large a subset is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) fraction: f64,
    /// At least so many cases, or all.
    pub(crate) at_least: usize,
    /// The number of the batch.
    pub(crate) number: u64,
}

impl Share {
    /// `⌈fraction · n⌉` of `n` cases, but at least `at_least` of them or all.
    fn of(self, cases: usize) -> usize {
        // The product is rounded before the ceiling: 0.1 · 30 is 3.0000000000000004 in binary.
        let scaled = (self.fraction * cases as f64 * 1e9).round() / 1e9;
        (scaled.ceil() as usize).max(self.at_least).clamp(1, cases)
    }
}

impl<L> Engine<L> {
    /// S₁: the cases of a batch that the statistics are made from, at least so many.
    pub(crate) fn statistics_subset<I: Cases, T: Cases>(
        &self,
        batch: &Batch<I, T>,
        number: u64,
        at_least: usize,
    ) -> Batch<I, T> {
        let share = Share {
            fraction: self.config.statistics_fraction,
            at_least,
            number,
        };
        self.subset(batch, share)
    }

    /// The subset of a batch.
    pub(crate) fn subset<I: Cases, T: Cases>(
        &self,
        batch: &Batch<I, T>,
        share: Share,
    ) -> Batch<I, T> {
        let (all, cases) = (batch.len(), share.of(batch.len()));
        match self.config.subsets {
            _ if cases == all => batch.clone(),
            Subsets::First => batch.slice(0..cases),
            Subsets::Spread => {
                let mut random =
                    RandomStream::for_step(self.config.seed, share.number, Purpose::Subsets);
                batch.select(&random.spread(all, cases))
            }
        }
    }
}
