//! Where the patches of a convolution lie in its input.

use std::ops::Range;

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
    pub(super) axes: [PatchAxis; 3],
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

/// The inputs along an axis that are read at one kernel offset.
///
/// A convolution reads every `stride`-th input at an offset, and a transposed one has every `stride`-th
/// output read. Counted by these alone, neighbours read neighbours:
///
/// ```text
/// output  residue + stride · u   of a transposed convolution reads input  u + shift
/// output  u                      of a convolution reads input  phase + stride · (u + shift)
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The first of the inputs that are read at such offsets.
    pub(super) phase: usize,
    /// The first of the outputs that read at such offsets.
    pub(super) residue: usize,
    /// How far the inputs are ahead of the outputs.
    pub(super) shift: isize,
    /// How many outputs read at the offset, those that read zeros around the input included.
    pub(super) outputs: usize,
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
    pub(super) fn stuffing(self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::Transposed => self.stride,
        }
    }

    /// The distance of neighbouring outputs in the zero-stuffed input.
    pub(super) fn step(self) -> usize {
        match self.direction {
            Direction::Forward => self.stride,
            Direction::Transposed => 1,
        }
    }

    /// Where output 0 reads at a kernel offset, counted in the zero-stuffed input.
    pub(super) fn start(self, offset: usize) -> isize {
        let (padding, reach) = (
            self.padding.cast_signed(),
            (offset * self.dilation).cast_signed(),
        );
        match self.direction {
            Direction::Forward => reach - padding,
            Direction::Transposed => padding - reach,
        }
    }

    /// What the outputs read at a kernel offset.
    pub(super) fn reading(self, offset: usize) -> Reading {
        let [step, stuffing] = [self.step(), self.stuffing()].map(usize::cast_signed);
        let start = self.start(offset);
        let residue = (-start).rem_euclid(stuffing);
        let first = (start + residue) / stuffing;
        let outputs = self.outputs.saturating_sub(residue.cast_unsigned());
        Reading {
            phase: first.rem_euclid(step).cast_unsigned(),
            residue: residue.cast_unsigned(),
            shift: first.div_euclid(step),
            outputs: outputs.div_ceil(self.stuffing()),
        }
    }

    /// The number of inputs that are read where the first of them is `phase`, out of so many.
    pub(super) fn inputs_of_phase(self, phase: usize, length: usize) -> usize {
        length.saturating_sub(phase).div_ceil(self.step())
    }
}

impl Reading {
    /// The outputs, out of those that read at the offset, that read within so many inputs of the phase.
    pub(super) fn within(self, length: usize) -> Range<isize> {
        let first = (-self.shift).max(0);
        let end = (length.cast_signed() - self.shift).min(self.outputs.cast_signed());
        first..end.max(first)
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
}
