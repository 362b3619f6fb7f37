//! Training cases: what a network is fed, and the mini-batches made of it.

use std::ops::Range;

use burn::tensor::{
    Int, Tensor, TensorData,
    kind::{Autodiff, Basic},
};

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

    /// The number of cases of each of its parts, where it has several: a batch in which they differ is
    /// refused.
    fn lengths(&self) -> Vec<usize> {
        vec![self.len()]
    }

    /// The cases of a range, which lies within `0..self.len()`.
    #[must_use]
    fn slice(&self, range: Range<usize>) -> Self;

    /// Some of the cases, by their indices, which are below `self.len()`.
    #[must_use]
    fn select(&self, cases: &[usize]) -> Self;

    /// The cases without the history of their making, so that gradients end at a network's inputs; by
    /// default the cases themselves, as is right where nothing tracks gradients.
    #[must_use]
    fn detached(&self) -> Self {
        self.clone()
    }
}

impl<const D: usize, K: Basic + Autodiff> Cases for Tensor<D, K> {
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

    fn select(&self, cases: &[usize]) -> Self {
        let index = |&case: &usize| i64::try_from(case).unwrap_or(i64::MAX);
        let indices: Vec<i64> = cases.iter().map(index).collect();
        let data = TensorData::new(indices, [cases.len()]);
        let indices = Tensor::<1, Int>::from_data(data, &self.device());
        self.clone().select(0, indices)
    }

    fn detached(&self) -> Self {
        if self.is_autodiff() {
            self.clone().inner().autodiff()
        } else {
            self.clone()
        }
    }
}

macro_rules! cases_of_parts {
    ($($part:ident $field:tt),+) => {
        impl<$($part: Cases),+> Cases for ($($part,)+) {
            fn len(&self) -> usize {
                self.0.len()
            }

            fn lengths(&self) -> Vec<usize> {
                [$(self.$field.lengths()),+].concat()
            }

            fn slice(&self, range: Range<usize>) -> Self {
                ($(self.$field.slice(range.clone()),)+)
            }

            fn select(&self, cases: &[usize]) -> Self {
                ($(self.$field.select(cases),)+)
            }

            fn detached(&self) -> Self {
                ($(self.$field.detached(),)+)
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

    /// Some of the cases, by their indices.
    pub(crate) fn select(&self, cases: &[usize]) -> Self {
        Self {
            inputs: self.inputs.select(cases),
            targets: self.targets.select(cases),
        }
    }

    /// Consecutive parts of at most `size` cases, the inputs detached.
    pub(super) fn parts(&self, size: usize) -> impl Iterator<Item = Self> + '_ {
        let n = self.len();
        (0..n).step_by(size).map(move |start| {
            let part = self.slice(start..(start + size).min(n));
            Self {
                inputs: part.inputs.detached(),
                ..part
            }
        })
    }
}

/// Refuses a batch without cases, or with a different number of inputs and targets, or of their parts.
pub(crate) fn check_batch<I: Cases, T: Cases>(batch: &Batch<I, T>) -> Result<(), StepError> {
    check_parts("inputs", batch.inputs.lengths())?;
    check_parts("targets", batch.targets.lengths())?;
    let (inputs, targets) = (batch.len(), batch.targets.len());
    if inputs == 0 {
        Err(StepError::EmptyBatch)
    } else if inputs == targets {
        Ok(())
    } else {
        Err(StepError::CaseCount { inputs, targets })
    }
}

fn check_parts(what: &'static str, lengths: Vec<usize>) -> Result<(), StepError> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        Ok(())
    } else {
        Err(StepError::PartCount { what, lengths })
    }
}
