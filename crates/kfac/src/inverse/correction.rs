//! Corrected eigenvalues in the Kronecker eigenbasis: EKFAC (George et al. 2018).

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::fisher_inverse::FisherInverse;
use crate::{
    blocks::{BlockInverse, EigenBasis, EigenInverse, squared_products, sum_of_squares},
    capture::{CapturedPass, LayerUses},
    linalg::cross_moment,
    network::{Layer, Layers},
    workers::map_at_once,
};

/// The eigenvalues of a block `Ā ⊗ G` in the eigenbasis `Q_A ⊗ Q_G` of its factors.
///
/// # Definition
///
/// ```text
/// Kronecker   S = d_A d_Gᵀ, the products of the factors' eigenvalues
/// PerCase     S = E[(Q_Aᵀ D Q_G) ⊙ (Q_Aᵀ D Q_G)]   over cases, D = Σ_r ā_r g_rᵀ summed over positions
/// BatchMean   S = N (Q_Aᵀ D̄ Q_G) ⊙ (Q_Aᵀ D̄ Q_G)    with the mean D̄ over the N cases of a batch
/// ```
///
/// In this basis `PerCase` is the diagonal of the Fisher block: of all diagonals the one nearest to it
/// in the Frobenius norm, and with its trace.
///
/// # References
///
/// George, Laurent, Bouthillier, Ballas and Vincent (2018), *Fast Approximate Natural Gradient Descent
/// in a Kronecker-factored Eigenbasis*, arXiv 1806.03884.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Eigenvalues {
    /// Products of the factors' eigenvalues.
    #[default]
    Kronecker,
    /// Second moments of each case's gradient.
    ///
    /// They are averaged over batches between the refreshes of the basis. Where weights are shared each case's gradient is formed: as costly as the gradients of
    /// all cases one by one.
    PerCase,
    /// Squares of the batch's mean gradient.
    ///
    /// They are averaged in the same way: cheaper and noisier. For sampled targets, whose gradients have
    /// mean zero.
    BatchMean,
}

/// Sums of squared gradients in the eigenbases of an inverse; of the gradients themselves where their
/// mean is to be squared.
#[derive(Clone, Debug)]
pub(crate) struct CorrectionSums {
    inverse: FisherInverse,
    eigenvalues: Eigenvalues,
    /// By layer and group; empty for blocks without an eigenbasis.
    sums: Vec<Vec<Tensor<2>>>,
}

impl CorrectionSums {
    /// No case yet; `None` where the eigenvalues are those of the product.
    pub(crate) fn new(inverse: &FisherInverse, eigenvalues: Eigenvalues) -> Option<Self> {
        (eigenvalues != Eigenvalues::Kronecker).then(|| Self {
            inverse: inverse.clone(),
            eigenvalues,
            sums: vec![Vec::new(); inverse.blocks().len()],
        })
    }

    /// Takes in a pass.
    pub(crate) fn accumulate(&mut self, layers: &Layers, pass: &CapturedPass) {
        let sums = std::mem::take(&mut self.sums);
        let blocks = layers.iter().zip(self.inverse.blocks());
        let work = blocks.zip(pass.layers.iter().zip(sums)).collect();
        self.sums = map_at_once(&pass.device(), work, |((layer, block), (uses, sums))| {
            let Some(inverse) = block.downcast::<EigenInverse>() else {
                return sums;
            };
            if uses.is_empty() {
                return sums;
            }
            let rotated = Rotated {
                layer,
                uses,
                bases: inverse.bases(),
                eigenvalues: self.eigenvalues,
            };
            let of_pass = rotated.sums();
            if sums.is_empty() {
                of_pass
            } else {
                added(sums, of_pass)
            }
        });
    }

    /// The inverse with its eigenvalues `old_weight · old + (1 − old_weight) · new` of a batch of so many
    /// cases, and `damping` added to them.
    pub(crate) fn corrected(self, cases: usize, old_weight: f64, damping: f64) -> FisherInverse {
        let eigenvalues = self.eigenvalues;
        let blocks = self.inverse.blocks().iter().zip(self.sums);
        let corrected = blocks.map(|(old, sums)| -> Arc<dyn BlockInverse> {
            let Some(inverse) = old.downcast::<EigenInverse>().filter(|_| !sums.is_empty()) else {
                return old.clone();
            };
            let squares = sums.into_iter().map(|sum| match eigenvalues {
                Eigenvalues::BatchMean => sum.clone() * sum,
                Eigenvalues::PerCase | Eigenvalues::Kronecker => sum,
            });
            let new = squares.map(|sum| sum / cases as f64);
            Arc::new(inverse.corrected(new.collect(), old_weight, damping))
        });
        self.inverse.with_blocks(corrected.collect())
    }
}

/// The gradients of a layer's cases in the eigenbases of its inverse.
struct Rotated<'a> {
    layer: &'a Layer,
    uses: &'a LayerUses,
    bases: &'a [EigenBasis],
    eigenvalues: Eigenvalues,
}

