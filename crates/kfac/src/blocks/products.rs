//! Products of a layer's matrix with matrices on its two sides.

use burn::tensor::Tensor;

/// `L V R`, the product first that makes the two cheaper.
pub(crate) fn sandwich(left: &Tensor<2>, v: Tensor<2>, right: &Tensor<2>) -> Tensor<2> {
    let ([c, a], [b, d]) = (left.dims(), right.dims());
    let (left_first, right_first) = (c * b * (a + d), a * d * (b + c));
    if left_first <= right_first {
        left.clone().matmul(v).matmul(right.clone())
    } else {
        left.clone().matmul(v.matmul(right.clone()))
    }
}

/// `K₁ [(K₁ᵀ V K₂) ⊙ S] K₂ᵀ`.
pub(crate) fn in_basis(
    k1: &Tensor<2>,
    k2: &Tensor<2>,
    scales: &Tensor<2>,
    v: Tensor<2>,
) -> Tensor<2> {
    let rotated = sandwich(&k1.clone().transpose(), v, k2);
    sandwich(k1, rotated * scales.clone(), &k2.clone().transpose())
}
