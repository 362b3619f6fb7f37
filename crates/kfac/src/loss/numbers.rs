//! Losses with infinite logits, and ranges of targets.

use std::ops::RangeInclusive;

use burn::tensor::Tensor;

use crate::linalg::host;

/// Losses from the products of targets and values; where these are infinite, with products that are zero
/// where the target is.
pub(super) fn with_masks(
    targets: Tensor<2>,
    values: Tensor<2>,
    losses: impl Fn(Tensor<2>) -> Tensor<1>,
) -> Tensor<1> {
    let plain = losses(targets.clone() * values.clone());
    if host::sum(plain.clone()).is_finite() {
        return plain;
    }
    let none = targets.clone().equal_elem(0.0);
    losses((targets * values).mask_fill(none, 0.0))
}

/// A value of the tensor that is outside a range, where there is one.
pub(super) fn check_range(values: &Tensor<2>, range: RangeInclusive<f64>) -> Result<(), f64> {
    // What is no number makes the loss none, and is refused for that.
    let outside = |value: &f64| !range.contains(value) && !value.is_nan();
    let data = values.to_data();
    let found = match data.as_slice::<f32>() {
        Ok(values) => values.iter().copied().map(f64::from).find(outside),
        Err(_) => data.iter::<f64>().find(outside),
    };
    found.map_or(Ok(()), Err)
}
