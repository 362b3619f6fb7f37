//! The calls of dense layers, of layers of the user's own, and of parameters on their own.

use burn::{
    module::Param,
    nn::{Dropout, Linear},
    tensor::Tensor,
};

use super::{
    inputs::Inputs,
    tape::{Call, FeatureAxis, LayerParameters, Tape},
};
use crate::network::{ParameterAction, WeightLayout};

impl Tape {
    /// Calls a dense layer.
    ///
    /// # Shapes
    ///
    /// `[.., d_in] -> [.., d_out]`, any number of leading axes, the first of which counts the cases.
    ///
    /// # Panics
    ///
    /// Where the last axis of `input` is not `d_in`: Burn's own layer does not look, and reads beyond its
    /// memory on some devices.
    pub fn linear<const D: usize>(&self, layer: &Linear, input: Tensor<D>) -> Tensor<D> {
        let ([d_in, _], found) = (layer.weight.dims(), input.dims()[D - 1]);
        assert!(
            found == d_in,
            "a dense layer of {d_in} inputs was called with rows of {found}"
        );
        let parameters = LayerParameters {
            name: "dense",
            weight: &layer.weight,
            bias: layer.bias.as_ref(),
            layout: WeightLayout::InputsFirst,
            shape: layer.weight.dims(),
        };
        self.layer(
            parameters,
            input,
            |input| layer.forward(input),
            |input| FeatureAxis::Last.features(input),
        )
    }

    /// Calls a layer of your own whose weight multiplies rows that are made of its input.
    ///
    /// `forward` makes the output. `rows` tells, where the layer is recorded, what the weight was
    /// multiplied with: for each case and position a row of `d_in` numbers, so that the output there is
    /// `Wᵀ row`, plus the bias. Its result carries no gradients.
    ///
    /// # Shapes
    ///
    /// The output is `[n, .., d_out]`, and all axes between are positions, `R` in all; `rows` returns
    /// `[n, R, d_in]`.
    ///
    /// # Example
    ///
    /// A low-rank adapter beside a frozen dense layer: `x W + x A B`.
    ///
    /// ```
    /// use burn::{module::{Module, Param}, nn::Linear, tensor::Tensor};
    /// use kfac::{LayerParameters, Tape, WeightLayout};
    ///
    /// #[derive(Module, Debug)]
    /// struct Adapter {
    ///     frozen: Linear,
    ///     down: Param<Tensor<2>>,
    ///     up: Param<Tensor<2>>,
    /// }
    ///
    /// impl Adapter {
    ///     fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
    ///         let mut product = |name, weight: &Param<Tensor<2>>, x: Tensor<2>| {
    ///             let parameters = LayerParameters {
    ///                 name,
    ///                 weight,
    ///                 bias: None,
    ///                 layout: WeightLayout::InputsFirst,
    ///                 shape: weight.dims(),
    ///             };
    ///             let rows = |x: Tensor<2>| x.inner().unsqueeze_dim(1); // [n, 1, d_in]
    ///             tape.layer(parameters, x, |x| x.matmul(weight.val()), rows)
    ///         };
    ///         let low = product("adapter", &self.down, x.clone());
    ///         self.frozen.forward(x) + product("adapter", &self.up, low)
    ///     }
    /// }
    /// ```
    pub fn layer<const P: usize, I: Clone, const D: usize>(
        &self,
        parameters: LayerParameters<'_, P>,
        input: I,
        forward: impl FnOnce(I) -> Tensor<D>,
        rows: impl FnOnce(I) -> Tensor<3>,
    ) -> Tensor<D> {
        let call = Call {
            parameters,
            action: ParameterAction::Product { groups: 1 },
            input,
            features: FeatureAxis::Last,
        };
        self.through(call, forward, |input, _| Inputs::Features(rows(input)))
    }

    /// A parameter of the model's own, trained with a diagonal block.
    ///
    /// # Definition
    ///
    /// The block is `E[(Σ_n g_n)²] / N` for the gradients `g_n` of `N` cases with sampled targets, whose
    /// mean is zero. Where the targets are not sampled the cases are passed through one at a time.
    pub fn parameter<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Tensor<D> {
        let call = Call {
            parameters: LayerParameters {
                name: "parameter",
                weight: parameter,
                bias: None,
                layout: WeightLayout::InputsFirst,
                shape: [1, parameter.dims().iter().product()],
            },
            action: ParameterAction::Alone,
            input: (),
            features: FeatureAxis::Whole,
        };
        self.through(call, |()| parameter.val(), |(), _| Inputs::One)
    }

    /// Calls a dropout layer: in training it does what it does without a tape, and nothing in the
    /// optimizer's own passes, whose decisions need a function that does not change.
    pub fn dropout<const D: usize>(&self, layer: &Dropout, input: Tensor<D>) -> Tensor<D> {
        if self.trains() {
            layer.forward(input)
        } else {
            input
        }
    }
}
