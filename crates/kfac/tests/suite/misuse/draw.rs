//! What a careless caller might pass: mostly sound, now and then not.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers that break things.
const STRANGE: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    1e-320,
    1e30,
    -1e30,
    1e-30,
];

/// Choices that depend on nothing but a seed.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.random()
    }

    pub(super) fn within(&mut self, range: Range<usize>) -> usize {
        self.0.random_range(range)
    }

    /// Whether what happens so often in a hundred times does.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.within(0..100) < percent
    }

    pub(super) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.within(0..choices.len())].clone()
    }

    pub(super) fn strange(&mut self) -> f64 {
        self.of(&STRANGE)
    }

    /// A sound value of a setting, or a strange one.
    pub(super) fn setting(&mut self, sound: f64) -> f64 {
        if self.chance(4) {
            self.strange()
        } else {
            sound
        }
    }

    /// A period or a count.
    pub(super) fn count(&mut self, sound: &[u64]) -> u64 {
        if self.chance(3) {
            self.of(&[0, 7, u64::MAX, u64::MAX - 1])
        } else {
            self.of(sound)
        }
    }

    /// Cases of a batch.
    pub(super) fn cases(&mut self) -> usize {
        self.of(&[1, 2, 3, 5, 8, 8, 9, 9, 70, 0])
    }

    /// As many, or not quite.
    pub(super) fn about(&mut self, count: usize) -> usize {
        if self.chance(4) {
            self.of(&[0, 1, count + 1, count.saturating_sub(1), 2 * count])
        } else {
            count
        }
    }

    pub(super) fn floats<const D: usize>(&mut self, shape: [usize; D], dtype: DType) -> Tensor<D> {
        let count = shape.iter().product();
        let mut values: Vec<f64> = (0..count).map(|_| self.0.random_range(-2.0..2.0)).collect();
        if count > 0 && self.chance(12) {
            let at = self.within(0..count);
            values[at] = self.strange();
        } else if self.chance(4) {
            values.fill(self.strange());
        }
        let place = (&Device::default(), dtype);
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), place);
        match self.within(0..10) {
            0 => tensor.autodiff(),
            1 => tensor.autodiff().require_grad(),
            _ => tensor,
        }
    }

    /// Numbers in [0, 1], or anything.
    pub(super) fn probabilities<const D: usize>(
        &mut self,
        shape: [usize; D],
        dtype: DType,
    ) -> Tensor<D> {
        let any = self.floats(shape, dtype);
        if self.chance(80) {
            any.abs().clamp(0.0, 1.0)
        } else {
            any
        }
    }

    pub(super) fn classes<const D: usize>(
        &mut self,
        shape: [usize; D],
        classes: u32,
    ) -> Tensor<D, Int> {
        let count = shape.iter().product();
        let mut values = self.below(count, classes);
        let beyond = i64::from(classes);
        if count > 0 && self.chance(8) {
            let at = self.within(0..count);
            values[at] = self.of(&[-1, beyond, -100, i64::from(i32::MAX)]);
        }
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    /// Tokens that are all there.
    pub(super) fn tokens<const D: usize>(
        &mut self,
        shape: [usize; D],
        tokens: u32,
    ) -> Tensor<D, Int> {
        let values = self.below(shape.iter().product(), tokens);
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    fn below(&mut self, count: usize, bound: u32) -> Vec<i64> {
        let mut draw = || i64::from(self.0.random_range(0..bound));
        (0..count).map(|_| draw()).collect()
    }

    pub(super) fn precision(&mut self) -> DType {
        self.of(&[DType::F64, DType::F64, DType::F32])
    }
}
