//! A small fully connected network with an exact forward mode, and data for it.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{
        DType, Tensor,
        activation::{sigmoid, tanh},
    },
};
use kfac::{Batch, Jvp, Network, PredictiveDistribution, RandomStream, Tape};

use super::normal;

/// The nonlinearity of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Tanh,
    Logistic,
    Linear,
}

impl Activation {
    pub(crate) fn apply<const D: usize>(self, s: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Tanh => tanh(s),
            Self::Logistic => sigmoid(s),
            Self::Linear => s,
        }
    }

    pub(crate) fn slope(self, a: &Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tanh => a.ones_like() - a.clone() * a.clone(),
            Self::Logistic => a.clone() - a.clone() * a.clone(),
            Self::Linear => a.ones_like(),
        }
    }
}

/// A fully connected network in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) widths: &'a [usize],
    pub(crate) activation: Activation,
    pub(crate) bias: bool,
    /// Whether the network has an exact forward mode.
    pub(crate) jvp: bool,
}

impl<'a> Spec<'a> {
    pub(crate) const fn new(widths: &'a [usize], activation: Activation) -> Self {
        Self {
            widths,
            activation,
            bias: true,
            jvp: true,
        }
    }

    pub(crate) const fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    pub(crate) const fn without_jvp(self) -> Self {
        Self { jvp: false, ..self }
    }

    pub(crate) fn d_in(&self) -> usize {
        self.widths[0]
    }

    pub(crate) fn d_out(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// A network in double precision on an autodiff device.
    pub(crate) fn model(&self, seed: u64) -> Mlp {
        self.model_in(DType::F64, seed)
    }

    pub(crate) fn model_in(&self, dtype: DType, seed: u64) -> Mlp {
        let pairs = self.widths.windows(2).enumerate();
        let layers = pairs.map(|(i, pair)| {
            linear(
                [pair[0], pair[1]],
                self.bias,
                (dtype, seed * 100 + i as u64),
            )
        });
        Mlp {
            layers: layers.collect(),
            activation: self.activation,
            jvp: self.jvp,
        }
    }

    /// `n` random cases, the targets drawn from the loss's own distribution at random outputs.
    pub(crate) fn batch<L: PredictiveDistribution + Clone>(
        &self,
        loss: &L,
        n: usize,
        seed: u64,
    ) -> Batch<Tensor<2>> {
        let outputs = normal([n, self.d_out()], seed + 1000);
        let targets = loss.sample(outputs, &mut RandomStream::from_seed(seed + 2000));
        Batch::new(normal([n, self.d_in()], seed), targets)
    }
}

/// A random dense layer, trainable.
pub(crate) fn linear([d_in, d_out]: [usize; 2], bias: bool, (dtype, seed): (DType, u64)) -> Linear {
    let weight = normal([d_in, d_out], 7 * seed + 1) / (d_in as f64).sqrt();
    let offset: Tensor<1> = normal([1, d_out], 7 * seed + 2).squeeze_dim(0) * 0.3;
    Linear {
        weight: Param::from_tensor(weight.cast(dtype).autodiff()),
        bias: bias.then(|| Param::from_tensor(offset.cast(dtype).autodiff())),
    }
}

/// A fully connected network; no nonlinearity after the last layer.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) layers: Vec<Linear>,
    #[module(skip)]
    pub(crate) activation: Activation,
    #[module(skip)]
    pub(crate) jvp: bool,
}

impl Network for Mlp {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let last = self.layers.len() - 1;
        self.layers
            .iter()
            .enumerate()
            .fold(inputs, |a, (i, layer)| {
                let s = tape.linear(layer, a);
                if i < last {
                    self.activation.apply(s)
                } else {
                    s
                }
            })
    }

    fn jvp(&self, inputs: Tensor<2>, tangents: &[Self]) -> Option<Jvp> {
        if !self.jvp {
            return None;
        }
        let mut derivatives = Vec::new();
        let mut outputs = inputs.clone();
        for tangent in tangents {
            let mut a = inputs.clone();
            let mut ra = inputs.zeros_like();
            for (i, (layer, direction)) in self.layers.iter().zip(&tangent.layers).enumerate() {
                let rs = ra.matmul(layer.weight.val()) + direction.forward(a.clone());
                let s = layer.forward(a);
                let hidden = i + 1 < self.layers.len();
                a = if hidden { self.activation.apply(s) } else { s };
                ra = if hidden {
                    rs * self.activation.slope(&a)
                } else {
                    rs
                };
            }
            outputs = a;
            derivatives.push(ra);
        }
        Some(Jvp {
            outputs,
            derivatives,
        })
    }
}
