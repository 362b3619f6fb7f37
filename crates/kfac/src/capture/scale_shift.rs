//! The calls of normalisations, which scale and shift.

use burn::{
    module::Param,
    nn::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm},
    tensor::Tensor,
};

use super::{
    inputs::Inputs,
    normalisation::{by_batch_statistics, by_running_statistics},
    tape::{Call, FeatureAxis, LayerParameters, Mode, Tape},
};
use crate::network::{ParameterAction, WeightLayout};

impl Tape {
    /// Calls a layer normalisation; its scale and shift get a block.
    ///
    /// # Shapes
    ///
    /// `[.., d] -> [.., d]`
    pub fn layer_norm<const D: usize>(&self, layer: &LayerNorm, input: Tensor<D>) -> Tensor<D> {
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.beta = layer.beta.as_ref().map(zeros);
            plain.forward(input)
        };
        let call = scale_shift(&layer.gamma, layer.beta.as_ref(), input, FeatureAxis::Last);
        self.scale_shift(call, |input| layer.forward(input), plain)
    }

    /// Calls a root mean square normalisation; its scale gets a block.
    ///
    /// # Shapes
    ///
    /// `[.., d] -> [.., d]`
    pub fn rms_norm<const D: usize>(&self, layer: &RmsNorm, input: Tensor<D>) -> Tensor<D> {
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.forward(input)
        };
        let call = scale_shift(&layer.gamma, None, input, FeatureAxis::Last);
        self.scale_shift(call, |input| layer.forward(input), plain)
    }

    /// Calls a group normalisation; its scale and shift, where it has them, get a block.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn group_norm<const D: usize>(&self, layer: &GroupNorm, input: Tensor<D>) -> Tensor<D> {
        let Some(gamma) = &layer.gamma else {
            return layer.forward(input);
        };
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = Some(ones(gamma));
            plain.beta = layer.beta.as_ref().map(zeros);
            plain.forward(input)
        };
        let call = scale_shift(gamma, layer.beta.as_ref(), input, FeatureAxis::Channels);
        self.scale_shift(call, |input| layer.forward(input), plain)
    }

    /// Calls an instance normalisation; its scale and shift, where it has them, get a block.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn instance_norm<const D: usize>(
        &self,
        layer: &InstanceNorm,
        input: Tensor<D>,
    ) -> Tensor<D> {
        // It is the group normalisation with a group for each channel.
        let groups = GroupNorm {
            gamma: layer.gamma.clone(),
            beta: layer.beta.clone(),
            num_groups: layer.num_channels,
            num_channels: layer.num_channels,
            epsilon: layer.epsilon,
            affine: layer.affine,
        };
        self.group_norm(&groups, input)
    }

    /// Calls a batch normalisation; its scale and shift get a block.
    ///
    /// In training it does what it does without a tape. The optimizers' own passes normalise by constants, so that
    /// cases do not depend on each other: those of [`Kfac`](crate::Kfac) by the running statistics, which each step
    /// first moves by the statistics of its cases, unless the layer's `training` flag is off; those of
    /// [`Preconditioner`](crate::Preconditioner) by the statistics of the batch.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn batch_norm<const D: usize>(&self, layer: &BatchNorm, input: Tensor<D>) -> Tensor<D> {
        match &mut *self.mode.borrow_mut() {
            Mode::Off => return layer.forward(input),
            Mode::Normalise(statistics) if layer.training.is_enabled() => {
                return statistics.take(layer, input);
            }
            _ => {}
        }
        let by_batch = self.trains() && layer.training.is_enabled();
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.beta = zeros(&layer.beta);
            if by_batch {
                by_batch_statistics(&plain, input)
            } else {
                by_running_statistics(&plain, input)
            }
        };
        let call = scale_shift(
            &layer.gamma,
            Some(&layer.beta),
            input,
            FeatureAxis::Channels,
        );
        let forward = |input| {
            if by_batch {
                layer.forward(input)
            } else {
                by_running_statistics(layer, input)
            }
        };
        self.scale_shift(call, forward, plain)
    }

    /// Calls a layer that scales and shifts what `plain` makes of its input.
    fn scale_shift<const D: usize>(
        &self,
        call: Call<'_, 1, Tensor<D>>,
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
        plain: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        let features = call.features;
        self.through(call, forward, |input, _| {
            Inputs::Features(features.features(plain(input)))
        })
    }
}

fn scale_shift<'a, const D: usize>(
    gamma: &'a Param<Tensor<1>>,
    beta: Option<&'a Param<Tensor<1>>>,
    input: Tensor<D>,
    features: FeatureAxis,
) -> Call<'a, 1, Tensor<D>> {
    let [d] = gamma.dims();
    Call {
        parameters: LayerParameters {
            name: "scale and shift",
            weight: gamma,
            bias: beta,
            layout: WeightLayout::InputsFirst,
            shape: [1, d],
        },
        action: ParameterAction::Scale,
        input,
        features,
    }
}

fn ones(parameter: &Param<Tensor<1>>) -> Param<Tensor<1>> {
    Param::from_tensor(parameter.val().detach().ones_like())
}

fn zeros(parameter: &Param<Tensor<1>>) -> Param<Tensor<1>> {
    Param::from_tensor(parameter.val().detach().zeros_like())
}
