//! `F`, `F̃`, `F̌` and `F̂` as dense matrices, and their inverses.

use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use faer::{
    Mat,
    linalg::solvers::{DenseSolveCore, Llt},
};
use kfac::{
    ParameterVector, PiNorm,
    blocks::{BlockEstimate, CrossFactors, FactorSet, KroneckerFactors},
    curvature::FisherApproximation,
    damping::FactoredTikhonov,
};

use super::moments::Moments;
use crate::matrix::{self, kronecker};

/// All matrices, over the parameters of the middle layers.
pub(super) struct Approximations {
    /// Parameters of one layer.
    pub(super) layer_size: usize,
    /// `F`.
    pub(super) exact: Mat<f64>,
    /// `F̃`, not damped.
    pub(super) factored: Mat<f64>,
    /// `F̃` with the diagonal blocks' factors damped, as are all that follow.
    pub(super) damped: Mat<f64>,
    /// `F̌`.
    pub(super) diagonal: Mat<f64>,
    /// `F̂`.
    pub(super) tridiagonal: Mat<f64>,
    pub(super) inverse: Mat<f64>,
    pub(super) diagonal_inverse: Mat<f64>,
    pub(super) tridiagonal_inverse: Mat<f64>,
}

impl Approximations {
    /// With the factors damped by γ and the balance of their traces (section 6.3).
    pub(super) fn new(moments: &Moments, gamma: f64) -> Result<Self> {
        let factors = factor_set(moments);
        let rule = FactoredTikhonov { pi: PiNorm::Trace };
        let damped_factors = factors.damped(&rule, gamma);
        let damped_factors = damped_factors.context("damping of factors")?;
        let factored = factored(moments);
        let damped = with_diagonal_blocks(&factored, &damped_factors);
        let unlinked = FactorSet {
            links: vec![None; moments.layers()],
            ..damped_factors.clone()
        };
        let diagonal = dense(unlinked).context("F-breve")?;
        let tridiagonal = dense(damped_factors).context("F-hat")?;
        Ok(Self {
            layer_size: moments.layer_size(),
            exact: moments.fisher(),
            inverse: inverse(&damped).context("F-tilde")?,
            diagonal_inverse: inverse(&diagonal).context("F-breve")?,
            tridiagonal_inverse: inverse(&tridiagonal).context("F-hat")?,
            factored,
            damped,
            diagonal,
            tridiagonal,
        })
    }
}

/// `F̃`: all blocks, also those that no approximate inverse uses.
fn factored(moments: &Moments) -> Mat<f64> {
    let (size, layers) = (moments.layer_size(), moments.layers());
    let mut matrix = Mat::zeros(size * layers, size * layers);
    for (i, j) in moments.pairs() {
        let block = kronecker(
            &moments.activation_factor(i, j),
            &moments.gradient_factor(i, j),
        );
        matrix
            .submatrix_mut(i * size, j * size, size, size)
            .copy_from(&block);
    }
    matrix
}

fn with_diagonal_blocks(matrix: &Mat<f64>, factors: &FactorSet) -> Mat<f64> {
    let mut matrix = matrix.clone();
    let size = matrix.nrows() / factors.blocks.len();
    for (layer, factors) in factors.kronecker().into_iter().enumerate() {
        let block = kronecker(
            &matrix::of_tensor(&factors.activation),
            &matrix::of_tensor(&factors.gradient),
        );
        matrix
            .submatrix_mut(layer * size, layer * size, size, size)
            .copy_from(&block);
    }
    matrix
}

/// The factors as the library takes them.
fn factor_set(moments: &Moments) -> FactorSet {
    let tensor = |matrix: Mat<f64>| matrix::tensor(&matrix);
    let layers = moments.layers();
    let layer = |i| KroneckerFactors {
        activation: tensor(moments.activation_factor(i, i)),
        gradient: tensor(moments.gradient_factor(i, i)),
    };
    let link = |i| {
        (i + 1 < layers).then(|| CrossFactors {
            activation: tensor(moments.activation_factor(i, i + 1)),
            gradient: tensor(moments.gradient_factor(i, i + 1)),
        })
    };
    FactorSet {
        blocks: (0..layers)
            .map(|i| Arc::new(layer(i)) as Arc<dyn BlockEstimate>)
            .collect(),
        links: (0..layers).map(link).collect(),
    }
}

/// The library's product with every unit vector.
fn dense(factors: FactorSet) -> Result<Mat<f64>> {
    let shapes: Vec<[usize; 2]> = factors
        .kronecker()
        .iter()
        .map(|f| [f.activation.dims()[0], f.gradient.dims()[0]])
        .collect();
    let size: usize = shapes.iter().map(|[a, g]| a * g).sum();
    let fisher = FisherApproximation::new(factors)?;
    let mut matrix = Mat::zeros(size, size);
    for column in 0..size {
        let product = fisher.multiply(&unit(column, &shapes));
        let values = product.blocks().iter().flat_map(matrix::values);
        for (row, value) in values.enumerate() {
            matrix[(row, column)] = value;
        }
    }
    Ok(matrix)
}

/// The parameter vector with a one in one place.
fn unit(mut place: usize, shapes: &[[usize; 2]]) -> ParameterVector {
    let mut blocks: Vec<Tensor<2>> = Vec::with_capacity(shapes.len());
    for &[a, g] in shapes {
        let one = |i: usize, j: usize| f64::from(u8::from(i * g + j == place));
        let block = Mat::from_fn(a, g, one);
        blocks.push(matrix::tensor(&block));
        place = place.wrapping_sub(a * g);
    }
    ParameterVector::new(blocks)
}

fn inverse(matrix: &Mat<f64>) -> Result<Mat<f64>> {
    let factor = Llt::new(matrix.as_ref(), faer::Side::Lower)
        .map_err(|error| anyhow::anyhow!("not positive definite, more --gamma helps: {error:?}"))?;
    Ok(factor.inverse())
}
