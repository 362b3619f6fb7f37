//! The curvature of a case in the format's members and orders.
//!
//! A layer's parameters are its matrix "in rows": for each output the inputs, then the bias. In this order
//! the block of `ā gᵀ` is `kron(G, A)`.

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    KroneckerFactors, Layer, LayerFactors,
    curvature::EigenInverse,
    damping::factored_pi,
    linalg::{host, kronecker},
};
use serde_json::{Map, Value, json};

/// A device matrix on the host, in double precision.
pub fn matrix(tensor: &Tensor<2>) -> Mat<f64> {
    host::to_host(tensor)
}

/// A matrix as nested lists.
pub fn rows(matrix: &Mat<f64>) -> Value {
    let row = |i: usize| (0..matrix.ncols()).map(|j| matrix[(i, j)]).collect::<Vec<f64>>();
    json!((0..matrix.nrows()).map(row).collect::<Vec<_>>())
}

/// A layer's parameters in rows: one for each output.
pub fn in_rows(block: &Tensor<2>) -> Value {
    rows(&matrix(block).transpose().to_owned())
}

/// A dense block whose parameters are the layer's matrix read row by row, in the order of the format.
pub fn reordered(block: &Mat<f64>, layer: &Layer) -> Mat<f64> {
    let (inputs, outputs) = (layer.activation_dimension(), layer.d_out);
    let from = |at: usize| (at % inputs) * outputs + at / inputs;
    Mat::from_fn(inputs * outputs, inputs * outputs, |i, j| block[(from(i), from(j))])
}

/// A layer's approximate block densely, and its members in the format.
pub fn block_members(
    layer: &Layer,
    (factors, positions): (&LayerFactors, usize),
    exact: &Mat<f64>,
) -> (Mat<f64>, Map<String, Value>) {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    let approximate = match factors {
        LayerFactors::Kronecker(factors) => {
            let [a, g] = pair(factors);
            put("kind", json!("kronecker"));
            put("positions", json!(positions));
            put("input_factor", rows(&a));
            put("gradient_factor", rows(&g));
            kronecker::product(&g, &a)
        }
        LayerFactors::Groups(groups) => {
            let pairs: Vec<_> = groups.iter().map(pair).collect();
            let group = |[a, g]: &[Mat<f64>; 2]| {
                json!({"input_factor": rows(a), "gradient_factor": rows(g)})
            };
            put("kind", json!("kronecker_per_group"));
            put("positions", json!(positions));
            put("groups", json!(pairs.iter().map(group).collect::<Vec<_>>()));
            let products = pairs.iter().map(|[a, g]| kronecker::product(g, a));
            block_diagonal(&products.collect::<Vec<_>>())
        }
        LayerFactors::Embedding {
            activation,
            gradient,
        } => {
            let counts: Vec<f64> = host::to_vec(activation);
            let g = matrix(gradient);
            put("kind", json!("embedding"));
            put("positions", json!(positions));
            put("input_factor", json!(counts));
            put("gradient_factor", rows(&g));
            let a = Mat::from_fn(counts.len(), counts.len(), |i, j| {
                if i == j { counts[i] } else { 0.0 }
            });
            kronecker::product(&g, &a)
        }
        LayerFactors::Full(block) => {
            let full = reordered(&matrix(block), layer);
            let inputs = layer.activation_dimension();
            let diagonal = |offset: usize| {
                (0..layer.d_out)
                    .map(|unit| full[(unit * inputs + offset, unit * inputs + offset)])
                    .collect::<Vec<f64>>()
            };
            put("kind", json!("scale_shift"));
            put("diagonal_scale", json!(diagonal(0)));
            if layer.bias.is_some() {
                put("diagonal_shift", json!(diagonal(1)));
            }
            full
        }
        LayerFactors::Diagonal(diagonal) => {
            let values = matrix(diagonal);
            let inputs = layer.activation_dimension();
            put("kind", json!("diagonal"));
            put("diagonal", rows(&values.transpose().to_owned()));
            Mat::from_fn(inputs * layer.d_out, inputs * layer.d_out, |i, j| {
                if i == j { values[(i % inputs, i / inputs)] } else { 0.0 }
            })
        }
    };
    let name = match factors {
        LayerFactors::Full(_) | LayerFactors::Diagonal(_) => "full_block",
        _ => "kronecker_block",
    };
    let error = relative_error(&approximate, exact);
    put(name, rows(&approximate));
    put("exact_block", rows(exact));
    put("relative_error", json!(error));
    put("exact", json!(error < 1e-12));
    (approximate, members)
}

/// `π` of each pair of factors, balanced by traces: a list where there are groups; `None` where the block
/// is no product.
pub fn trace_pi(factors: &LayerFactors) -> Option<Value> {
    let trace = |m: &Mat<f64>| (0..m.nrows()).map(|i| m[(i, i)]).sum::<f64>() / m.nrows() as f64;
    let of_pair = |factors: &KroneckerFactors| {
        let [a, g] = pair(factors);
        factored_pi(trace(&a), trace(&g))
    };
    match factors {
        LayerFactors::Kronecker(factors) => Some(json!(of_pair(factors))),
        LayerFactors::Groups(groups) => {
            Some(json!(groups.iter().map(of_pair).collect::<Vec<f64>>()))
        }
        LayerFactors::Embedding {
            activation,
            gradient,
        } => {
            let counts: Vec<f64> = host::to_vec(activation);
            let mean = counts.iter().sum::<f64>() / counts.len() as f64;
            Some(json!(factored_pi(mean, trace(&matrix(gradient)))))
        }
        LayerFactors::Diagonal(_) | LayerFactors::Full(_) => None,
    }
}

/// The members of EKFAC of a layer with one eigenbasis, and its block densely.
///
/// # Errors
/// Where the factors of the layer are not a Kronecker product.
pub fn ekfac_members(
    factors: &LayerFactors,
    inverse: &EigenInverse,
    exact: &Mat<f64>,
) -> Result<Map<String, Value>> {
    let q_g = matrix(&inverse.gradient_basis);
    let (a, g) = match factors {
        LayerFactors::Kronecker(factors) => {
            let [a, g] = pair(factors);
            (a, g)
        }
        LayerFactors::Embedding {
            activation,
            gradient,
        } => {
            let counts: Vec<f64> = host::to_vec(activation);
            let diagonal =
                |i: usize, j: usize| if i == j { counts[i] } else { 0.0 };
            (Mat::from_fn(counts.len(), counts.len(), diagonal), matrix(gradient))
        }
        _ => anyhow::bail!("no single eigenbasis"),
    };
    let dimension = a.nrows();
    let q_a = inverse.activation_basis.as_ref().map_or_else(
        || Mat::identity(dimension, dimension),
        matrix,
    );
    let corrected = matrix(&inverse.eigenvalues).transpose().to_owned();
    let values = |q: &Mat<f64>, m: &Mat<f64>| {
        let rotated = q.transpose() * m * q;
        (0..m.nrows()).map(|i| rotated[(i, i)]).collect::<Vec<f64>>()
    };
    let basis = kronecker::product(&q_g, &q_a);
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
    Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| vectors[(i, j)] * signs[j])
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
pub fn exact_block(all: &Mat<f64>, layers: &[Layer], index: usize) -> Result<Mat<f64>> {
    let size = |layer: &Layer| layer.activation_dimension() * layer.d_out;
    let start: usize = layers[..index].iter().map(size).sum();
    let layer = layers.get(index).context("no such layer")?;
    let own = size(layer);
    let block = Mat::from_fn(own, own, |i, j| all[(start + i, start + j)]);
    Ok(reordered(&block, layer))
}
