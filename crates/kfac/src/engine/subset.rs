//! The part of a batch that an estimate is made from (section 8).

use super::{config::Subsets, discover::Engine};
use crate::{
    network::{Batch, Cases, Layer, Layers, ParameterAction, WeightSharing},
    random::{Purpose, RandomStream},
};

/// How many effective cases the running averages have for each dimension of the largest factor: as many as with the
/// paper's fraction of first batches of half the widest layer. On CURVES twice as many were slower.
const OF_DIMENSION: f64 = 2.5;

/// Cases that the factors are estimated from at least: those of small layers too are of some use in the first steps.
const FEWEST: usize = 32;

/// A subset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) size: ShareSize,
    /// The number of the batch.
    pub(crate) number: u64,
}

/// How large a subset is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ShareSize {
    /// A part of the batch, but at least so many cases or all.
    Fraction { of_batch: f64, at_least: usize },
    /// So many cases, or all.
    Cases(usize),
}

impl ShareSize {
    /// The cases out of so many: at least one, and for a fraction `⌈fraction · n⌉` of `n`.
    fn of(self, cases: usize) -> usize {
        let wanted = match self {
            Self::Fraction { of_batch, at_least } => {
                // The product is rounded before the ceiling: 0.1 · 30 is 3.0000000000000004 in binary.
                let scaled = (of_batch * cases as f64 * 1e9).round() / 1e9;
                (scaled.ceil() as usize).max(at_least)
            }
            Self::Cases(wanted) => wanted,
        };
        wanted.clamp(1, cases)
    }
}

/// The cases of a batch that the statistics are made from where no fraction is set.
///
/// # Definition
///
/// An average that keeps at most the part ξ of its past has the noise of `(1 + ξ) / (1 − ξ)` updates. With n cases an
/// update, each at R positions, a factor of dimension d is estimated from `n R (1 + ξ) / (1 − ξ)` vectors, and n is the
/// least with which these are [`OF_DIMENSION`] times d in each layer.
pub(crate) fn enough_cases(layers: &Layers, cap: f64) -> usize {
    let of_layer = |layer: &Layer| {
        let inputs = match layer.action {
            ParameterAction::Product { .. } => layer.activation_dimension(),
            // Diagonal, or a number.
            ParameterAction::Lookup | ParameterAction::Scale | ParameterAction::Alone => 1,
        };
        let dimension = inputs.max(layer.gradient_dimension());
        let positions = match layer.sharing {
            WeightSharing::Reduce => 1,
            WeightSharing::Expand | WeightSharing::Automatic => layer.positions,
        };
        dimension as f64 / positions.max(1) as f64
    };
    let largest = layers.iter().map(of_layer).fold(0.0, f64::max);
    let cases = OF_DIMENSION * largest * (1.0 - cap) / (1.0 + cap);
    (cases.ceil() as usize).max(FEWEST)
}

impl<L> Engine<L> {
    /// S₁: the cases of a batch that the statistics are made from, at least so many.
    pub(crate) fn statistics_subset<I: Cases, T: Cases>(
        &self,
        batch: &Batch<I, T>,
        number: u64,
        at_least: usize,
    ) -> Batch<I, T> {
        let size = self.statistics_share(at_least);
        self.subset(batch, Share { size, number })
    }

    pub(crate) fn statistics_share(&self, at_least: usize) -> ShareSize {
        if let Some(of_batch) = self.config.statistics_fraction {
            return ShareSize::Fraction { of_batch, at_least };
        }
        let enough = enough_cases(self.layers(), self.config.statistics_cap);
        ShareSize::Cases(enough.max(at_least))
    }

    /// The subset of a batch.
    pub(crate) fn subset<I: Cases, T: Cases>(
        &self,
        batch: &Batch<I, T>,
        share: Share,
    ) -> Batch<I, T> {
        let (all, cases) = (batch.len(), share.size.of(batch.len()));
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
