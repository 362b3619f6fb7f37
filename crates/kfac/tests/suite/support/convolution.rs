//! Convolutions of one to three axes, and their patches read element by element.

use burn::{
    module::Module,
    nn::{
        PaddingConfig1d, PaddingConfig2d, PaddingConfig3d,
        conv::{
            Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d,
            ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
            ConvTranspose3dConfig,
        },
    },
    tensor::{DType, Device, Tensor},
};
use faer::Mat;
use kfac::{Network, Tape};

use super::randomised;

/// A convolution along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AxisShape {
    pub(crate) length: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Before and behind the input.
    pub(crate) padding: [usize; 2],
    /// Further outputs of a transposed convolution.
    pub(crate) padding_out: usize,
}

/// How the padding is said to Burn, and whether the convolution is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    Explicit,
    Same,
    Transposed,
}

/// A convolution in words.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    pub(crate) axes: Vec<AxisShape>,
    pub(crate) padding: Padding,
    pub(crate) groups: usize,
    /// Inputs and outputs of one group.
    pub(crate) channels: [usize; 2],
    pub(crate) bias: bool,
}

impl AxisShape {
    /// An axis that is not there.
    const NONE: Self = Self {
        length: 1,
        kernel: 1,
        stride: 1,
        dilation: 1,
        padding: [0, 0],
        padding_out: 0,
    };

    /// From the first to the last input that an output of a convolution reads.
    pub(crate) const fn reach(self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    fn outputs(self, transposed: bool) -> usize {
        let [before, behind] = self.padding;
        if transposed {
            (self.length - 1) * self.stride + self.reach() + self.padding_out - before - behind
        } else {
            (self.length + before + behind - self.reach()) / self.stride + 1
        }
    }

    /// The input that an output reads at a kernel offset; `None` where that is padding.
    fn read(self, output: usize, offset: usize, transposed: bool) -> Option<usize> {
        let (before, dilated) = (self.padding[0], offset * self.dilation);
        let input = if transposed {
            let stuffed = (output + before).checked_sub(dilated)?;
            (stuffed % self.stride == 0).then_some(stuffed / self.stride)?
        } else {
            (output * self.stride + dilated).checked_sub(before)?
        };
        (input < self.length).then_some(input)
    }
}

impl Convolution {
    pub(crate) fn channels_in(&self) -> usize {
        self.groups * self.channels[0]
    }

    pub(crate) fn channels_out(&self) -> usize {
        self.groups * self.channels[1]
    }

    /// Numbers of a case.
    pub(crate) fn inputs(&self) -> usize {
        self.channels_in() * self.axes.iter().map(|axis| axis.length).product::<usize>()
    }

    fn transposed(&self) -> bool {
        self.padding == Padding::Transposed
    }

    /// Output positions of a case.
    pub(crate) fn positions(&self) -> usize {
        let axes = self.axes.iter();
        axes.map(|axis| axis.outputs(self.transposed())).product()
    }

    fn three_axes(&self) -> [AxisShape; 3] {
        let mut all = [AxisShape::NONE; 3];
        all[3 - self.axes.len()..].copy_from_slice(&self.axes);
        all
    }

