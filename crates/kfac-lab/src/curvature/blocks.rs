//! The curvature of a case in the format's members and orders.
//!
//! A layer's parameters are its matrix "in rows": for each output the inputs, then the bias. In this order
//! the block of `ā gᵀ` is `kron(G, A)`.

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Layer,
    blocks::{
        BlockEstimate, DiagonalFactors, EigenBasis, FullFactors, GroupedFactors, KroneckerFactors,
        OneHotFactors,
    },
    damping::factored_pi,
};
use serde_json::{Map, Value, json};

use crate::matrix::{kronecker, of_tensor as matrix, values};

/// An estimate of one of the library's own structures.
pub(super) enum Known<'a> {
    Kronecker(&'a KroneckerFactors),
    Groups(&'a [KroneckerFactors]),
    OneHot(&'a OneHotFactors),
    Full(&'a Tensor<2>),
    Diagonal(&'a Tensor<2>),
}

impl<'a> Known<'a> {
    pub(super) fn of(estimate: &'a dyn BlockEstimate) -> Option<Self> {
        let kronecker = || estimate.downcast().map(Self::Kronecker);
        let groups = || estimate.downcast().map(|GroupedFactors(g)| Self::Groups(g));
        let one_hot = || estimate.downcast().map(Self::OneHot);
        let full = || estimate.downcast().map(|FullFactors(f)| Self::Full(f));
        let diagonal = || {
            estimate
                .downcast()
                .map(|DiagonalFactors(d)| Self::Diagonal(d))
        };
        kronecker()
            .or_else(groups)
            .or_else(one_hot)
            .or_else(full)
            .or_else(diagonal)
    }
}

/// A matrix as nested lists.
pub(super) fn rows(matrix: &Mat<f64>) -> Value {
    let row = |i: usize| {
        (0..matrix.ncols())
            .map(|j| matrix[(i, j)])
            .collect::<Vec<f64>>()
    };
    json!((0..matrix.nrows()).map(row).collect::<Vec<_>>())
}

/// A layer's parameters in rows: one for each output.
pub(super) fn in_rows(block: &Tensor<2>) -> Value {
    rows(&matrix(block).transpose().to_owned())
}

/// A dense block whose parameters are the layer's matrix read row by row, in the order of the format.
pub(super) fn reordered(block: &Mat<f64>, layer: &Layer) -> Mat<f64> {
    let (inputs, outputs) = (layer.activation_dimension(), layer.d_out);
    let from = |at: usize| (at % inputs) * outputs + at / inputs;
    Mat::from_fn(inputs * outputs, inputs * outputs, |i, j| {
        block[(from(i), from(j))]
    })
}

/// The members of a layer's block in the format.
pub(super) fn block_members(
    layer: &Layer,
    factors: &Known<'_>,
    exact: &Mat<f64>,
) -> Map<String, Value> {
    let approximate = dense_block(layer, factors);
    let mut members = factor_members(layer, (factors, &approximate));
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    match factors {
        Known::Full(_) | Known::Diagonal(_) => {
            put("full_block", rows(&approximate));
        }
        _ => {
            put("positions", json!(layer.positions));
            put("kronecker_block", rows(&approximate));
        }
    }
    let error = relative_error(&approximate, exact);
    put("exact_block", rows(exact));
    put("relative_error", json!(error));
    put("exact", json!(error < 1e-12));
    members
}

/// A layer's approximate block densely, in the order of the format.
fn dense_block(layer: &Layer, factors: &Known<'_>) -> Mat<f64> {
    match factors {
        Known::Kronecker(factors) => {
            let [a, g] = pair(factors);
            kronecker(&g, &a)
        }
        Known::Groups(groups) => {
            let products = groups.iter().map(pair);
            let products = products.map(|[a, g]| kronecker(&g, &a));
            block_diagonal(&products.collect::<Vec<_>>())
        }
        Known::OneHot(OneHotFactors {
            activation,
            gradient,
        }) => kronecker(&matrix(gradient), &diagonal(activation)),
        Known::Full(block) => reordered(&matrix(block), layer),
        Known::Diagonal(elements) => {
            let flat = elements.dims().iter().product();
            reordered(
                &diagonal(&Tensor::clone(elements).reshape([flat, 1])),
                layer,
            )
        }
    }
}

/// What the approximate block is made of.
fn factor_members(
    layer: &Layer,
    (factors, approximate): (&Known<'_>, &Mat<f64>),
) -> Map<String, Value> {
    let of_pair = |factors: &KroneckerFactors| {
        let [a, g] = pair(factors);
        json!({"input_factor": rows(&a), "gradient_factor": rows(&g)})
    };
    let (kind, members) = match factors {
        Known::Kronecker(factors) => ("kronecker", of_pair(factors)),
        Known::Groups(groups) => {
            let groups: Vec<Value> = groups.iter().map(of_pair).collect();
            ("kronecker_per_group", json!({"groups": groups}))
        }
        Known::OneHot(OneHotFactors {
            activation,
            gradient,
        }) => {
            let counts: Vec<f64> = values(activation);
            let gradient = rows(&matrix(gradient));
            let members = json!({"input_factor": counts, "gradient_factor": gradient});
            ("embedding", members)
        }
        Known::Full(_) | Known::Diagonal(_) => {
            ("scale_shift", scale_shift_members(layer, approximate))
        }
    };
    let mut members = members.as_object().cloned().unwrap_or_default();
    members.insert("kind".to_owned(), json!(kind));
    members
}

fn scale_shift_members(layer: &Layer, block: &Mat<f64>) -> Value {
    let inputs = layer.activation_dimension();
    let diagonal = |offset: usize| {
        let at = |unit: usize| unit * inputs + offset;
        (0..layer.d_out)
            .map(|unit| block[(at(unit), at(unit))])
            .collect::<Vec<f64>>()
    };
    match layer.bias {
        Some(_) => json!({"diagonal_scale": diagonal(0), "diagonal_shift": diagonal(1)}),
        None => json!({"diagonal_scale": diagonal(0)}),
    }
}

/// A diagonal matrix from a column.
fn diagonal(column: &Tensor<2>) -> Mat<f64> {
    let values: Vec<f64> = values(column);
    Mat::from_fn(values.len(), values.len(), |i, j| {
        if i == j { values[i] } else { 0.0 }
    })
}

/// `π` of each pair of factors, balanced by traces: a list where there are groups; `None` where the block
/// is no product.
pub(super) fn trace_pi(factors: &Known<'_>) -> Option<Value> {
    let trace = |m: &Mat<f64>| (0..m.nrows()).map(|i| m[(i, i)]).sum::<f64>() / m.nrows() as f64;
    let of_pair = |factors: &KroneckerFactors| {
        let [a, g] = pair(factors);
        factored_pi(trace(&a), trace(&g))
    };
    match factors {
        Known::Kronecker(factors) => Some(json!(of_pair(factors))),
        Known::Groups(groups) => Some(json!(groups.iter().map(of_pair).collect::<Vec<f64>>())),
        Known::OneHot(OneHotFactors {
            activation,
            gradient,
        }) => {
            let counts: Vec<f64> = values(activation);
            let mean = counts.iter().sum::<f64>() / counts.len() as f64;
            Some(json!(factored_pi(mean, trace(&matrix(gradient)))))
        }
        Known::Diagonal(_) | Known::Full(_) => None,
    }
}

/// The members of EKFAC of a layer with one eigenbasis, and its block densely.
///
/// # Errors
/// Where the factors of the layer are not a Kronecker product.
pub(super) fn ekfac_members(
    factors: &Known<'_>,
    inverse: &EigenBasis,
    exact: &Mat<f64>,
) -> Result<Map<String, Value>> {
    let q_g = matrix(&inverse.gradient_basis);
    let [a, g] = match factors {
        Known::Kronecker(factors) => pair(factors),
        Known::OneHot(OneHotFactors {
            activation,
            gradient,
        }) => [diagonal(activation), matrix(gradient)],
        _ => anyhow::bail!("no single eigenbasis"),
    };
    let dimension = a.nrows();
    let q_a = inverse
        .activation_basis
        .as_ref()
        .map_or_else(|| Mat::identity(dimension, dimension), matrix);
    let corrected = matrix(&inverse.eigenvalues).transpose().to_owned();
    let values = |q: &Mat<f64>, m: &Mat<f64>| {
        let rotated = q.transpose() * m * q;
        (0..m.nrows())
            .map(|i| rotated[(i, i)])
            .collect::<Vec<f64>>()
    };
    let basis = kronecker(&q_g, &q_a);
    let size = basis.nrows();
    let scaled = Mat::from_fn(size, size, |i, j| {
        basis[(i, j)] * corrected[(j / dimension, j % dimension)]
    });
    let block = &scaled * basis.transpose();
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("input_eigenvalues", json!(values(&q_a, &a)));
    put("input_eigenvectors", rows(&signed(&q_a)));
    put("gradient_eigenvalues", json!(values(&q_g, &g)));
    put("gradient_eigenvectors", rows(&signed(&q_g)));
    put("eigenvalues_corrected", rows(&corrected));
    put("relative_error", json!(relative_error(&block, exact)));
    put("block", rows(&block));
    Ok(members)
}

/// Eigenvectors with the sign that makes the largest entry positive.
fn signed(vectors: &Mat<f64>) -> Mat<f64> {
    let largest = |j: usize| {
        (0..vectors.nrows())
            .map(|i| vectors[(i, j)])
            .max_by(|a, b| a.abs().total_cmp(&b.abs()))
            .unwrap_or(1.0)
    };
    let signs: Vec<f64> = (0..vectors.ncols()).map(|j| largest(j).signum()).collect();
    Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| {
        vectors[(i, j)] * signs[j]
    })
}

fn pair(factors: &KroneckerFactors) -> [Mat<f64>; 2] {
    [matrix(&factors.activation), matrix(&factors.gradient)]
}

fn block_diagonal(blocks: &[Mat<f64>]) -> Mat<f64> {
    let size = blocks.iter().map(Mat::nrows).sum();
    let mut all = Mat::zeros(size, size);
    let mut start = 0;
    for block in blocks {
        for i in 0..block.nrows() {
            for j in 0..block.ncols() {
                all[(start + i, start + j)] = block[(i, j)];
            }
        }
        start += block.nrows();
    }
    all
}

fn relative_error(approximate: &Mat<f64>, exact: &Mat<f64>) -> f64 {
    (approximate - exact).norm_l2() / exact.norm_l2()
}

/// The diagonal block of a layer in a dense matrix of all layers, in the order of the format.
///
/// # Errors
/// Where the matrix is smaller than the layers' parameters.
pub(super) fn exact_block(all: &Mat<f64>, layers: &[Layer], index: usize) -> Result<Mat<f64>> {
    let start: usize = layers[..index].iter().map(Layer::dimension).sum();
    let layer = layers.get(index).context("no such layer")?;
    let own = layer.dimension();
    let block = Mat::from_fn(own, own, |i, j| all[(start + i, start + j)]);
    Ok(reordered(&block, layer))
}
