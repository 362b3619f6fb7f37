//! The exact moments of the middle layers, by forward and backward passes written out.
//!
//! Targets are enumerated: each class counts with the probability that the network gives it. Nothing
//! here uses the library, so that its factors are not compared with themselves.

use faer::Mat;

use crate::initialise::LayerWeights;
use crate::matrix::kronecker;

/// The first middle layer: the layer after the one that sees the pixels.
const FIRST: usize = 1;

/// The inputs of the middle layers and the gradients at their outputs, case by case.
pub(super) struct Moments {
    /// `ā_{i−1}` of each layer, `[n, d_in + 1]`, the one last.
    activations: Vec<Mat<f64>>,
    /// For each class and layer, the gradients `g_i` under that target, `[n, d_out]`.
    gradients: Vec<Vec<Mat<f64>>>,
    /// For each class, its probability in each case divided by the number of cases.
    weights: Vec<Vec<f64>>,
}

impl Moments {
    /// The moments of all layers between the first and the last.
    pub(super) fn of_middle_layers(layers: &[LayerWeights], inputs: &Mat<f64>) -> Self {
        let all = Self::of_all_layers(layers, inputs);
        let middle = FIRST..layers.len() - 1;
        Self {
            activations: all.activations[middle.clone()].to_vec(),
            gradients: all
                .gradients
                .iter()
                .map(|g| g[middle.clone()].to_vec())
                .collect(),
            weights: all.weights,
        }
    }

    /// A tanh network with softmax outputs.
    fn of_all_layers(layers: &[LayerWeights], inputs: &Mat<f64>) -> Self {
        let n = inputs.nrows();
        let weight = |layer: &LayerWeights| {
            Mat::from_fn(layer.d_out, layer.d_in + 1, |i, j| {
                let from = layer.weight.get(i * layer.d_in + j);
                if j < layer.d_in {
                    from.copied().unwrap_or(0.0)
                } else {
                    layer.bias[i]
                }
            })
        };
        let matrices: Vec<Mat<f64>> = layers.iter().map(weight).collect();
        let mut activations = Vec::with_capacity(layers.len());
        let mut outputs = inputs.clone();
        for (index, matrix) in matrices.iter().enumerate() {
            let with_one = Mat::from_fn(n, outputs.ncols() + 1, |i, j| {
                if j < outputs.ncols() {
                    outputs[(i, j)]
                } else {
                    1.0
                }
            });
            outputs = &with_one * matrix.transpose();
            activations.push(with_one);
            if index + 1 < layers.len() {
                outputs = Mat::from_fn(n, outputs.ncols(), |i, j| outputs[(i, j)].tanh());
            }
        }
        let probabilities = softmax(&outputs);
        let classes = outputs.ncols();
        let backward = |class: usize| {
            let at_output = Mat::from_fn(n, classes, |i, j| {
                probabilities[(i, j)] - f64::from(u8::from(j == class))
            });
            backward(&matrices, &activations, at_output)
        };
        Self {
            gradients: (0..classes).map(backward).collect(),
            weights: (0..classes)
                .map(|class| {
                    (0..n)
                        .map(|i| probabilities[(i, class)] / n as f64)
                        .collect()
                })
                .collect(),
            activations,
        }
    }

    pub(super) fn cases(&self) -> usize {
        self.activations[0].nrows()
    }

    pub(super) fn layers(&self) -> usize {
        self.activations.len()
    }

    /// The number of parameters of a layer; all middle layers have as many.
    pub(super) fn layer_size(&self) -> usize {
        self.activations[0].ncols() * self.gradients[0][0].ncols()
    }

    /// `Ā_{i,j}`, the mean of `ā_i ā_jᵀ`.
    pub(super) fn activation_factor(&self, i: usize, j: usize) -> Mat<f64> {
        self.activations[i].transpose()
            * &self.activations[j]
            * faer::Scale(1.0 / self.cases() as f64)
    }

