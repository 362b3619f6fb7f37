//! Evaluating a batch in parts: one after another, or at once on the host's own processors.

use burn::tensor::Device;

use super::cases::{Batch, Cases};
use crate::workers::{map_at_once, threads};

/// No more cases than this are not cut: products of a few rows are slow.
const UNCUT: usize = 64;

/// How a batch is cut.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    device: Device,
    /// The cases of a part.
    size: usize,
    /// How many parts are evaluated at once.
    at_once: usize,
}

impl Parts {
    /// Parts of a batch of `cases`, with at most `chunk_size` cases evaluated at once, and at least one.
    ///
    /// Burn's CPU device computes products on all processors, but everything element by element on
    /// one; parts that run at the same time use the others too. Other devices get one part at a time.
    pub(crate) fn new(cases: usize, chunk_size: usize, device: &Device) -> Self {
        Self::beyond(UNCUT, cases, chunk_size, device)
    }

    /// The same, where no more than so many cases are not cut.
    pub(crate) fn beyond(uncut: usize, cases: usize, chunk_size: usize, device: &Device) -> Self {
        let chunk = cases.min(chunk_size).max(1);
        let at_once = threads(device).clamp(1, chunk.div_ceil(uncut));
        Self {
            device: device.clone(),
            size: chunk.div_ceil(at_once),
            at_once,
        }
    }

    /// The same, but two parts where a batch of so many cases would be one.
    pub(crate) fn at_least_two(self, cases: usize) -> Self {
        Self {
            size: self.size.min(cases.div_ceil(2)).max(1),
            ..self
        }
    }

    /// Parts of a single case, one after another.
    pub(crate) fn of_single_cases(device: &Device) -> Self {
        Self {
            device: device.clone(),
            size: 1,
            at_once: 1,
        }
    }

    /// Consecutive parts, those that are evaluated at once together.
    pub(crate) fn groups<I: Cases, T: Cases>(
        &self,
        batch: &Batch<I, T>,
    ) -> impl Iterator<Item = Vec<Batch<I, T>>> {
        let mut parts = batch.parts(self.size);
        let at_once = self.at_once;
        std::iter::from_fn(move || {
            let group: Vec<_> = parts.by_ref().take(at_once).collect();
            (!group.is_empty()).then_some(group)
        })
    }

    /// What `evaluate` makes of each item of a group, at once.
    pub(crate) fn at_once<A: Send, R: Send>(
        &self,
        group: Vec<A>,
        evaluate: impl Fn(A) -> R + Send + Sync,
    ) -> Vec<R> {
        map_at_once(&self.device, group, evaluate)
    }

    /// What `evaluate` makes of each part, in their order. `prepare` gives each part what it needs of
    /// its own.
    ///
    /// Lazy: no more results are held than parts are evaluated at once, and nothing is evaluated after
    /// the last one asked for.
    pub(crate) fn map<I, T, P, R>(
        &self,
        batch: &Batch<I, T>,
        prepare: impl Fn() -> P,
        evaluate: impl Fn(P, Batch<I, T>) -> R + Send + Sync,
    ) -> impl Iterator<Item = R>
    where
        I: Cases,
        T: Cases,
        P: Send,
        R: Send,
    {
        self.groups(batch).flat_map(move |group| {
            let group: Vec<_> = group.into_iter().map(|part| (prepare(), part)).collect();
            self.at_once(group, |(own, part)| evaluate(own, part))
        })
    }
}