    /// The patches of one group in all cases: a row for each case and output position; in it the
    /// channels, each with all kernel offsets, and a one where there is a bias.
    pub(crate) fn patches(&self, inputs: &Mat<f64>, group: usize) -> Mat<f64> {
        let mut rows: Vec<Vec<f64>> = Vec::new();
        let outputs = self
            .three_axes()
            .map(|axis| axis.outputs(self.transposed()));
        for case in 0..inputs.nrows() {
            for t0 in 0..outputs[0] {
                for t1 in 0..outputs[1] {
                    for t2 in 0..outputs[2] {
                        rows.push(self.patch(inputs, (case, group), [t0, t1, t2]));
                    }
                }
            }
        }
        Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    fn patch(&self, inputs: &Mat<f64>, (case, group): (usize, usize), t: [usize; 3]) -> Vec<f64> {
        let axes = self.three_axes();
        let [l0, l1, l2] = axes.map(|axis| axis.length);
        let mut patch = Vec::new();
        for channel in 0..self.channels[0] {
            let channel = group * self.channels[0] + channel;
            for k0 in 0..axes[0].kernel {
                for k1 in 0..axes[1].kernel {
                    for k2 in 0..axes[2].kernel {
                        let read = |axis: usize, k| axes[axis].read(t[axis], k, self.transposed());
                        patch.push(match (read(0, k0), read(1, k1), read(2, k2)) {
                            (Some(x0), Some(x1), Some(x2)) => {
                                inputs[(case, ((channel * l0 + x0) * l1 + x1) * l2 + x2)]
                            }
                            _ => 0.0,
                        });
                    }
                }
            }
        }
        if self.bias {
            patch.push(1.0);
        }
        patch
    }

    /// A setting of all axes.
    fn of_axes<const S: usize>(&self, setting: impl Fn(&AxisShape) -> usize) -> [usize; S] {
        std::array::from_fn(|axis| setting(&self.axes[axis]))
    }

    /// The network in double precision on an autodiff device.
    pub(crate) fn model(&self, seed: u64) -> ConvolutionNetwork {
        let device = Device::default().autodiff();
        let layer = match (self.axes.len(), self.transposed()) {
            (1, false) => ConvolutionLayer::One(self.one(&device)),
            (2, false) => ConvolutionLayer::Two(self.two(&device)),
            (_, false) => ConvolutionLayer::Three(self.three(&device)),
            (1, true) => ConvolutionLayer::TransposedOne(self.transposed_one(&device)),
            (2, true) => ConvolutionLayer::TransposedTwo(self.transposed_two(&device)),
            (_, true) => ConvolutionLayer::TransposedThree(self.transposed_three(&device)),
        };
        let network = ConvolutionNetwork {
            layer,
            shape: self.clone(),
        };
        randomised(network, DType::F64, seed)
    }

    fn all_channels(&self) -> [usize; 2] {
        [self.channels_in(), self.channels_out()]
    }

    fn one(&self, device: &Device) -> Conv1d {
        let axis = self.axes[0];
        let [before, behind] = axis.padding;
        Conv1dConfig::new(self.channels_in(), self.channels_out(), axis.kernel)
            .with_stride(axis.stride)
            .with_dilation(axis.dilation)
            .with_padding(match self.padding {
                Padding::Same => PaddingConfig1d::Same,
                _ => PaddingConfig1d::Explicit(before, behind),
            })
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn two(&self, device: &Device) -> Conv2d {
        let [top, left] = self.of_axes(|axis| axis.padding[0]);
        let [bottom, right] = self.of_axes(|axis| axis.padding[1]);
        Conv2dConfig::new(self.all_channels(), self.of_axes(|axis| axis.kernel))
            .with_stride(self.of_axes(|axis| axis.stride))
            .with_dilation(self.of_axes(|axis| axis.dilation))
            .with_padding(match self.padding {
                Padding::Same => PaddingConfig2d::Same,
                _ => PaddingConfig2d::Explicit(top, left, bottom, right),
            })
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn three(&self, device: &Device) -> Conv3d {
        let [front, top, left] = self.of_axes(|axis| axis.padding[0]);
        Conv3dConfig::new(self.all_channels(), self.of_axes(|axis| axis.kernel))
            .with_stride(self.of_axes(|axis| axis.stride))
            .with_dilation(self.of_axes(|axis| axis.dilation))
            .with_padding(match self.padding {
                Padding::Same => PaddingConfig3d::Same,
                _ => PaddingConfig3d::Explicit(front, top, left),
            })
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn transposed_one(&self, device: &Device) -> ConvTranspose1d {
        let axis = self.axes[0];
        ConvTranspose1dConfig::new(self.all_channels(), axis.kernel)
            .with_stride(axis.stride)
            .with_dilation(axis.dilation)
            .with_padding(axis.padding[0])
            .with_padding_out(axis.padding_out)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn transposed_two(&self, device: &Device) -> ConvTranspose2d {
        ConvTranspose2dConfig::new(self.all_channels(), self.of_axes(|axis| axis.kernel))
            .with_stride(self.of_axes(|axis| axis.stride))
            .with_dilation(self.of_axes(|axis| axis.dilation))
            .with_padding(self.of_axes(|axis| axis.padding[0]))
            .with_padding_out(self.of_axes(|axis| axis.padding_out))
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn transposed_three(&self, device: &Device) -> ConvTranspose3d {
        ConvTranspose3dConfig::new(self.all_channels(), self.of_axes(|axis| axis.kernel))
            .with_stride(self.of_axes(|axis| axis.stride))
            .with_dilation(self.of_axes(|axis| axis.dilation))
            .with_padding(self.of_axes(|axis| axis.padding[0]))
            .with_padding_out(self.of_axes(|axis| axis.padding_out))
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }
}

#[derive(Module, Debug)]
pub(crate) enum ConvolutionLayer {
    One(Conv1d),
    Two(Conv2d),
    Three(Conv3d),
    TransposedOne(ConvTranspose1d),
    TransposedTwo(ConvTranspose2d),
    TransposedThree(ConvTranspose3d),
}

/// A convolution whose outputs are the network's, by channels and then by positions.
#[derive(Module, Debug)]
pub(crate) struct ConvolutionNetwork {
    layer: ConvolutionLayer,
    #[module(skip)]
    shape: Convolution,
}

impl Network for ConvolutionNetwork {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let n = inputs.dims()[0];
        let channels = self.shape.channels_in();
        let length = |axis: usize| self.shape.axes[axis].length;
        let one = |x: Tensor<2>| x.reshape([n, channels, length(0)]);
        let two = |x: Tensor<2>| x.reshape([n, channels, length(0), length(1)]);
        let three = |x: Tensor<2>| x.reshape([n, channels, length(0), length(1), length(2)]);
        match &self.layer {
            ConvolutionLayer::One(layer) => tape.conv1d(layer, one(inputs)).flatten(1, 2),
            ConvolutionLayer::Two(layer) => tape.conv2d(layer, two(inputs)).flatten(1, 3),
            ConvolutionLayer::Three(layer) => tape.conv3d(layer, three(inputs)).flatten(1, 4),
            ConvolutionLayer::TransposedOne(layer) => {
                tape.conv_transpose1d(layer, one(inputs)).flatten(1, 2)
            }
            ConvolutionLayer::TransposedTwo(layer) => {
                tape.conv_transpose2d(layer, two(inputs)).flatten(1, 3)
            }
            ConvolutionLayer::TransposedThree(layer) => {
                tape.conv_transpose3d(layer, three(inputs)).flatten(1, 4)
            }
        }
    }
}
