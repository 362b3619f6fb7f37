//! The calls of Burn's layers through the tape.

use burn::{
    module::Param,
    nn::{BatchNorm, Dropout, Embedding, GroupNorm, InstanceNorm, LayerNorm, Linear, RmsNorm},
    tensor::{Int, Tensor},
};

use super::{
    layer::LayerKind,
    normalisation::by_running_statistics,
    tape::{FeatureAxis, Mode, Sighting, Tape},
    uses::Inputs,
};

impl Tape {
    /// Calls a dense layer.
    ///
    /// # Shapes
    ///
    /// `[.., d_in] -> [.., d_out]`, any number of leading axes, the first of which counts the cases.
    ///
    /// # Panics
    ///
    /// Where `Linear::forward` does: the last axis of `input` is not `d_in`.
    pub fn linear<const D: usize>(&mut self, layer: &Linear, input: Tensor<D>) -> Tensor<D> {
        let dims = layer.weight.dims();
        let sighting = || Sighting::new(LayerKind::Dense, &layer.weight, layer.bias.as_ref(), dims);
        self.through(
            (layer.weight.id, sighting),
            (input, FeatureAxis::Last),
            |input| layer.forward(input),
            |input, _| Inputs::Features(FeatureAxis::Last.features(input)),
        )
    }

    /// Looks tokens up in an embedding.
    ///
    /// # Shapes
    ///
    /// `[n, R] -> [n, R, dim]`
    pub fn embedding(&mut self, layer: &Embedding, tokens: Tensor<2, Int>) -> Tensor<3> {
        let dims = layer.weight.dims();
        let sighting = || Sighting::new(LayerKind::Embedding, &layer.weight, None, dims);
        self.through(
            (layer.weight.id, sighting),
            (tokens, FeatureAxis::Last),
            |tokens| layer.forward(tokens),
            |tokens, _| Inputs::Tokens(tokens.inner(), dims[0]),
        )
    }

    /// Calls a layer normalisation; its scale and shift get a block.
    ///
    /// # Shapes
    ///
    /// `[.., d] -> [.., d]`
    pub fn layer_norm<const D: usize>(&mut self, layer: &LayerNorm, input: Tensor<D>) -> Tensor<D> {
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.beta = layer.beta.as_ref().map(zeros);
            plain.forward(input)
        };
        self.scale_shift(
            (&layer.gamma, layer.beta.as_ref()),
            (input, FeatureAxis::Last),
            |input| layer.forward(input),
            plain,
        )
    }

    /// Calls a root mean square normalisation; its scale gets a block.
    ///
    /// # Shapes
    ///
    /// `[.., d] -> [.., d]`
    pub fn rms_norm<const D: usize>(&mut self, layer: &RmsNorm, input: Tensor<D>) -> Tensor<D> {
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.forward(input)
        };
        self.scale_shift(
            (&layer.gamma, None),
            (input, FeatureAxis::Last),
            |input| layer.forward(input),
            plain,
        )
    }

    /// Calls a group normalisation; its scale and shift, where it has them, get a block.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn group_norm<const D: usize>(&mut self, layer: &GroupNorm, input: Tensor<D>) -> Tensor<D> {
        let Some(gamma) = &layer.gamma else {
            return layer.forward(input);
        };
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = Some(ones(gamma));
            plain.beta = layer.beta.as_ref().map(zeros);
            plain.forward(input)
        };
        self.scale_shift(
            (gamma, layer.beta.as_ref()),
            (input, FeatureAxis::Channels),
            |input| layer.forward(input),
            plain,
        )
    }

    /// Calls an instance normalisation; its scale and shift, where it has them, get a block.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn instance_norm<const D: usize>(
        &mut self,
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
    /// With the tape off it does what it does without one. The optimizer's own passes normalise by the
    /// running statistics, so that cases do not depend on each other and every evaluation of a step is
    /// of the same function; each step first moves them by the statistics of its cases, unless the
    /// layer's `training` flag is off.
    ///
    /// # Shapes
    ///
    /// `[n, channels, ..] -> [n, channels, ..]`
    pub fn batch_norm<const D: usize>(&mut self, layer: &BatchNorm, input: Tensor<D>) -> Tensor<D> {
        match &mut self.mode {
            Mode::Off => return layer.forward(input),
            Mode::Normalise(statistics) if layer.training.is_enabled() => {
                return statistics.take(layer, input);
            }
            _ => {}
        }
        let plain = |input| {
            let mut plain = layer.clone();
            plain.gamma = ones(&layer.gamma);
            plain.beta = zeros(&layer.beta);
            by_running_statistics(&plain, input)
        };
        self.scale_shift(
            (&layer.gamma, Some(&layer.beta)),
            (input, FeatureAxis::Channels),
            |input| by_running_statistics(layer, input),
            plain,
        )
    }

    /// Calls a dropout layer: with the tape off it does what it does without one, and nothing in the
    /// optimizer's own passes, whose decisions need a function that does not change.
    pub fn dropout<const D: usize>(&mut self, layer: &Dropout, input: Tensor<D>) -> Tensor<D> {
        match self.mode {
            Mode::Off => layer.forward(input),
            _ => input,
        }
    }

    /// A parameter of the model's own, trained with a diagonal block.
    ///
    /// # Definition
    ///
    /// The block is `E[(Σ_n g_n)²] / N` for the gradients `g_n` of `N` cases with sampled targets, whose
    /// mean is zero. Where the targets are not sampled the cases are passed through one at a time.
    pub fn parameter<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) -> Tensor<D> {
        let dims = [1, parameter.dims().iter().product()];
        let sighting = || Sighting::new(LayerKind::Parameter, parameter, None, dims);
        self.through(
            (parameter.id, sighting),
            ((), FeatureAxis::Whole),
            |()| parameter.val(),
            |(), _| Inputs::One,
        )
    }

    /// Calls a layer that scales and shifts what `plain` makes of its input.
    fn scale_shift<const D: usize>(
        &mut self,
        (gamma, beta): (&Param<Tensor<1>>, Option<&Param<Tensor<1>>>),
        (input, features): (Tensor<D>, FeatureAxis),
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
        plain: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        let [d] = gamma.dims();
        let sighting = || Sighting::new(LayerKind::ScaleShift, gamma, beta, [1, d]);
        self.through(
            (gamma.id, sighting),
            (input, features),
            forward,
            |input, _| Inputs::Features(features.features(plain(input))),
        )
    }
}

fn ones(parameter: &Param<Tensor<1>>) -> Param<Tensor<1>> {
    Param::from_tensor(parameter.val().detach().ones_like())
}

fn zeros(parameter: &Param<Tensor<1>>) -> Param<Tensor<1>> {
    Param::from_tensor(parameter.val().detach().zeros_like())
}
