//! The quadratic model of the objective, and its minimum along few directions (6.4, 7).

use burn::tensor::Tensor;
use faer::Mat;

use super::{config::DirectionalDerivatives, derivatives::directional_derivatives};
use crate::{
    capture::Network,
    error::StepError,
    linalg::{host, pseudo_inverse_solve},
    loss::{Likelihood, Loss},
    network::{Batch, Cases, Layers, Outputs, ParameterVector, Parts},
};

/// The coefficients of a step `δ = α Δ + μ δ₀`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepScale {
    /// `α`, of the proposal `Δ`.
    pub(super) alpha: f64,
    /// `μ`, of the last step `δ₀`; `None` where there is none or momentum is off.
    pub(super) mu: Option<f64>,
}

/// The quadratic model restricted to the span of a proposal and, with momentum, the last step.
///
/// # Definition
///
/// ```text
/// M(δ) − M(0) = ½ δᵀ (F + (λ + η) I) δ + ∇hᵀ δ
/// ```
///
/// with the exact Fisher matrix `F` of the batch, and `δ = Σ c_i v_i`.
///
/// # References
///
/// Martens and Grosse (2015), sections 6.4 and 7, arXiv 1503.05671.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuadraticModel {
    /// `v_iᵀ (F + (λ + η) I) v_j`: one entry for the proposal alone, 2 × 2 with momentum.
    pub(super) curvature: Mat<f64>,
    /// `∇hᵀ v_i`.
    pub(super) slopes: Vec<f64>,
}

impl QuadraticModel {
    /// The minimum: the coefficients, and the change `M(δ) − M(0) = ½ ∇hᵀ δ` there.
    ///
    /// By the pseudo-inverse, so that nearly parallel directions share a coefficient. `None` where
    /// the model is not finite.
    pub(super) fn minimum(&self) -> Option<(StepScale, f64)> {
        let descent: Vec<f64> = self.slopes.iter().map(|slope| -slope).collect();
        let coefficients = pseudo_inverse_solve(&self.curvature, &descent)?;
        let change: f64 = coefficients
            .iter()
            .zip(&self.slopes)
            .map(|(c, s)| 0.5 * c * s)
            .sum();
        let scale = StepScale {
            alpha: *coefficients.first()?,
            mu: coefficients.get(1).copied(),
        };
        change.is_finite().then_some((scale, change))
    }
}

/// The inner products that the models of several proposals share.
pub(super) struct Subspace {
    /// `v_iᵀ F v_j` on the batch.
    fisher: Mat<f64>,
    /// `v_iᵀ v_j`.
    gram: Mat<f64>,
    /// `∇hᵀ v_i`.
    slopes: Vec<f64>,
}

impl Subspace {
    /// All inner products of some directions; see [`Metric::gram`] for the costly ones.
    pub(super) fn new(
        directions: &[ParameterVector],
        gradient: &ParameterVector,
        fisher: Mat<f64>,
    ) -> Self {
        let gram = symmetric(directions.len(), |i, j| directions[i].dot(&directions[j]));
        let slopes = directions.iter().map(|v| gradient.dot(v)).collect();
        Self {
            fisher,
            gram,
            slopes,
        }
    }

    /// The model along some of the directions, with `damping = λ + η`.
    pub(super) fn model(&self, directions: &[usize], damping: f64) -> QuadraticModel {
        let n = directions.len();
        let entry = |i: usize, j: usize| {
            let at = (directions[i], directions[j]);
            self.fisher[at] + damping * self.gram[at]
        };
        QuadraticModel {
            curvature: Mat::from_fn(n, n, entry),
            slopes: directions.iter().map(|&i| self.slopes[i]).collect(),
        }
    }
}

/// The exact Fisher matrix of a network, as a metric of directions.
pub(super) struct Metric<'a, M: Network, L, T> {
    pub(super) model: &'a M,
    pub(super) layers: &'a Layers,
    pub(super) loss: &'a L,
    /// The loss of the targets, which weighs the cases.
    pub(super) given: Option<&'a dyn Loss<M::Output, T>>,
    pub(super) derivatives: DirectionalDerivatives,
    /// At most so many cases are evaluated at once.
    pub(super) chunk_size: usize,
}

