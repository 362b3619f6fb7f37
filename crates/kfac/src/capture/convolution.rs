//! The calls of convolutions through the tape.

use burn::{
    module::Param,
    nn::{
        PaddingConfig1d, PaddingConfig2d, PaddingConfig3d,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::Tensor,
};

use super::{
    inputs::{Inputs, PatchedInput},
    patch_geometry::{Direction, PatchAxis, PatchGeometry},
    tape::{Call, FeatureAxis, LayerParameters, Tape},
};
use crate::network::{ParameterAction, WeightLayout};

impl Tape {
    /// Calls a convolution of sequences.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, length] -> [n, channels_out, outputs]`
    pub fn conv1d(&self, layer: &Conv1d, input: Tensor<3>) -> Tensor<3> {
        let shape = Shape {
            kernel: [layer.kernel_size],
            stride: [layer.stride],
            dilation: [layer.dilation],
        };
        let padding = shape.padding(input.dims(), |same| match layer.padding {
            PaddingConfig1d::Same => same,
            PaddingConfig1d::Valid => [0],
            PaddingConfig1d::Explicit(left, _) => [left],
        });
        self.forward_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |dims: [usize; 3]| shape.geometry(padding, [dims[2]], Direction::Forward),
        )
    }

    /// Calls a convolution of images.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, height, width] -> [n, channels_out, height′, width′]`
    pub fn conv2d(&self, layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
        let shape = Shape {
            kernel: layer.kernel_size,
            stride: layer.stride,
            dilation: layer.dilation,
        };
        let padding = shape.padding(input.dims(), |same| match layer.padding {
            PaddingConfig2d::Same => same,
            PaddingConfig2d::Valid => [0; 2],
            PaddingConfig2d::Explicit(top, left, _, _) => [top, left],
        });
        self.forward_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |[_, _, h, w]: [usize; 4]| shape.geometry(padding, [h, w], Direction::Forward),
        )
    }

    /// Calls a convolution of volumes.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, depth, height, width] -> [n, channels_out, depth′, height′, width′]`
    pub fn conv3d(&self, layer: &Conv3d, input: Tensor<5>) -> Tensor<5> {
        let shape = Shape {
            kernel: layer.kernel_size,
            stride: layer.stride,
            dilation: layer.dilation,
        };
        let padding = shape.padding(input.dims(), |same| match layer.padding {
            PaddingConfig3d::Same => same,
            PaddingConfig3d::Valid => [0; 3],
            PaddingConfig3d::Explicit(front, top, left) => [front, top, left],
        });
        self.forward_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |[_, _, d, h, w]: [usize; 5]| shape.geometry(padding, [d, h, w], Direction::Forward),
        )
    }

    /// Calls a transposed convolution of sequences.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, length] -> [n, channels_out, outputs]`
    pub fn conv_transpose1d(&self, layer: &ConvTranspose1d, input: Tensor<3>) -> Tensor<3> {
        let shape = Shape {
            kernel: [layer.kernel_size],
            stride: [layer.stride],
            dilation: [layer.dilation],
        };
        self.transposed_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |dims: [usize; 3]| shape.geometry([layer.padding], [dims[2]], Direction::Transposed),
        )
    }

    /// Calls a transposed convolution of images.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, height, width] -> [n, channels_out, height′, width′]`
    pub fn conv_transpose2d(&self, layer: &ConvTranspose2d, input: Tensor<4>) -> Tensor<4> {
        let shape = Shape {
            kernel: layer.kernel_size,
            stride: layer.stride,
            dilation: layer.dilation,
        };
        self.transposed_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |[_, _, h, w]: [usize; 4]| shape.geometry(layer.padding, [h, w], Direction::Transposed),
        )
    }

    /// Calls a transposed convolution of volumes.
    ///
    /// # Shapes
    ///
    /// `[n, channels_in, depth, height, width] -> [n, channels_out, depth′, height′, width′]`
    pub fn conv_transpose3d(&self, layer: &ConvTranspose3d, input: Tensor<5>) -> Tensor<5> {
        let shape = Shape {
            kernel: layer.kernel_size,
            stride: layer.stride,
            dilation: layer.dilation,
        };
        self.transposed_convolution(
            Weights {
                weight: &layer.weight,
                bias: layer.bias.as_ref(),
                groups: layer.groups,
            },
            input,
            |input| layer.forward(input),
            |[_, _, d, h, w]: [usize; 5]| {
                shape.geometry(layer.padding, [d, h, w], Direction::Transposed)
            },
        )
    }

    /// The weight is `[channels_out, channels_in / groups, kernel ..]`.
    fn forward_convolution<const D: usize>(
        &self,
        weights: Weights<'_, D>,
        input: Tensor<D>,
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
        geometry: impl FnOnce([usize; D]) -> PatchGeometry,
    ) -> Tensor<D> {
        let dims = weights.weight.dims();
        let parameters = LayerParameters {
            name: "convolution",
            weight: weights.weight,
            bias: weights.bias,
            layout: WeightLayout::OutputsFirst,
            shape: [dims[1..].iter().product(), dims[0]],
        };
        let call = convolution(parameters, weights.groups, input);
        self.patches(call, forward, geometry)
    }

    /// The weight is `[channels_in, channels_out / groups, kernel ..]`.
    fn transposed_convolution<const D: usize>(
        &self,
        weights: Weights<'_, D>,
        input: Tensor<D>,
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
        geometry: impl FnOnce([usize; D]) -> PatchGeometry,
    ) -> Tensor<D> {
        let (dims, groups) = (weights.weight.dims(), weights.groups);
        let (channels_in, outputs) = (dims[0] / groups, dims[1]);
        let offsets: usize = dims[2..].iter().product();
        let parameters = LayerParameters {
            name: "transposed convolution",
            weight: weights.weight,
            bias: weights.bias,
            // By channels and offsets within each group of outputs.
            layout: WeightLayout::Permuted {
                shape: [groups, channels_in, outputs, offsets],
                order: [1, 3, 0, 2],
            },
            shape: [channels_in * offsets, outputs * groups],
        };
        let call = convolution(parameters, groups, input);
        self.patches(call, forward, geometry)
    }

    /// Calls a layer whose inputs are patches.
    fn patches<const D: usize>(
        &self,
        call: Call<'_, D, Tensor<D>>,
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
        geometry: impl FnOnce([usize; D]) -> PatchGeometry,
    ) -> Tensor<D> {
        self.through(call, forward, |input, outputs| {
            Inputs::Patches(PatchedInput {
                input: with_three_axes(input.inner()),
                geometry: geometry(outputs),
                folded: 1,
            })
        })
    }
}

