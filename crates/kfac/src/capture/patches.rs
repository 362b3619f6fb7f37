//! The patches of a convolution: what its weight is multiplied with at each output position.

use std::ops::Range;

use burn::tensor::{Slice, Tensor, ops::PadMode};

/// How a convolution's patches lie in its input, along its up to three spatial axes.
///
/// Output position `t` reads, at kernel offset `δ`, the input element
///
/// ```text
/// t · stride + δ · dilation − padding                           of a convolution
/// (t + padding − δ · dilation) / stride, where it divides       of a transposed one
/// ```
///
/// and zero outside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchGeometry {
    axes: [PatchAxis; 3],
}

/// The patches along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchAxis {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Before the input; what lies behind it follows from the number of outputs.
    pub(crate) padding: usize,
    pub(crate) outputs: usize,
    pub(crate) direction: Direction,
}

/// Whether the input is read by a convolution or by the transpose of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Transposed,
}

impl PatchAxis {
    /// An axis that is not there.
    pub(crate) const NONE: Self = Self {
        kernel: 1,
        stride: 1,
        dilation: 1,
        padding: 0,
        outputs: 1,
        direction: Direction::Forward,
    };

    /// Zeros between neighbouring inputs, plus one.
    fn stuffing(self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::Transposed => self.stride,
        }
    }

    /// The distance of neighbouring outputs in the zero-stuffed input.
    fn step(self) -> usize {
        match self.direction {
            Direction::Forward => self.stride,
            Direction::Transposed => 1,
        }
    }

    /// Where output 0 reads at a kernel offset, counted in the zero-stuffed input.
    fn start(self, offset: usize) -> isize {
        let (padding, reach) = (
            self.padding.cast_signed(),
            (offset * self.dilation).cast_signed(),
        );
        match self.direction {
            Direction::Forward => reach - padding,
            Direction::Transposed => padding - reach,
        }
    }

    /// The zeros needed before and behind a zero-stuffed input of a length.
    fn frame(self, length: usize) -> (usize, usize) {
        let reach = ((self.outputs - 1) * self.step()).cast_signed();
        let starts = [self.start(0), self.start(self.kernel - 1)];
        let first = starts[0].min(starts[1]);
        let last = starts[0].max(starts[1]) + reach;
        let before = (-first).max(0);
        let behind = (last + 1 - length.cast_signed()).max(0);
        (before.cast_unsigned(), behind.cast_unsigned())
    }

    /// The elements that the outputs read at a kernel offset, in the framed input.
    fn slice(self, offset: usize, before: usize) -> Slice {
        let start = self.start(offset) + before.cast_signed();
        let step = self.step().cast_signed();
        let end = start + (self.outputs.cast_signed() - 1) * step + 1;
        Slice::new(start, Some(end), step)
    }
}

impl PatchGeometry {
    /// The geometry of the last axes of a convolution's input; axes before are not there.
    pub(crate) fn new(axes: &[PatchAxis]) -> Self {
        let mut all = [PatchAxis::NONE; 3];
        all[3 - axes.len()..].copy_from_slice(axes);
        Self { axes: all }
    }

    /// The number of output positions.
    pub(crate) fn positions(&self) -> usize {
        self.axes.iter().map(|axis| axis.outputs).product()
    }

    /// The number of kernel offsets.
    pub(crate) fn offsets(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    /// The patches of some cases: a row for each output position, its elements in the order of the
    /// weight's: by channels, then by kernel offsets.
    ///
    /// # Shapes
    ///
    /// `[n, channels, depth, height, width] -> [len(cases), positions, channels · offsets]`
    pub(crate) fn patches(&self, input: &Tensor<5>, cases: Range<usize>) -> Tensor<3> {
        let input: Tensor<5> = input.clone().slice_dim(0, cases);
        let [n, channels, ..] = input.dims();
        let (framed, before) = self.framed(input);
        let [k0, k1, k2] = self.axes.map(|axis| axis.kernel);
        let mut shifted: Vec<Tensor<3>> = Vec::with_capacity(self.offsets());
        for o0 in 0..k0 {
            for o1 in 0..k1 {
                for o2 in 0..k2 {
                    let [a0, a1, a2] = self.axes;
                    let slices = [
                        Slice::full(),
                        Slice::full(),
                        a0.slice(o0, before[0]),
                        a1.slice(o1, before[1]),
                        a2.slice(o2, before[2]),
                    ];
                    let read = framed.clone().slice(slices);
                    shifted.push(read.reshape([n, channels, self.positions()]));
                }
            }
        }
        Tensor::stack::<4>(shifted, 3)
            .permute([0, 2, 1, 3])
            .reshape([n, self.positions(), channels * self.offsets()])
    }

    /// The zero-stuffed input within as many zeros as the patches reach over, and the zeros before.
    fn framed(&self, input: Tensor<5>) -> (Tensor<5>, [usize; 3]) {
        let stuffed = self.stuffed(input);
        let [_, _, d, h, w] = stuffed.dims();
        let frames = [d, h, w];
        let frames: [(usize, usize); 3] =
            std::array::from_fn(|axis| self.axes[axis].frame(frames[axis]));
        let before = frames.map(|(before, _)| before);
        if frames == [(0, 0); 3] {
            return (stuffed, before);
        }
        let [d, h, w] = frames;
        let pairs = [(0, 0), (0, 0), d, h, w];
        (stuffed.pad(pairs, PadMode::Constant(0.0)), before)
    }

    /// The input with `stride − 1` zeros between neighbours, for a transposed convolution.
    fn stuffed(&self, input: Tensor<5>) -> Tensor<5> {
        let mut stuffed = input;
        for (index, axis) in self.axes.iter().enumerate() {
            let stuffing = axis.stuffing();
            if stuffing == 1 {
                continue;
            }
            let dimension = index + 2;
            let length = stuffed.dims()[dimension];
            let mut pairs = [(0, 0); 6];
            pairs[dimension + 1] = (0, stuffing - 1);
            let spread: Tensor<6> = stuffed.clone().unsqueeze_dim(dimension + 1);
            let mut dims = stuffed.dims();
            dims[dimension] = length * stuffing;
            stuffed = spread.pad(pairs, PadMode::Constant(0.0)).reshape(dims);
            stuffed = stuffed.slice_dim(dimension, 0..(length - 1) * stuffing + 1);
        }
        stuffed
    }
}
