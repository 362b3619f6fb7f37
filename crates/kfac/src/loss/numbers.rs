//! Products with infinite logits, and ranges of targets.

use std::ops::RangeInclusive;

use burn::tensor::Tensor;

/// `targets ⊙ values`, zero where the target is, also where the value is infinite.
pub(super) fn masked_product(targets: Tensor<2>, values: Tensor<2>) -> Tensor<2> {
    let none = targets.clone().equal_elem(0.0);
    (targets * values).mask_fill(none, 0.0)
}

/// A value of the tensor that is outside a range, where there is one.
pub(super) fn check_range(values: &Tensor<2>, range: RangeInclusive<f64>) -> Result<(), f64> {
    if values.dims().contains(&0) {
        return Ok(());
    }
    let ends = [values.clone().min(), values.clone().max()];
    let mut ends = ends.into_iter().map(|end| end.into_scalar::<f64>());
    // What is no number makes the loss none, and is refused for that.
    match ends.find(|end| !end.is_nan() && !range.contains(end)) {
        None => Ok(()),
        Some(value) => Err(value),
    }
}
