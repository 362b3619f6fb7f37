//! Where the tensors of a record are wanted.

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor, TensorData},
};

use super::error::LoadError;
use crate::{
    linalg::host,
    network::{ParameterTable, device_of},
};

/// A device, and a precision.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
}

impl Place {
    /// That of the blocks of a model with such a table.
    pub(crate) fn of<M: Module>(model: &M, table: &ParameterTable) -> Self {
        Self {
            device: device_of(model),
            dtype: table.precision(),
        }
    }

    /// A recorded tensor, here; `what` says which.
    ///
    /// # Errors
    ///
    /// [`LoadError::Precision`] where a number is too large for this precision, [`LoadError::Unreadable`] where
    /// it is no matrix.
    pub(super) fn tensor(&self, what: &str, data: TensorData) -> Result<Tensor<2>, LoadError> {
        let no_matrix = |_| LoadError::Unreadable {
            why: format!("`{what}` is no matrix"),
        };
        let shape: [usize; 2] = data.shape().as_slice().try_into().map_err(no_matrix)?;
        let recorded = data.dtype();
        if recorded == self.dtype {
            return Ok(Tensor::from_data(data, (&self.device, self.dtype)));
        }
        let finite = |tensor: &Tensor<2>| host::sum(tensor.clone().abs()).is_finite();
        let values: Vec<f64> = data.iter().collect();
        let was_finite = values.iter().all(|value| value.is_finite());
        let tensor = host::of_values(values, shape, &self.device, self.dtype);
        if was_finite && !finite(&tensor) {
            return Err(LoadError::Precision {
                what: what.to_owned(),
                recorded: format!("{recorded:?}"),
                own: format!("{:?}", self.dtype),
            });
        }
        Ok(tensor)
    }

    /// A tensor of the optimizer itself, here.
    ///
    /// # Errors
    ///
    /// As [`tensor`](Self::tensor).
    pub(super) fn moved(&self, what: &str, tensor: &Tensor<2>) -> Result<Tensor<2>, LoadError> {
        if tensor.dtype() == self.dtype && tensor.device() == self.device {
            return Ok(tensor.clone());
        }
        self.tensor(what, tensor.to_data())
    }
}
