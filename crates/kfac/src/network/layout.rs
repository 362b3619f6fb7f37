//! How a weight is stored, and the parameters' matrix that is made of it.

use burn::tensor::Tensor;

/// How a layer's weight is stored: the matrix `[d_in, d_out]` of its parameters is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightLayout {
    /// `[d_in, d_out]`, as of Burn's dense layers; the rows may have several axes.
    InputsFirst,
    /// `[d_out, d_in]`, as of convolutions; the columns may have several axes.
    OutputsFirst,
    /// Four axes that make the matrix once they are brought into another order; axes that are not
    /// there have length one.
    Permuted {
        /// The lengths of the axes as they are stored.
        shape: [usize; 4],
        /// The stored axis at each place of the matrix: those of the inputs, then those of the outputs.
        order: [usize; 4],
    },
}

impl WeightLayout {
    /// The matrix `[d_in, d_out]` from the weight in the order in which it is stored.
    pub(super) fn matrix(self, stored: Tensor<1>, [d_in, d_out]: [usize; 2]) -> Tensor<2> {
        match self {
            Self::InputsFirst => stored.reshape([d_in, d_out]),
            Self::OutputsFirst => stored.reshape([d_out, d_in]).transpose(),
            Self::Permuted { shape, order } => {
                stored.reshape(shape).permute(order).reshape([d_in, d_out])
            }
        }
    }

    /// The weight in the order in which it is stored, from the matrix.
    pub(super) fn stored(self, matrix: Tensor<2>) -> Tensor<1> {
        match self {
            Self::InputsFirst => matrix.flatten(0, 1),
            Self::OutputsFirst => matrix.transpose().flatten(0, 1),
            Self::Permuted { shape, order } => matrix
                .reshape(order.map(|axis| shape[axis]))
                .permute(inverse(order))
                .flatten(0, 3),
        }
    }
}

fn inverse(order: [usize; 4]) -> [usize; 4] {
    let mut inverse = [0; 4];
    for (place, axis) in order.into_iter().enumerate() {
        inverse[axis] = place;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;

    #[test]
    fn the_way_back_from_the_matrix_is_the_way_to_it() {
        let permuted = WeightLayout::Permuted {
            shape: [2, 3, 4, 5],
            order: [1, 3, 0, 2],
        };
        for layout in [
            WeightLayout::InputsFirst,
            WeightLayout::OutputsFirst,
            permuted,
        ] {
            let stored = Tensor::<1, Int>::arange(0..120, &Device::default()).float();
            let matrix = layout.matrix(stored.clone(), [15, 8]);
            let back = layout.stored(matrix.clone());
            assert_eq!(back.to_data(), stored.to_data(), "{layout:?}");
            let moved = matrix.flatten::<1>(0, 1).to_data() != stored.to_data();
            assert_eq!(moved, layout != WeightLayout::InputsFirst);
        }
    }
}
