//! Mini-batches: a fresh random sample without replacement for each iteration, or epochs.

use burn::tensor::{Device, Tensor};
use kfac::Batch;
use rand::{
    SeedableRng,
    seq::{SliceRandom, index},
};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use crate::{precision::Precision, task::Rows};

/// The mini-batches of a run.
pub(crate) struct Batches<'a> {
    rows: &'a Rows,
    random: ChaCha8Rng,
    /// What is left of an epoch, where batches come in such.
    epoch: Vec<usize>,
    /// Where the stream of random numbers was when its order was drawn.
    epoch_drawn_at: u128,
    device: Device,
    precision: Precision,
    augmentation: Augmentation,
}

/// Where a stream of batches is: with the seed, all that the following batches depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchPosition {
    /// Words of the stream of random numbers so far.
    word: u128,
    epoch_drawn_at: u128,
    left_of_epoch: usize,
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
            epoch_drawn_at: 0,
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
            self.draw_epoch();
        }
        let left = self.epoch.len().saturating_sub(size);
        let picked = self.epoch.split_off(left);
        self.augmented(&picked)
    }

    fn draw_epoch(&mut self) {
        self.epoch_drawn_at = self.random.get_word_pos();
        self.epoch = (0..self.rows.len()).collect();
        self.epoch.shuffle(&mut self.random);
    }

    /// Where the stream of batches is.
    pub(super) fn position(&self) -> BatchPosition {
        BatchPosition {
            word: self.random.get_word_pos(),
            epoch_drawn_at: self.epoch_drawn_at,
            left_of_epoch: self.epoch.len(),
        }
    }

    /// Moves the stream of batches to where it was.
    pub(super) fn move_to(&mut self, position: BatchPosition) {
        self.epoch.clear();
        if position.left_of_epoch > 0 {
            self.random.set_word_pos(position.epoch_drawn_at);
            self.draw_epoch();
            self.epoch.truncate(position.left_of_epoch);
        }
        self.random.set_word_pos(position.word);
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
    fn a_stream_that_is_moved_to_a_position_goes_on_as_the_first_one_did() {
        let rows = Rows { d_in: 1, ..rows() };
        let new = || {
            let batches = Batches::new(&rows, 5, (Device::flex(), Precision::F32));
            batches.with_augmentation(Augmentation::ShiftFlip)
        };
        let values = |batch: Batch<Tensor<2>>| batch.inputs.into_data();
        for (size, before) in [(3, 0), (3, 1), (3, 5), (10, 1), (4, 7)] {
            for next in [Batches::next, Batches::next_of_epoch] {
                let mut batches = new();
                (0..before).for_each(|_| drop(next(&mut batches, size)));
                let mut moved = new();
                moved.move_to(batches.position());
                for _ in 0..5 {
                    let [a, b] = [&mut batches, &mut moved].map(|b| values(next(b, size)));
                    assert_eq!(a, b, "{size}, {before}");
                }
            }
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
