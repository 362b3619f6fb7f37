//! Corrected eigenvalues in the Kronecker eigenbasis: EKFAC (George et al. 2018).

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::fisher_inverse::FisherInverse;
use crate::{
    blocks::{BlockInverse, EigenBasis, EigenInverse, columns, elements_of_case, sum_of_squares},
    capture::{CapturedPass, LayerUses},
    network::{Layer, Layers},
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
        let blocks = layers.iter().zip(self.inverse.blocks());
        for ((layer, block), (uses, sums)) in blocks.zip(pass.layers.iter().zip(&mut self.sums)) {
            let Some(inverse) = block.downcast::<EigenInverse>() else {
                continue;
            };
            if uses.is_empty() {
                continue;
            }
            let rotated = Rotated {
                layer,
                uses,
                bases: inverse.bases(),
                eigenvalues: self.eigenvalues,
            };
            let of_pass = rotated.sums();
            if sums.is_empty() {
                *sums = of_pass;
            } else {
                for (sum, more) in sums.iter_mut().zip(of_pass) {
                    *sum = sum.clone() + more;
                }
            }
        }
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

impl Rotated<'_> {
    /// What [`of_cases`] makes of the rotated gradients of all cases, one for each group.
    fn sums(&self) -> Vec<Tensor<2>> {
        let gradients = self.uses.output_gradients();
        let groups = self.bases.len();
        let rotated = self.bases.iter().enumerate().map(|(group, basis)| {
            let own = group_of(&gradients, groups, group);
            rotate(own, Some(&basis.gradient_basis))
        });
        let rotated: Vec<Tensor<3>> = rotated.collect();
        let mut sums: Vec<Option<Tensor<2>>> = vec![None; groups];
        let mut add = |group: usize, more: Tensor<2>| {
            sums[group] = Some(match sums[group].take() {
                None => more,
                Some(sum) => sum + more,
            });
        };
        for part in self.uses.parts_with(self.elements_of_case(&gradients)) {
            let activations = self.uses.activations(self.layer, &part);
            for (group, activations) in activations.into_iter().enumerate() {
                let a = rotate(activations, self.bases[group].activation_basis.as_ref());
                let g: Tensor<3> = rotated[group].clone().slice_dim(0, part.clone());
                add(group, of_cases(a, g, self.eigenvalues));
            }
        }
        sums.into_iter().flatten().collect()
    }

    /// The elements of each case's gradient, where [`of_cases`] forms it.
    fn elements_of_case(&self, gradients: &Tensor<3>) -> usize {
        match self.eigenvalues {
            Eigenvalues::BatchMean => 0,
            Eigenvalues::PerCase | Eigenvalues::Kronecker => {
                elements_of_case(self.layer, gradients)
            }
        }
    }
}

/// `[n, R, d_A], [n, R, d_G] -> [d_A, d_G]`: the sum over cases of the squared gradients, or of the
/// gradients themselves where the mean is to be squared.
fn of_cases(a: Tensor<3>, g: Tensor<3>, eigenvalues: Eigenvalues) -> Tensor<2> {
    let ([n, positions, d_a], [.., d_g]) = (a.dims(), g.dims());
    match eigenvalues {
        Eigenvalues::BatchMean => {
            let a = a.reshape([n * positions, d_a]);
            a.transpose().matmul(g.reshape([n * positions, d_g]))
        }
        Eigenvalues::PerCase | Eigenvalues::Kronecker => sum_of_squares(a, g),
    }
}

fn group_of(gradients: &Tensor<3>, groups: usize, group: usize) -> Tensor<3> {
    let [n, positions, d_out] = gradients.dims();
    let rows = gradients.clone().reshape([n * positions, d_out]);
    columns(&rows, groups, group).reshape([n, positions, d_out / groups])
}

/// Each row in the coordinates of a basis, its own where there is none.
fn rotate(rows: Tensor<3>, basis: Option<&Tensor<2>>) -> Tensor<3> {
    let Some(basis) = basis else { return rows };
    let [n, positions, d] = rows.dims();
    let rotated = rows.reshape([n * positions, d]).matmul(basis.clone());
    rotated.reshape([n, positions, basis.dims()[1]])
}
