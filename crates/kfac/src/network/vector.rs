//! Vectors in parameter space: gradients, proposals, steps.

use burn::tensor::{DType, Device, Tensor};

use crate::linalg::host;

/// A vector in the space of the parameters: one matrix `[d_in + 1, d_out]` a layer, laid out as
/// [`Layers`](crate::Layers) says.
#[derive(Clone, Debug)]
pub struct ParameterVector {
    blocks: Vec<Tensor<2>>,
}

impl ParameterVector {
    /// A vector of one matrix a layer.
    pub fn new(blocks: Vec<Tensor<2>>) -> Self {
        Self { blocks }
    }

    /// The zero vector of the same shape.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        self.map(|block| block.zeros_like())
    }

    /// The device of the matrices.
    ///
    /// # Panics
    ///
    /// Where there are none.
    pub(crate) fn device(&self) -> Device {
        self.blocks[0].device()
    }

    /// The precision of the matrices, single where there are none.
    pub(crate) fn dtype(&self) -> DType {
        self.blocks.first().map_or(DType::F32, Tensor::dtype)
    }

    /// The layers' matrices.
    pub fn blocks(&self) -> &[Tensor<2>] {
        &self.blocks
    }

    /// `scale · self`.
    #[must_use]
    pub fn scaled(&self, scale: f64) -> Self {
        self.map(|block| block * scale)
    }

    /// `self + scale · other`.
    ///
    /// # Panics
    ///
    /// Where the layers' shapes differ.
    #[must_use]
    pub fn add_scaled(&self, other: &Self, scale: f64) -> Self {
        let sum = |(a, b): (&Tensor<2>, &Tensor<2>)| a.clone() + b.clone() * scale;
        Self::new(self.blocks.iter().zip(&other.blocks).map(sum).collect())
    }

    /// The inner product, accumulated in `f64`.
    pub fn dot(&self, other: &Self) -> f64 {
        let product = |(a, b): (&Tensor<2>, &Tensor<2>)| host::sum(a.clone() * b.clone());
        self.blocks.iter().zip(&other.blocks).map(product).sum()
    }

    /// The Euclidean norm.
    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// The first layer with an element that is not finite, if any.
    pub(crate) fn first_non_finite(&self) -> Option<usize> {
        // The sum of a block is not finite where an element is not; one that overflows although
        // all elements are finite is of no use to the step either.
        self.blocks
            .iter()
            .position(|block| !host::sum(block.clone()).is_finite())
    }

    fn map(&self, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self::new(self.blocks.iter().cloned().map(f).collect())
    }
}
