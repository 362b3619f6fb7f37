//! Fully connected networks with an exact forward mode.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{
        Device, Tensor, TensorData,
        activation::{sigmoid, tanh},
    },
};
use kfac::{Jvp, Network, Tape};
use serde::{Deserialize, Serialize};

use crate::{initialise::LayerWeights, precision::Precision};

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
    fn apply(self, s: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Logistic => sigmoid(s),
            Self::Tanh => tanh(s),
            Self::Linear => s,
        }
    }

    /// `φ'(s) ⊙ r`, from the activities `a = φ(s)`.
    fn differential(self, a: &Tensor<2>, r: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Logistic => r * (a.clone() - a.clone() * a.clone()),
            Self::Tanh => r.clone() - r * (a.clone() * a.clone()),
            Self::Linear => r,
        }
    }
}

/// A fully connected network; its outputs are the natural parameters of the loss.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    #[module(skip)]
    hidden: Vec<Activation>,
}

impl Mlp {
    /// A network with the given weights and the nonlinearities of its hidden layers, one fewer
    /// than there are layers.
    pub fn new(
        weights: &[LayerWeights],
        hidden: Vec<Activation>,
        (device, precision): (&Device, Precision),
    ) -> Self {
        let layer = |weights: &LayerWeights| {
            let (d_in, d_out) = (weights.d_in, weights.d_out);
            let transposed: Vec<f64> = (0..d_in * d_out)
                .map(|at| weights.weight[(at % d_out) * d_in + at / d_out])
                .collect();
            let options = (device, precision.dtype());
            let weight = Tensor::from_data(TensorData::new(transposed, [d_in, d_out]), options);
            let bias = TensorData::new(weights.bias.clone(), [d_out]);
            Linear {
                weight: Param::from_tensor(weight),
                bias: Some(Param::from_tensor(Tensor::from_data(bias, options))),
            }
        };
        Self {
            layers: weights.iter().map(layer).collect(),
            hidden,
        }
    }

    /// The weights, layer by layer.
    pub fn weights(&self) -> Vec<LayerWeights> {
        let values = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
        let layer = |layer: &Linear| {
            let [d_in, d_out] = layer.weight.dims();
            let weight = values(layer.weight.val().inner().transpose().into_data());
            let bias = layer.bias.as_ref().map_or_else(
                || vec![0.0; d_out],
                |bias| values(bias.val().inner().into_data()),
            );
            LayerWeights {
                d_in,
                d_out,
                weight,
                bias,
            }
        };
        self.layers.iter().map(layer).collect()
    }

    fn activation(&self, layer: usize) -> Activation {
        self.hidden
            .get(layer)
            .copied()
            .unwrap_or(Activation::Linear)
    }
}

impl Network for Mlp {
    type Input = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let layers = self.layers.iter().enumerate();
        layers.fold(inputs, |a, (i, layer)| {
            self.activation(i).apply(tape.linear(layer, a))
        })
    }

    fn jvp(&self, inputs: Tensor<2>, tangents: &[Self]) -> Option<Jvp> {
        let mut a = inputs;
        let mut derivatives: Vec<Option<Tensor<2>>> = vec![None; tangents.len()];
        for (i, layer) in self.layers.iter().enumerate() {
            let s = layer.forward(a.clone());
            let next = self.activation(i).apply(s);
            for (tangent, r) in tangents.iter().zip(&mut derivatives) {
                let mut rs = tangent.layers[i].forward(a.clone()); // V a + v
                if let Some(ra) = r.take() {
                    rs = rs + ra.matmul(layer.weight.val()); // + W Ra
                }
                *r = Some(self.activation(i).differential(&next, rs));
            }
            a = next;
        }
        Some(Jvp {
            outputs: a,
            derivatives: derivatives.into_iter().flatten().collect(),
        })
    }
}