/// What is turned into the eigenbases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turned {
    /// The one position of each case: squares of products are products of squares.
    OnlyPosition,
    /// Inputs and output gradients at each position.
    Positions,
    /// The gradient of each case.
    Gradients,
    /// The sum of all gradients.
    Sum,
}

impl Rotated<'_> {
    /// The sum over cases of the squared gradients for each group, or of the gradients themselves where
    /// their mean is to be squared, `[d_A, d_G]`.
    fn sums(&self) -> Vec<Tensor<2>> {
        let turned = self.cheapest();
        let elements = match turned {
            Turned::OnlyPosition | Turned::Sum => 0,
            Turned::Positions | Turned::Gradients => self.layer.dimension(),
        };
        let parts = self.uses.parts_with(elements).into_iter();
        let of_part = |cases: Range<usize>| match turned {
            Turned::Gradients => self.of_gradients(&cases),
            Turned::OnlyPosition | Turned::Positions | Turned::Sum => {
                self.of_positions(turned, &cases)
            }
        };
        let sums = parts.map(of_part).reduce(added).unwrap_or_default();
        match turned {
            Turned::Sum => self.turned_sums(sums),
            Turned::OnlyPosition | Turned::Positions | Turned::Gradients => sums,
        }
    }

    /// What takes the fewest multiplications.
    fn cheapest(&self) -> Turned {
        if self.eigenvalues == Eigenvalues::BatchMean {
            return Turned::Sum;
        }
        let positions = self.uses.rows_of_case();
        if positions == 1 {
            return Turned::OnlyPosition;
        }
        let g = self.layer.gradient_dimension();
        let dense = self
            .bases
            .iter()
            .all(|basis| basis.activation_basis.is_some());
        // A basis that is diagonal already costs nothing.
        let (a, a_turned) = match self.layer.activation_dimension() {
            a if dense => (a, a),
            a => (a, 0),
        };
        if a * g * (a_turned + g) < positions * (a * a_turned + g * g) {
            Turned::Gradients
        } else {
            Turned::Positions
        }
    }

    fn of_gradients(&self, cases: &Range<usize>) -> Vec<Tensor<2>> {
        let gradients = self.uses.parameter_gradients(self.layer, cases);
        let of_group = |(gradients, basis): (Tensor<3>, &EigenBasis)| {
            let rows = rotate(gradients, basis.activation_basis.as_ref());
            let basis = basis.gradient_basis.clone().transpose().unsqueeze_dim(0);
            sum_of_squares(basis.matmul(rows)).transpose()
        };
        gradients
            .into_iter()
            .zip(self.bases)
            .map(of_group)
            .collect()
    }

    fn of_positions(&self, turned: Turned, cases: &Range<usize>) -> Vec<Tensor<2>> {
        let gradients: Tensor<3> = self.uses.output_gradients().slice_dim(0, cases.clone());
        let width = self.layer.gradient_dimension();
        let activations = self.uses.activations(self.layer, cases).into_iter();
        let of_group = |((group, a), basis): ((usize, Tensor<3>), &EigenBasis)| {
            let own = group * width..(group + 1) * width;
            let g = gradients.clone().slice_dim(2, own);
            if turned == Turned::Sum {
                return cross_moment(rows(a), rows(g));
            }
            let a = rotate(a, basis.activation_basis.as_ref());
            let g = rotate(g, Some(&basis.gradient_basis));
            if turned == Turned::OnlyPosition {
                squared_products(rows(a), rows(g))
            } else {
                sum_of_squares(a.swap_dims(1, 2).matmul(g))
            }
        };
        activations
            .enumerate()
            .zip(self.bases)
            .map(of_group)
            .collect()
    }

    fn turned_sums(&self, sums: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        let of_group = |(sum, basis): (Tensor<2>, &EigenBasis)| {
            let sum = match &basis.activation_basis {
                Some(basis) => basis.clone().transpose().matmul(sum),
                None => sum,
            };
            sum.matmul(basis.gradient_basis.clone())
        };
        sums.into_iter().zip(self.bases).map(of_group).collect()
    }
}

fn added(sums: Vec<Tensor<2>>, more: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    sums.into_iter().zip(more).map(|(a, b)| a + b).collect()
}

/// All positions of all cases, `[n · R, d]`.
fn rows(of_cases: Tensor<3>) -> Tensor<2> {
    let [n, positions, d] = of_cases.dims();
    of_cases.reshape([n * positions, d])
}

/// Each row in the coordinates of a basis, its own where there is none.
fn rotate(of_cases: Tensor<3>, basis: Option<&Tensor<2>>) -> Tensor<3> {
    let Some(basis) = basis else { return of_cases };
    let [n, positions, _] = of_cases.dims();
    let rotated = rows(of_cases).matmul(basis.clone());
    rotated.reshape([n, positions, basis.dims()[1]])
}