    /// `G_{i,j}`, the mean of `g_i g_jᵀ`.
    pub(super) fn gradient_factor(&self, i: usize, j: usize) -> Mat<f64> {
        let part = |(gradients, weights): (&Vec<Mat<f64>>, &Vec<f64>)| {
            let weighted = Mat::from_fn(self.cases(), gradients[i].ncols(), |n, k| {
                weights[n] * gradients[i][(n, k)]
            });
            weighted.transpose() * &gradients[j]
        };
        sum(self.gradients.iter().zip(&self.weights).map(part))
    }

    /// The exact Fisher `F`: the mean of the outer products of the whole gradients.
    pub(super) fn fisher(&self) -> Mat<f64> {
        self.second_moment(&self.activations)
    }

    /// The parts of `F − F̃` (appendix A): `κ(ā¹, ā², g¹, g²)`, `κ(ā¹) κ(ā², g¹, g²)` and
    /// `κ(ā²) κ(ā¹, g¹, g²)` for every two weights.
    ///
    /// The gradients have mean zero in every case, so moments with a single one vanish.
    pub(super) fn cumulants(&self) -> [Mat<f64>; 3] {
        let centred: Vec<Mat<f64>> = self.activations.iter().map(centred).collect();
        let mut fourth = self.second_moment(&centred);
        let size = self.layer_size();
        let n = fourth.nrows();
        let (mut second_third, mut third_second) = (Mat::zeros(n, n), Mat::zeros(n, n));
        for (i, j) in self.pairs() {
            let covariance =
                centred[i].transpose() * &centred[j] * faer::Scale(1.0 / self.cases() as f64);
            let product = kronecker(&covariance, &self.gradient_factor(i, j));
            let mut block = fourth.submatrix_mut(i * size, j * size, size, size);
            block -= &product;
            let by_column = self.third(&centred[j], (i, j));
            let by_row = self.third(&centred[i], (i, j));
            let (mean_i, mean_j) = (means(&self.activations[i]), means(&self.activations[j]));
            let outputs = self.gradients[0][i].ncols();
            let others = self.gradients[0][j].ncols();
            for row in 0..size {
                for column in 0..size {
                    let (a, g) = (row / outputs, row % outputs);
                    let (b, h) = (column / others, column % others);
                    let at = (i * size + row, j * size + column);
                    second_third[at] = mean_i[a] * by_column[(b, g * others + h)];
                    third_second[at] = mean_j[b] * by_row[(a, g * others + h)];
                }
            }
        }
        [fourth, second_third, third_second]
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let layers = self.layers();
        (0..layers).flat_map(move |i| (0..layers).map(move |j| (i, j)))
    }

    /// The mean of `(ā ⊗ g)(ā ⊗ g)ᵀ` over all layers for some activations.
    fn second_moment(&self, activations: &[Mat<f64>]) -> Mat<f64> {
        let size = self.layer_size();
        let part = |(gradients, weights): (&Vec<Mat<f64>>, &Vec<f64>)| {
            let columns = Mat::from_fn(self.cases(), size * self.layers(), |n, parameter| {
                let (layer, within) = (parameter / size, parameter % size);
                let outputs = gradients[layer].ncols();
                let a = activations[layer][(n, within / outputs)];
                weights[n].sqrt() * a * gradients[layer][(n, within % outputs)]
            });
            columns.transpose() * &columns
        };
        sum(self.gradients.iter().zip(&self.weights).map(part))
    }

    /// `E[ã g_i g_jᵀ]` for some centred activations, `[d, d_i · d_j]`.
    fn third(&self, centred: &Mat<f64>, (i, j): (usize, usize)) -> Mat<f64> {
        let others = self.gradients[0][j].ncols();
        let part = |(gradients, weights): (&Vec<Mat<f64>>, &Vec<f64>)| {
            let products = Mat::from_fn(self.cases(), gradients[i].ncols() * others, |n, at| {
                weights[n] * gradients[i][(n, at / others)] * gradients[j][(n, at % others)]
            });
            centred.transpose() * products
        };
        sum(self.gradients.iter().zip(&self.weights).map(part))
    }
}

