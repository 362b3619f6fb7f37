//! Fully connected networks with an exact forward mode.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use kfac::{Jvp, Network, Tape};

use super::Activation;
use crate::{initialise::LayerWeights, precision::Precision};

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
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let layers = self.layers.iter().enumerate();
        layers.fold(inputs, |a, (i, layer)| {
            self.activation(i).apply(tape.linear(layer, a))
        })
    }

    fn jvp(&self, inputs: Tensor<2>, tangents: &[Self]) -> Option<Jvp> {
        let cases = inputs.dims()[0];
        // a above the derivatives Ra of each direction, so that one product with W serves them all.
        // The inputs have no derivatives.
        let mut stack = inputs;
        for (i, layer) in self.layers.iter().enumerate() {
            let a = stack.clone().narrow(0, 0, cases);
            let products = stack.matmul(layer.weight.val()).split(cases, 0);
            let (wa, wras) = products.split_first()?;
            let s = match &layer.bias {
                Some(bias) => wa.clone() + bias.val().unsqueeze(),
                None => wa.clone(),
            };
            let next = self.activation(i).apply(s);
            let mut derivatives = vec![next.clone()];
            for (at, tangent) in tangents.iter().enumerate() {
                let own = tangent.layers[i].forward(a.clone()); // V a + v
                let rs = wras.get(at).cloned().into_iter().fold(own, Tensor::add); // + W Ra
                derivatives.push(self.activation(i).differential(&next, rs));
            }
            stack = Tensor::cat(derivatives, 0);
        }
        let mut parts = stack.split(cases, 0).into_iter();
        Some(Jvp {
            outputs: parts.next()?,
            derivatives: parts.collect(),
        })
    }
}
