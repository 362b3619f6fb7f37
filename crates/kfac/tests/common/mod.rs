//! A small network, data and dense conversions for the tests.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Device, Tensor, TensorData},
};
use faer::Mat;
use kfac::{Network, Tape, linalg::host};

/// A fully connected network with one nonlinearity for all hidden layers.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
    linear: bool,
}

impl Network for Mlp {
    type Input = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let last = self.layers.len() - 1;
        self.layers
            .iter()
            .enumerate()
            .fold(inputs, |a, (i, layer)| {
                let s = tape.linear(layer, a);
                if i == last || self.linear {
                    s
                } else {
                    s.tanh()
                }
            })
    }
}

/// Numbers that look random, in (-1, 1).
pub(crate) fn values(n: usize, seed: f64) -> Vec<f64> {
    (0..n)
        .map(|i| (((i + 1) as f64) * 12.9898 + seed * 78.233).sin() * 43_758.545_3 % 1.0)
        .collect()
}

/// A matrix of such numbers, in double precision on the plain device.
pub(crate) fn matrix(rows: usize, columns: usize, seed: f64) -> Tensor<2> {
    let data = TensorData::new(values(rows * columns, seed), [rows, columns]);
    Tensor::from_data(data, (&Device::flex(), DType::F64))
}

/// A network of these widths.
pub(crate) fn network(widths: &[usize], linear: bool) -> Mlp {
    let device = Device::flex().autodiff();
    let tensor = |shape: [usize; 2], seed: f64| {
        let data = TensorData::new(values(shape[0] * shape[1], seed), shape);
        Tensor::<2>::from_data(data, (&device, DType::F64))
    };
    let layer = |(i, w): (usize, &[usize])| Linear {
        weight: Param::from_tensor(tensor([w[0], w[1]], i as f64 + 0.3)),
        bias: Some(Param::from_tensor(
            tensor([1, w[1]], i as f64 + 7.7).flatten(0, 1),
        )),
    };
    Mlp {
        layers: widths.windows(2).enumerate().map(layer).collect(),
        linear,
    }
}

/// A tensor as a dense matrix.
pub(crate) fn dense(tensor: &Tensor<2>) -> Mat<f64> {
    host::to_host(tensor)
}

/// The largest difference relative to the largest expected element.
pub(crate) fn deviation(found: &Mat<f64>, expected: &Mat<f64>) -> f64 {
    (found - expected).norm_max() / expected.norm_max()
}
