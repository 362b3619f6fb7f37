//! Evaluating a batch in parts: one after another, or at once on the host's own processors.

use burn::tensor::Device;
use rayon::prelude::*;

use crate::cases::{Batch, Cases};

/// Fewer cases than this are not cut further: products of a few rows are slow.
const SMALLEST_PART: usize = 64;

/// How a batch is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// The cases of a part.
    size: usize,
    /// How many parts are evaluated at once.
    at_once: usize,
}

impl Parts {
    /// Parts of a batch of `cases`, with at most `chunk_size` cases evaluated at once.
    ///
    /// Burn's CPU device computes products on all processors, but everything element by element on
    /// one; parts that run at the same time use the others too. Other devices get one part at a time.
    pub(crate) fn new(cases: usize, chunk_size: usize, device: &Device) -> Self {
        let at_once = if is_host(device) {
            let most = cases.min(chunk_size).div_ceil(SMALLEST_PART);
            rayon::current_num_threads().clamp(1, most.max(1))
        } else {
            1
        };
        let size = cases.min(chunk_size).div_ceil(at_once);
        Self { size, at_once }
    }

    /// What `evaluate` makes of each part, in their order. `prepare` gives each part what it needs of
    /// its own.
    ///
    /// Lazy: no more results are held than parts are evaluated at once, and nothing is evaluated after
    /// the last one asked for.
    pub(crate) fn map<I, P, R>(
        self,
        batch: &Batch<I>,
        prepare: impl Fn() -> P,
        evaluate: impl Fn(P, Batch<I>) -> R + Sync,
    ) -> impl Iterator<Item = R>
    where
        I: Cases,
        P: Send,
        R: Send,
    {
        let mut parts = batch.chunks(self.size);
        let next_group = move || {
            let group = parts.by_ref().take(self.at_once);
            let group: Vec<(P, Batch<I>)> = group.map(|part| (prepare(), part)).collect();
            let results = group
                .into_par_iter()
                .map(|(own, part)| evaluate(own, part))
                .collect::<Vec<R>>();
            (!results.is_empty()).then_some(results)
        };
        std::iter::from_fn(next_group).flatten()
    }
}

#[cfg(feature = "flex")]
fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(not(feature = "flex"))]
fn is_host(_device: &Device) -> bool {
    false
}
