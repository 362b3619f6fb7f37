//! The patches of a convolution summed over the output positions, without making them.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::patch_geometry::{PatchAxis, PatchGeometry};

impl PatchGeometry {
    /// The sum of the patches of each case over its output positions.
    ///
    /// # Definition
    ///
    /// A sum over a window of the input for each kernel offset: along each axis a product with the
    /// matrix of which inputs are read at which offset.
    ///
    /// # Shapes
    ///
    /// `[n, channels, depth, height, width] -> [n, channels · offsets]`
    ///
    /// # Cost
    ///
    /// As many multiply-adds as the input has elements, times the kernel's width.
    pub(super) fn patch_sums(&self, input: &Tensor<5>) -> Tensor<2> {
        let [n, channels, ..] = input.dims();
        let place = (input.device(), input.dtype());
        let mut sums = input.clone();
        // The last axis first: there the input's elements are neighbours.
        for (index, axis) in self.axes.iter().enumerate().rev() {
            if *axis == PatchAxis::NONE {
                continue;
            }
            let moved = sums.swap_dims(index + 2, 4);
            let mut dims = moved.dims();
            let [length, others] = [dims[4], dims[..4].iter().product()];
            let summed = moved
                .reshape([others, length])
                .matmul(axis.inputs_read(length, &place));
            dims[4] = axis.kernel;
            sums = summed.reshape(dims).swap_dims(index + 2, 4);
        }
        sums.reshape([n, channels * self.offsets()])
    }
}

impl PatchAxis {
    /// One where some output reads an input at a kernel offset, `[length, kernel]`; no two outputs read
    /// the same there.
    fn inputs_read(self, length: usize, (device, dtype): &(Device, DType)) -> Tensor<2> {
        let mut read = vec![0.0_f32; length * self.kernel];
        for offset in 0..self.kernel {
            let reading = self.reading(offset);
            for output in reading.within(self.inputs_of_phase(reading.phase, length)) {
                let input = (output + reading.shift).cast_unsigned() * self.step() + reading.phase;
                read[input * self.kernel + offset] = 1.0;
            }
        }
        let read = TensorData::new(read, [length, self.kernel]);
        Tensor::from_data(read, (device, *dtype))
    }
}
