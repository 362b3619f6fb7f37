//! Matrices between the device and the host.

use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use faer::{Mat, MatRef, traits::RealField};

/// A scalar that both faer and Burn compute with: `f32` and `f64`.
pub(crate) trait Scalar: RealField + Element + Send + Sync {
    /// The spacing of the numbers next to one.
    const EPSILON: f64;
    /// The value, rounded to this precision.
    fn from_f64(value: f64) -> Self;
    /// The value in double precision.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Copies a device matrix to the host, converted to `E`.
pub(crate) fn to_host<E: Scalar>(tensor: &Tensor<2>) -> Mat<E> {
    let [rows, columns] = tensor.dims();
    let values: Vec<E> = to_vec(tensor);
    MatRef::from_row_major_slice(&values, rows, columns).to_owned()
}

/// [`to_host`] for a matrix that equals its transpose but for rounding, which need not be turned over;
/// the lower triangle of the result is the matrix's upper one.
pub(crate) fn symmetric_to_host<E: Scalar>(tensor: &Tensor<2>) -> Mat<E> {
    let [rows, columns] = tensor.dims();
    let values: Vec<E> = to_vec(tensor);
    MatRef::from_column_major_slice(&values, rows, columns).to_owned()
}

/// Copies a host matrix to the device, in the given precision.
pub(crate) fn to_device<E: Scalar>(matrix: &Mat<E>, device: &Device, dtype: DType) -> Tensor<2> {
    transposed_to_device(&matrix.transpose().to_owned(), device, dtype)
}

/// Copies the transpose of a host matrix to the device: column by column, as the host has it.
pub(crate) fn transposed_to_device<E: Scalar>(
    matrix: &Mat<E>,
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let mut values = Vec::with_capacity(rows * columns);
    for column in 0..columns {
        values.extend_from_slice(matrix.col_as_slice(column));
    }
    Tensor::from_data(TensorData::new(values, [columns, rows]), (device, dtype))
}

/// A matrix of these values, row by row, on a device and in a precision.
pub(crate) fn of_values(
    values: Vec<f64>,
    shape: [usize; 2],
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// The elements of a tensor in row-major order, converted to `E`.
pub(crate) fn to_vec<E: Scalar, const D: usize>(tensor: &Tensor<D>) -> Vec<E> {
    let data = tensor.to_data();
    match data.as_slice::<E>() {
        Ok(values) => values.to_vec(),
        Err(_) => data.iter::<E>().collect(), // another precision
    }
}

/// The tensor in a precision that counts, and tells random numbers apart: single, where it has less.
pub(crate) fn at_least_single(tensor: Tensor<2>) -> Tensor<2> {
    match tensor.dtype() {
        DType::F64 | DType::F32 => tensor,
        _ => tensor.cast(DType::F32),
    }
}

/// The relative rounding error of a precision.
pub(crate) fn machine_epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 9.77e-4,
        DType::BF16 => 7.81e-3,
        _ => f64::from(f32::EPSILON),
    }
}

/// Whether two tensors have the same shape and, relative to the size of the second, elements that differ by
/// no more than a tolerance, or are equal, as masks of minus infinity are. Another difference that is not finite
/// tells nothing, and counts as none.
pub(crate) fn agree<const D: usize>(a: &Tensor<D>, b: &Tensor<D>, tolerance: f64) -> bool {
    if a.dims() != b.dims() {
        return false;
    }
    let same = a.clone().equal(b.clone());
    let finite = b.clone().mask_fill(b.clone().is_finite().bool_not(), 0.0);
    let difference = norm(&(a.clone() - b.clone()).mask_fill(same, 0.0));
    difference <= tolerance * norm(&finite) || !difference.is_finite()
}

/// The Euclidean norm of all elements, accumulated like [`sum`].
pub(crate) fn norm<const D: usize>(tensor: &Tensor<D>) -> f64 {
    sum(tensor.clone() * tensor.clone()).sqrt()
}

/// The sum of all elements: along the last axis on the device, over the rest in `f64` on the host.
///
/// A plain device sum in `f32` loses the digits that the damping decisions of section 6 need, and
/// not every device has `f64`.
pub(crate) fn sum<const D: usize>(tensor: Tensor<D>) -> f64 {
    let rows: Vec<f64> = to_vec(&tensor.sum_dim(D - 1));
    rows.iter().sum()
}