/// The gradients at every layer's outputs from those at the network's.
fn backward(matrices: &[Mat<f64>], activations: &[Mat<f64>], at_output: Mat<f64>) -> Vec<Mat<f64>> {
    let mut gradients = vec![at_output];
    for layer in (1..matrices.len()).rev() {
        let above = gradients.last().map(|g| g * &matrices[layer]);
        let inputs = &activations[layer];
        gradients.extend(above.map(|above| {
            Mat::from_fn(inputs.nrows(), inputs.ncols() - 1, |n, k| {
                above[(n, k)] * (1.0 - inputs[(n, k)].powi(2))
            })
        }));
    }
    gradients.reverse();
    gradients
}

fn softmax(outputs: &Mat<f64>) -> Mat<f64> {
    let mut probabilities = outputs.clone();
    for i in 0..outputs.nrows() {
        let row = || outputs.row(i).iter();
        let largest = row().fold(f64::NEG_INFINITY, |max, z| max.max(*z));
        let total: f64 = row().map(|z| (z - largest).exp()).sum();
        for (j, z) in row().enumerate() {
            probabilities[(i, j)] = (z - largest).exp() / total;
        }
    }
    probabilities
}

fn means(rows: &Mat<f64>) -> Vec<f64> {
    rows.col_iter()
        .map(|column| column.iter().sum::<f64>() / rows.nrows() as f64)
        .collect()
}

fn centred(rows: &Mat<f64>) -> Mat<f64> {
    let means = means(rows);
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] - means[j])
}

fn sum(mut parts: impl Iterator<Item = Mat<f64>>) -> Mat<f64> {
    let first = parts.next().unwrap_or_else(|| Mat::zeros(0, 0));
    parts.fold(first, |total, part| total + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(d_in: usize, d_out: usize, seed: f64) -> LayerWeights {
        let value = |i: usize| ((i as f64 + seed) * 1.7).sin();
        LayerWeights {
            d_in,
            d_out,
            weight: (0..d_in * d_out).map(value).collect(),
            bias: (0..d_out).map(|i| value(i + 100)).collect(),
        }
    }

    fn moments() -> Moments {
        let layers = [
            layer(5, 3, 0.1),
            layer(3, 3, 0.2),
            layer(3, 3, 0.3),
            layer(3, 4, 0.4),
        ];
        let inputs = Mat::from_fn(6, 5, |i, j| ((i * 5 + j) as f64 * 0.9).cos());
        Moments::of_middle_layers(&layers, &inputs)
    }

    #[test]
    fn the_error_of_the_factored_fisher_is_its_cumulants() {
        let moments = moments();
        let size = moments.layer_size();
        let mut expected = moments.fisher();
        for (i, j) in moments.pairs() {
            let factored = kronecker(
                &moments.activation_factor(i, j),
                &moments.gradient_factor(i, j),
            );
            let mut block = expected.submatrix_mut(i * size, j * size, size, size);
            block -= &factored;
        }
        let [fourth, second, third] = moments.cumulants();
        let found = fourth + second + third;
        // The error is a tenth of the Fisher; rounding is far below.
        assert!(expected.norm_l2() > 1e-3);
        assert!((found - &expected).norm_l2() < 1e-12 * expected.norm_l2());
    }

    #[test]
    fn gradients_have_mean_zero_under_the_networks_own_targets() {
        let moments = moments();
        for case in 0..moments.cases() {
            for layer in 0..moments.layers() {
                let mean: f64 = moments
                    .gradients
                    .iter()
                    .zip(&moments.weights)
                    .map(|(g, w)| w[case] * g[layer][(case, 0)])
                    .sum();
                assert!(mean.abs() < 1e-15);
            }
        }
    }
}