fn convolution<const D: usize>(
    parameters: LayerParameters<'_, D>,
    groups: usize,
    input: Tensor<D>,
) -> Call<'_, D, Tensor<D>> {
    Call {
        parameters,
        action: ParameterAction::Product { groups },
        input,
        features: FeatureAxis::Channels,
    }
}

/// The parameters of a convolution.
struct Weights<'a, const D: usize> {
    weight: &'a Param<Tensor<D>>,
    bias: Option<&'a Param<Tensor<1>>>,
    groups: usize,
}

/// The form of a convolution along its spatial axes.
#[derive(Clone, Copy)]
struct Shape<const S: usize> {
    kernel: [usize; S],
    stride: [usize; S],
    dilation: [usize; S],
}

impl<const S: usize> Shape<S> {
    /// The padding before the input, given what `choose` makes of that which Burn calls "same".
    fn padding<const D: usize>(
        &self,
        input: [usize; D],
        choose: impl FnOnce([usize; S]) -> [usize; S],
    ) -> [usize; S] {
        // Burn does not count the dilation here.
        choose(std::array::from_fn(|axis| {
            let length = input[2 + axis];
            let outputs = length.div_ceil(self.stride[axis]);
            let needed = outputs.saturating_sub(1) * self.stride[axis] + self.kernel[axis];
            needed.saturating_sub(length) / 2
        }))
    }

    fn geometry(
        &self,
        padding: [usize; S],
        outputs: [usize; S],
        direction: Direction,
    ) -> PatchGeometry {
        let axes: [PatchAxis; S] = std::array::from_fn(|axis| PatchAxis {
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            padding: padding[axis],
            outputs: outputs[axis],
            direction,
        });
        PatchGeometry::new(&axes)
    }
}

/// The input with one to three spatial axes, all three spelled out.
fn with_three_axes<const D: usize>(input: Tensor<D>) -> Tensor<5> {
    let dims = input.dims();
    let mut all = [1; 5];
    all[..2].copy_from_slice(&dims[..2]);
    all[7 - D..].copy_from_slice(&dims[2..]);
    input.reshape(all)
}
