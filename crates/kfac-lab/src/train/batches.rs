//! Mini-batches: a fresh random sample without replacement for each iteration, or epochs.

use burn::tensor::{Device, Tensor};
use kfac::Batch;
use rand::{
    SeedableRng,
    seq::{SliceRandom, index},
};
use rand_chacha::ChaCha8Rng;

use super::augment::Augmentation;
use crate::{precision::Precision, task::Rows};

/// The mini-batches of a run.
pub(crate) struct Batches<'a> {
    rows: &'a Rows,
    random: ChaCha8Rng,
    /// What is left of an epoch, where batches come in such.
    epoch: Vec<usize>,
    device: Device,
    precision: Precision,
    augmentation: Augmentation,
}

/// The whole batches of an epoch, at least one.
pub(crate) fn batches_of_epoch(cases: usize, size: usize) -> u64 {
    (cases / size).max(1) as u64
}

impl<'a> Batches<'a> {
    pub(crate) fn new(rows: &'a Rows, seed: u64, (device, precision): (Device, Precision)) -> Self {
        Self {
            rows,
            random: ChaCha8Rng::seed_from_u64(seed),
            epoch: Vec::new(),
            device,
            precision,
            augmentation: Augmentation::None,
        }
    }

    /// The same batches with their images changed.
    pub(crate) fn with_augmentation(self, augmentation: Augmentation) -> Self {
        Self {
            augmentation,
            ..self
        }
    }

    /// The next sample.
    pub(crate) fn next(&mut self, size: usize) -> Batch<Tensor<2>> {
        let picked = index::sample(&mut self.random, self.rows.len(), size);
        self.augmented(&picked.into_vec())
    }

    /// The next batch of an epoch, in which each case comes once; cases that fill no batch are left out of it.
    pub(crate) fn next_of_epoch(&mut self, size: usize) -> Batch<Tensor<2>> {
        if self.epoch.len() < size {
            self.epoch = (0..self.rows.len()).collect();
            self.epoch.shuffle(&mut self.random);
        }
        let left = self.epoch.len().saturating_sub(size);
        let picked = self.epoch.split_off(left);
        self.augmented(&picked)
    }

    fn augmented(&mut self, picked: &[usize]) -> Batch<Tensor<2>> {
        let (rows, pixels) = (self.rows, self.rows.d_in);
        let (augmentation, random) = (self.augmentation, &mut self.random);
        let change = |images: &mut [f32]| augmentation.apply(images, pixels, random);
        rows.changed_batch(picked, change, (&self.device, self.precision))
    }

    /// Some cases, in the order given.
    pub(crate) fn rows(&self, picked: &[usize]) -> Batch<Tensor<2>> {
        self.rows.batch(picked, (&self.device, self.precision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        Rows {
            inputs: (0..20).map(|i| i as f32).collect(),
            targets: None,
            d_in: 2,
            d_out: 2,
        }
    }

    #[test]
    fn samples_have_no_case_twice_and_depend_on_the_seed_only() {
        let rows = rows();
        let first = |seed, batch: usize| {
            let mut batches = Batches::new(&rows, seed, (Device::flex(), Precision::F32));
            (0..batch).for_each(|_| drop(batches.next(7)));
            batches
                .next(10)
                .inputs
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>()
        };
        let mut all = first(1, 0);
        assert_eq!(all, first(1, 0));
        assert_ne!(all, first(2, 0));
        assert_ne!(all, first(1, 1));
        all.sort_by(f32::total_cmp);
        assert_eq!(all, rows.inputs);
    }
}
