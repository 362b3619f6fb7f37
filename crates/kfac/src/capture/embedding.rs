//! The call of an embedding.

use burn::{
    nn::Embedding,
    tensor::{Int, Tensor},
};

use super::{
    inputs::Inputs,
    tape::{Call, FeatureAxis, LayerParameters, Tape},
};
use crate::network::{ParameterAction, WeightLayout};

impl Tape {
    /// Looks tokens up in an embedding.
    ///
    /// # Shapes
    ///
    /// `[n, R] -> [n, R, dim]`
    pub fn embedding(&self, layer: &Embedding, tokens: Tensor<2, Int>) -> Tensor<3> {
        let shape @ [count, _] = layer.weight.dims();
        let call = Call {
            parameters: LayerParameters {
                name: "embedding",
                weight: &layer.weight,
                bias: None,
                layout: WeightLayout::InputsFirst,
                shape,
            },
            action: ParameterAction::Lookup,
            input: tokens,
            features: FeatureAxis::Last,
        };
        self.through(
            call,
            |tokens| layer.forward(tokens),
            |tokens, _| Inputs::Tokens(tokens.inner(), count),
        )
    }
}
