//! Training cases: what a network is fed, and the mini-batches made of it.

use std::ops::Range;

use burn::tensor::{Tensor, kind::Basic};

use crate::error::StepError;

/// A run of training cases that can be cut into parts along the case axis.
///
/// Implemented for tensors (the first axis counts the cases) and for pairs to quadruples. Implement it for a type of
/// your own when a network takes several inputs, or when cases are to be loaded only once they are
/// needed: large batches are evaluated in chunks, each cut by [`slice`](Cases::slice) just before it is
/// used, so a lazy type never holds more than one chunk on the device.
pub trait Cases: Clone + Send {
    /// The number of cases.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cases of a range, which lies within `0..self.len()`.
    #[must_use]
    fn slice(&self, range: Range<usize>) -> Self;
}

impl<const D: usize, K: Basic> Cases for Tensor<D, K> {
    fn len(&self) -> usize {
        self.dims()[0]
    }

    fn slice(&self, range: Range<usize>) -> Self {
        if range == (0..self.dims()[0]) {
            self.clone()
        } else {
            self.clone().slice_dim(0, range)
        }
    }
}

macro_rules! cases_of_parts {
    ($($part:ident $field:tt),+) => {
        impl<$($part: Cases),+> Cases for ($($part,)+) {
            fn len(&self) -> usize {
                self.0.len()
            }

            fn slice(&self, range: Range<usize>) -> Self {
                ($(self.$field.slice(range.clone()),)+)
            }
        }
    };
}

cases_of_parts!(A 0, B 1);
cases_of_parts!(A 0, B 1, C 2);
cases_of_parts!(A 0, B 1, C 2, D 3);

/// A mini-batch: the inputs of its cases and their targets.
///
/// # Shapes
///
/// Of targets, the form that the loss asks for:
///
/// - probabilities in `[0, 1]` for [`Bernoulli`](crate::Bernoulli) and real values for
///   [`Gaussian`](crate::Gaussian), shaped like the outputs;
/// - for [`Categorical`](crate::Categorical) the class of each case (and position), `Tensor<_, Int>` of
///   the outputs' shape without its last axis, or one-hot rows, or rows of probabilities;
/// - for a network with several heads, the targets of each as a tuple.
#[derive(Clone, Debug)]
pub struct Batch<I, T = Tensor<2>> {
    /// The inputs of the `n` cases.
    pub inputs: I,
    /// The targets of the `n` cases.
    pub targets: T,
}

impl<I: Cases, T: Cases> Batch<I, T> {
    /// A batch of inputs and their targets.
    pub fn new(inputs: I, targets: T) -> Self {
        Self { inputs, targets }
    }

    /// The number of cases.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether the batch has no cases.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cases of a range.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self {
            inputs: self.inputs.slice(range.clone()),
            targets: self.targets.slice(range),
        }
    }

    /// The first `⌈fraction · n⌉` cases, but at least `at_least` of them or all.
    ///
    /// The batch is a random sample already, so its head is one too.
    pub(crate) fn head(&self, fraction: f64, at_least: usize) -> Self {
        // The product is rounded before the ceiling: 0.1 · 30 is 3.0000000000000004 in binary.
        let scaled = (fraction * self.len() as f64 * 1e9).round() / 1e9;
        let cases = (scaled.ceil() as usize).max(at_least).clamp(1, self.len());
        self.slice(0..cases)
    }

    /// Consecutive parts of at most `size` cases.
    pub(super) fn parts(&self, size: usize) -> impl Iterator<Item = Self> + '_ {
        let n = self.len();
        (0..n)
            .step_by(size.max(1))
            .map(move |start| self.slice(start..(start + size).min(n)))
    }
}

/// Refuses a batch without cases, or with a different number of inputs and targets.
pub(crate) fn check_batch<I: Cases, T: Cases>(batch: &Batch<I, T>) -> Result<(), StepError> {
    let (inputs, targets) = (batch.len(), batch.targets.len());
    if inputs == 0 {
        Err(StepError::EmptyBatch)
    } else if inputs == targets {
        Ok(())
    } else {
        Err(StepError::CaseCount { inputs, targets })
    }
}
