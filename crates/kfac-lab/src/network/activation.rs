//! The nonlinearities of dense networks.

use burn::tensor::{Tensor, activation::tanh};
use serde::{Deserialize, Serialize};

/// The nonlinearity of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `1 / (1 + e^(−s))`.
    Logistic,
    /// The hyperbolic tangent.
    Tanh,
    /// None.
    Linear,
}

impl Activation {
    /// The activities `a = φ(s)`.
    pub(super) fn apply(self, s: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Logistic => logistic(s),
            Self::Tanh => tanh(s),
            Self::Linear => s,
        }
    }

    /// `φ'(s) ⊙ r`, from the activities `a = φ(s)`.
    pub(super) fn differential(self, a: &Tensor<2>, r: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Logistic => r * (a.clone() - a.clone() * a.clone()),
            Self::Tanh => r.clone() - r * (a.clone() * a.clone()),
            Self::Linear => r,
        }
    }
}

/// The logistic function by one exponential, with its derivative from the activities.
///
/// Burn's own works itself out once more for the gradient, and its branches on the sign take the CPU
/// half as long again.
fn logistic(s: Tensor<2>) -> Tensor<2> {
    let value = s.clone().detach();
    let a = value.clone().neg().exp().add_scalar(1.0).recip();
    if !s.is_tracked() {
        return a;
    }
    // Zero, with the derivative of s: its factor is that of the logistic function.
    let carrier = s - value;
    a.clone() + Activation::Logistic.differential(&a, carrier)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData, activation::sigmoid};

    use super::*;

    /// `φ(s)` and the gradient of `Σ w ⊙ φ(s)` in `s`.
    fn value_and_gradient(function: fn(Tensor<2>) -> Tensor<2>) -> [TensorData; 2] {
        let place = (&Device::flex().autodiff(), DType::F64);
        let row = vec![-1e4, -745.0, -40.0, -1.5, -1e-9, 0.0, 1.5, 40.0, 1e4];
        let weights = Tensor::<2>::from_data(TensorData::new(vec![3.0; row.len()], [1, 9]), place);
        let s = Tensor::from_data(TensorData::new(row, [1, 9]), place).require_grad();
        let a = function(s.clone());
        let gradients = (a.clone() * weights).sum().backward();
        let gradient = s.grad(&gradients).expect("s was used");
        [a.inner().into_data(), gradient.into_data()]
    }

    #[test]
    fn the_logistic_function_and_its_gradient_are_burns() {
        let expected = value_and_gradient(sigmoid);
        for (ours, burns) in value_and_gradient(logistic).iter().zip(&expected) {
            for (ours, burns) in ours.iter::<f64>().zip(burns.iter::<f64>()) {
                // Both round a few times.
                assert!((ours - burns).abs() <= 1e-15, "{ours} {burns}");
            }
        }
    }

    #[test]
    fn without_a_graph_the_logistic_function_is_the_same() {
        let s = Tensor::<2>::from_data([[-3.0, 0.5, 20.0]], &Device::flex());
        let tracked = Tensor::from_inner(s.clone()).require_grad();
        let tracked = logistic(tracked).inner().into_data();
        assert_eq!(logistic(s).into_data(), tracked);
    }
}
