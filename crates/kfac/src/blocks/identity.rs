//! The inverse that stands in where none could be made yet.

use burn::tensor::Tensor;

use super::{block::BlockInverse, magnitudes::Magnitudes};
use crate::record::{Record, RecordError};

/// The identity: a layer's gradient is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityInverse {
    dimension: usize,
}

impl IdentityInverse {
    pub(super) const FORM: &str = "identity";

    /// For a layer of so many parameters.
    pub fn new(dimension: usize) -> Self {
        Self { dimension }
    }

    pub(super) fn restore(record: &Record) -> Result<Self, RecordError> {
        Ok(Self::new(record.number("dimension")? as usize))
    }
}

impl BlockInverse for IdentityInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        v
    }

    fn magnitudes(&self) -> Magnitudes {
        let count = self.dimension as f64;
        Magnitudes {
            dimension: self.dimension,
            log_determinant: 0.0,
            trace: count,
            frobenius_norm: count.sqrt(),
        }
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM).with_number("dimension", self.dimension as f64)
    }
}
