//! The calls of attention and transformer layers through the tape.

use burn::{
    nn::{
        Linear,
        attention::MultiHeadAttention,
        transformer::{PositionWiseFeedForward, TransformerEncoder, TransformerEncoderLayer},
    },
    tensor::{
        Bool, Tensor,
        activation::{quiet_softmax, softmax},
    },
};

use super::tape::Tape;

/// Which positions attention leaves out; `true` masks.
#[derive(Clone, Debug, Default)]
pub struct AttentionMasks {
    /// Padded positions of the keys, `[n, keys]`. In an encoder, where all positions attend to each
    /// other, they are left out of the layers' factors too, as by [`Tape::set_padding`].
    pub padding: Option<Tensor<2, Bool>>,
    /// Keys that a query does not see, `[n, queries, keys]`.
    pub attention: Option<Tensor<3, Bool>>,
}

impl AttentionMasks {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }
}

impl Tape {
    /// Calls a multi-head attention: its four projections each get a block. Returns the context.
    ///
    /// # Shapes
    ///
    /// Query, key and value `[n, positions, d_model] -> [n, queries, d_model]`.
    pub fn attention(
        &self,
        layer: &MultiHeadAttention,
        [query, key, value]: [Tensor<3>; 3],
        masks: &AttentionMasks,
    ) -> Tensor<3> {
        let [n, queries, d_model] = query.dims();
        let heads = |projection: &Linear, input: Tensor<3>| {
            let [n, positions, _] = input.dims();
            let projected = self.linear(projection, input);
            projected
                .reshape([n, positions, layer.n_heads, layer.d_k])
                .swap_dims(1, 2)
        };
        let query = heads(&layer.query, query);
        let key = heads(&layer.key, key);
        let value = heads(&layer.value, value);
        let mut scores = query
            .matmul(key.transpose())
            .div_scalar((layer.d_k as f32).sqrt());
        if let Some(padding) = masks.padding.clone() {
            let [n, keys] = padding.dims();
            scores = scores.mask_fill(padding.reshape([n, 1, 1, keys]), layer.min_float);
        }
        if let Some(attention) = masks.attention.clone() {
            let [n, queries, keys] = attention.dims();
            scores = scores.mask_fill(attention.reshape([n, 1, queries, keys]), layer.min_float);
        }
        let weights = if layer.quiet_softmax {
            quiet_softmax(scores, 3)
        } else {
            softmax(scores, 3)
        };
        let weights = self.dropout(&layer.dropout, weights);
        let context = weights.matmul(value).swap_dims(1, 2);
        self.linear(&layer.output, context.reshape([n, queries, d_model]))
    }

    /// Calls the two dense layers between which a transformer applies its nonlinearity.
    ///
    /// # Shapes
    ///
    /// `[.., d_model] -> [.., d_model]`
    pub fn position_wise_feed_forward<const D: usize>(
        &self,
        layer: &PositionWiseFeedForward,
        input: Tensor<D>,
    ) -> Tensor<D> {
        let hidden = layer
            .activation
            .forward(self.linear(&layer.linear_inner, input));
        let hidden = self.dropout(&layer.dropout, hidden);
        self.linear(&layer.linear_outer, hidden)
    }

    /// Calls a layer of a transformer encoder: attention, feed-forward layers and normalisations.
    ///
    /// # Shapes
    ///
    /// `[n, positions, d_model] -> [n, positions, d_model]`
    pub fn transformer_encoder_layer(
        &self,
        layer: &TransformerEncoderLayer,
        input: Tensor<3>,
        masks: &AttentionMasks,
    ) -> Tensor<3> {
        let outside = self.valid.borrow().clone();
        if masks.padding.is_some() {
            self.set_padding(masks.padding.clone());
        }
        let attended = if layer.norm_first {
            self.layer_norm(&layer.norm_2, input.clone())
        } else {
            input.clone()
        };
        let attended = [attended.clone(), attended.clone(), attended];
        let attended = self.attention(&layer.mha, attended, masks);
        let mut x = input + self.dropout(&layer.dropout, attended);
        let residual = if layer.norm_first {
            self.layer_norm(&layer.norm_1, x.clone())
        } else {
            x = self.layer_norm(&layer.norm_1, x);
            x.clone()
        };
        let residual = self.position_wise_feed_forward(&layer.pwff, residual);
        let x = x + self.dropout(&layer.dropout, residual);
        let output = if layer.norm_first {
            x
        } else {
            self.layer_norm(&layer.norm_2, x)
        };
        self.valid.replace(outside);
        output
    }

    /// Calls all layers of a transformer encoder.
    ///
    /// # Shapes
    ///
    /// `[n, positions, d_model] -> [n, positions, d_model]`
    pub fn transformer_encoder(
        &self,
        encoder: &TransformerEncoder,
        input: Tensor<3>,
        masks: &AttentionMasks,
    ) -> Tensor<3> {
        let layers = encoder.layers.iter();
        layers.fold(input, |x, layer| {
            self.transformer_encoder_layer(layer, x, masks)
        })
    }
}
