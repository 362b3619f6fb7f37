//! Single or double precision.

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The precision of a run's tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Double precision: slower, for checks.
    F64,
}

impl Precision {
    /// Burn's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }

    /// A matrix of this precision, `[rows, columns]` from row-major values.
    pub fn matrix<E: burn::tensor::Element>(
        self,
        values: Vec<E>,
        [rows, columns]: [usize; 2],
        device: &Device,
    ) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values, [rows, columns]),
            (device, self.dtype()),
        )
    }
}
