//! The patches of a convolution: what its weight is multiplied with at each output position.

use std::ops::Range;

use burn::tensor::{Slice, Tensor, ops::PadMode};

use super::patch_geometry::{PatchAxis, PatchGeometry};

impl PatchAxis {
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
    /// The patches of some cases: a column for each output position, its elements in the order of the
    /// weight's: by channels, then by kernel offsets.
    ///
    /// # Shapes
    ///
    /// `[n, channels, depth, height, width] -> [len(cases), channels · offsets, positions]`
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
        // Positions last: so they are copied many at a time.
        Tensor::stack::<4>(shifted, 2).reshape([n, channels * self.offsets(), self.positions()])
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