impl<M: Network, L: Likelihood<M::Output>, T: Cases> Metric<'_, M, L, T> {
    /// `v_iᵀ F v_j` for the Fisher matrix of a batch: the mean over its cases of
    /// `w (Bᵀ J v_i) · (Bᵀ J v_j)` with the weight `w` of each, accumulated in `f64` (appendix C).
    pub(super) fn gram(
        &self,
        batch: &Batch<M::Input, T>,
        directions: &[ParameterVector],
    ) -> Result<Gram, StepError> {
        let mut gram = Gram::zero(directions.len());
        let model = self.model.valid();
        let Some(device) = directions.first().map(ParameterVector::device) else {
            return Ok(gram);
        };
        let parts = Parts::new(batch.len(), self.chunk_size, &device);
        let (layers, loss, given) = (self.layers, self.loss, self.given);
        let method = self.derivatives;
        let grams = parts.map(
            batch,
            || model.clone(),
            |model, part| {
                let jvp =
                    directional_derivatives(&model, layers, &part.inputs, directions, method)?;
                let outputs = jvp.outputs;
                let factor = |jv: M::Output| {
                    let rooted = loss.factor_transpose_product(outputs.clone(), jv);
                    let weighted = match given {
                        Some(loss) => loss.root_weighted(rooted, &part.targets),
                        None => rooted,
                    };
                    weighted.into_rows()
                };
                let rooted: Vec<_> = jvp.derivatives.into_iter().map(factor).collect();
                Ok(Gram::of(&rooted, part.inputs.len()))
            },
        );
        for part in grams {
            gram.add(&part?);
        }
        Ok(gram.mean(batch.len()))
    }
}

/// `v_iᵀ F v_j` of some cases, and how much those with `i = j` differ between the cases.
pub(super) struct Gram {
    pub(super) products: Mat<f64>,
    /// The sums or, after [`mean`](Gram::mean), the means over cases of the squares of `v_iᵀ F v_i`.
    squares: Vec<f64>,
}

impl Gram {
    fn zero(directions: usize) -> Self {
        Self {
            products: Mat::zeros(directions, directions),
            squares: vec![0.0; directions],
        }
    }

    /// Of the sums over cases of rows `Bᵀ J v_i`, so many a case.
    fn of(rows: &[Tensor<2>], cases: usize) -> Self {
        let product = |i: usize, j: usize| rows[i].clone() * rows[j].clone();
        let norms: Vec<Vec<f64>> = (0..rows.len())
            .map(|i| host::to_vec(&product(i, i).sum_dim(1)))
            .collect();
        let entry = |i: usize, j: usize| {
            if i == j {
                norms[i].iter().sum()
            } else {
                host::sum(product(i, j))
            }
        };
        let squares = norms.iter().map(|norms| squares_by_case(norms, cases));
        Self {
            products: symmetric(rows.len(), entry),
            squares: squares.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.products += &other.products;
        for (sum, square) in self.squares.iter_mut().zip(&other.squares) {
            *sum += square;
        }
    }

    /// The mean over so many cases.
    fn mean(self, cases: usize) -> Self {
        let scale = 1.0 / cases as f64;
        Self {
            products: self.products * faer::Scale(scale),
            squares: self.squares.iter().map(|square| square * scale).collect(),
        }
    }

    /// The largest over the directions: the variance of `vᵀ F v` between cases in its squared mean.
    pub(super) fn spread(&self) -> f64 {
        let squares = self.squares.iter().enumerate();
        let spreads = squares.map(|(i, square)| square / self.products[(i, i)].powi(2) - 1.0);
        spreads.fold(0.0, f64::max)
    }
}

/// The sum over cases of the square of what their rows have as squared norms together.
fn squares_by_case(norms: &[f64], cases: usize) -> f64 {
    let of_case = norms.len() / cases.max(1);
    let of_cases = norms.chunks(of_case.max(1));
    of_cases
        .map(|norms| norms.iter().sum::<f64>().powi(2))
        .sum()
}

fn symmetric(n: usize, entry: impl Fn(usize, usize) -> f64) -> Mat<f64> {
    let mut matrix = Mat::zeros(n, n);
    for i in 0..n {
        for j in 0..=i {
            let value = entry(i, j);
            matrix[(i, j)] = value;
            matrix[(j, i)] = value;
        }
    }
    matrix
}
