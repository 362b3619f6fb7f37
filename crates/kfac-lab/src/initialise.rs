//! Initial weights: the sparse initialisation of Martens (2010), or a file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{files::WriteError, network::Activation, npy};

/// How many incoming connections are drawn for each unit, with replacement.
pub const CONNECTIONS: usize = 15;

/// The weights of a dense layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// Number of inputs.
    pub d_in: usize,
    /// Number of outputs.
    pub d_out: usize,
    /// The weights, row-major `[d_out, d_in]`.
    pub weight: Vec<f64>,
    /// The biases, `[d_out]`.
    pub bias: Vec<f64>,
}

/// Sparse initialisation: each unit has about 15 incoming weights from N(0, 1), the rest are zero.
///
/// A tanh layer has its weights halved, a layer that follows one too, and biases of one half; other
/// biases are zero.
///
/// # Source
/// Martens (2010), Sutskever et al. (2013).
pub fn sparse(widths: &[usize], hidden: &[Activation], seed: u64) -> Vec<LayerWeights> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let is_tanh = |layer: Option<usize>| {
        layer.is_some_and(|layer| hidden.get(layer) == Some(&Activation::Tanh))
    };
    let layer = |(i, pair): (usize, &[usize])| {
        let (d_in, d_out) = (pair[0], pair[1]);
        let this = if is_tanh(Some(i)) { 0.5 } else { 1.0 };
        let scale = if is_tanh(i.checked_sub(1)) {
            0.5 * this
        } else {
            this
        };
        let mut weight = vec![0.0; d_in * d_out];
        for unit in 0..d_out {
            for _ in 0..CONNECTIONS {
                let input = random.random_range(0..d_in);
                let value: f64 = StandardNormal.sample(&mut random);
                weight[unit * d_in + input] = scale * value;
            }
        }
        let bias = vec![if is_tanh(Some(i)) { 0.5 } else { 0.0 }; d_out];
        LayerWeights {
            d_in,
            d_out,
            weight,
            bias,
        }
    };
    widths.windows(2).enumerate().map(layer).collect()
}

/// The weights that a run starts from: those of a file, or sparse ones.
///
/// # Errors
/// Where the file cannot be read or is of another network.
pub fn initial_weights(
    (widths, hidden): (&[usize], &[Activation]),
    file: Option<&Path>,
    seed: u64,
) -> Result<Vec<LayerWeights>> {
    match file {
        Some(path) => read(path, widths).context("initial weights"),
        None => Ok(sparse(widths, hidden, seed)),
    }
}

/// Reads weights from a one-dimensional NumPy file of `f32` or `f64`: for each layer the weights,
/// row-major `[d_out, d_in]`, then the biases.
///
/// # Errors
/// Where the file cannot be read, is of another type, or has another number of values than the
/// network.
pub fn read(path: &Path, widths: &[usize]) -> Result<Vec<LayerWeights>> {
    let values = npy::read(path)?.values;
    let expected: usize = widths.windows(2).map(|w| (w[0] + 1) * w[1]).sum();
    ensure!(
        values.len() == expected,
        "{}: expected {expected} values for the network {widths:?}, found {}",
        path.display(),
        values.len()
    );
    let mut rest = values.as_slice();
    let mut take = |n: usize| {
        let (head, tail) = rest.split_at(n);
        rest = tail;
        head.to_vec()
    };
    let layer = |w: &[usize]| {
        let (d_in, d_out) = (w[0], w[1]);
        LayerWeights {
            d_in,
            d_out,
            weight: take(d_in * d_out),
            bias: take(d_out),
        }
    };
    Ok(widths.windows(2).map(layer).collect())
}

impl LayerWeights {
    /// The values of all layers, as [`read`] takes them.
    pub fn values(layers: &[Self]) -> Vec<f64> {
        let layers = layers.iter();
        let values = layers.flat_map(|layer| layer.weight.iter().chain(&layer.bias));
        values.copied().collect()
    }
}

/// Writes weights in the form that [`read`] takes, as `f64`.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, values: &[f64]) -> Result<(), WriteError> {
    npy::write(path, &[values.len()], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_at_most_fifteen_connections() {
        let widths = [100, 50, 6, 20];
        let hidden = [Activation::Logistic, Activation::Linear];
        for layer in sparse(&widths, &hidden, 3) {
            let counts: Vec<usize> = layer
                .weight
                .chunks(layer.d_in)
                .map(|row| row.iter().filter(|w| **w != 0.0).count())
                .collect();
            assert!(
                counts
                    .iter()
                    .all(|&n| (1..=CONNECTIONS.min(layer.d_in)).contains(&n))
            );
            assert!(layer.bias.iter().all(|b| *b == 0.0));
        }
        // 15 draws of 100 have on average 100 (1 − 0.99^15) = 13.99 distinct inputs; 50 units.
        let first = &sparse(&widths, &hidden, 3)[0];
        let mean = first.weight.iter().filter(|w| **w != 0.0).count() as f64 / 50.0;
        assert!(
            (mean - 13.99).abs() < 0.5,
            "mean number of connections {mean}"
        );
    }

    #[test]
    fn tanh_layers_are_scaled_and_shifted() {
        let plain = sparse(&[30, 20, 10], &[Activation::Logistic], 1);
        let tanh = sparse(&[30, 20, 10], &[Activation::Tanh], 1);
        for (p, t) in plain.iter().zip(&tanh) {
            assert!(
                p.weight
                    .iter()
                    .zip(&t.weight)
                    .all(|(p, t)| (0.5 * p - t).abs() < 1e-15)
            );
        }
        assert!(tanh[0].bias.iter().all(|b| (*b - 0.5).abs() < 1e-15));
        assert!(tanh[1].bias.iter().all(|b| *b == 0.0));
    }

    #[test]
    fn weights_survive_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.npy");
        let widths = [7, 5, 3];
        let weights = sparse(&widths, &[Activation::Logistic], 9);
        write(&path, &LayerWeights::values(&weights)).unwrap();
        assert_eq!(read(&path, &widths).unwrap(), weights);
        let error = read(&path, &[7, 5, 4]).unwrap_err().to_string();
        assert!(
            error.contains("expected 64 values") && error.contains("found 58"),
            "{error}"
        );
    }
}
