//! The factors of a layer on the host, and their damped factorisations.

use burn::tensor::{DType, Device, Tensor};
use faer::Mat;

use super::{
    repair::FactorAction,
    tikhonov::{DampingScheme, PiNorm, factored_pi},
};
use crate::{
    curvature::{BlockInverse, EigenInverse, KroneckerInverse},
    linalg::{
        self, DampedCholesky, Eigendecomposition,
        host::{self, Scalar},
    },
    statistics::{FactorKind, KroneckerFactors},
};

/// The factors of one layer on the host.
#[derive(Debug)]
pub(super) struct HostFactors<E> {
    pub(super) form: HostForm<E>,
    pub(super) pi: f64,
    pub(super) place: Place,
}

/// What is kept of the two factors: what does not depend on γ.
#[derive(Debug)]
pub(super) enum HostForm<E> {
    /// `Ā` and `G`.
    Matrices([Mat<E>; 2]),
    /// Their eigendecompositions.
    Eigen([Option<Eigendecomposition<E>>; 2]),
}

/// Where results go back to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    pub(super) fn of(tensor: &Tensor<2>) -> Self {
        Self {
            device: tensor.device(),
            dtype: tensor.dtype(),
        }
    }

    pub(super) fn tensor<E: Scalar>(&self, matrix: &Mat<E>) -> Tensor<2> {
        host::to_device(matrix, &self.device, self.dtype)
    }

    /// The transpose of a matrix, in the order in which the host has it: the cheaper form where the
    /// matrix is symmetric, or only products read it.
    pub(super) fn transposed<E: Scalar>(&self, matrix: &Mat<E>) -> Tensor<2> {
        host::transposed_to_device(matrix, &self.device, self.dtype)
    }
}

/// Both damped factors of a layer, factorised.
#[derive(Debug)]
pub(super) struct CholeskyPair<E> {
    pub(super) activation: DampedCholesky<E>,
    pub(super) gradient: DampedCholesky<E>,
    /// Of either factor, see [`correlation_bound`].
    pub(super) correlation_bounds: [f64; 2],
    /// Both inverses on the device.
    pub(super) inverse: KroneckerInverse,
}

/// Something of a layer, and the repairs that it took.
pub(super) type Repaired<T> = (Option<T>, Vec<(FactorKind, FactorAction)>);

const KINDS: [FactorKind; 2] = [FactorKind::Activation, FactorKind::Gradient];

impl<E: Scalar> HostFactors<E> {
    /// Copies the factors, and decomposes them where `eigen` asks for it.
    pub(super) fn new(factors: &KroneckerFactors, damping: DampingScheme, eigen: bool) -> Self {
        let tensors = [&factors.activation, &factors.gradient];
        let matrices = tensors.map(host::symmetric_to_host::<E>);
        let pi = match damping {
            DampingScheme::FactoredTikhonov { pi } => balance(pi, &matrices),
            DampingScheme::ExactTikhonov => 1.0,
        };
        let form = if eigen {
            HostForm::Eigen(matrices.map(|matrix| linalg::symmetric_eigen(&matrix)))
        } else {
            HostForm::Matrices(matrices)
        };
        Self {
            form,
            pi,
            place: Place::of(&factors.activation),
        }
    }

    /// Factorises `Ā + πγI` and `G + γ/π I`.
    pub(super) fn cholesky(
        &self,
        [activation, gradient]: &[Mat<E>; 2],
        gamma: f64,
    ) -> Repaired<CholeskyPair<E>> {
        let mut repairs = Vec::new();
        let mut factorise =
            |kind, matrix: &Mat<E>, damping| match linalg::factorise(matrix, damping) {
                Ok((cholesky, attempt)) => {
                    let repair = FactorAction::of(attempt, damping);
                    repairs.extend(repair.map(|action| (kind, action)));
                    Some((cholesky, correlation_bound(matrix, attempt.damping)))
                }
                Err(error) => {
                    repairs.push((kind, FactorAction::given_up(error)));
                    None
                }
            };
        let activation = factorise(FactorKind::Activation, activation, self.pi * gamma);
        let gradient = factorise(FactorKind::Gradient, gradient, gamma / self.pi);
        let pair = activation
            .zip(gradient)
            .map(|((activation, a), (gradient, g))| {
                let inverse = KroneckerInverse {
                    activation: self.place.transposed(&activation.inverse),
                    gradient: self.place.transposed(&gradient.inverse),
                };
                CholeskyPair {
                    activation,
                    gradient,
                    correlation_bounds: [a, g],
                    inverse,
                }
            });
        (pair, repairs)
    }

    /// The damped inverse in the eigenbases of the factors.
    pub(super) fn eigen(
        &self,
        eigen: &[Option<Eigendecomposition<E>>; 2],
        (damping, gamma): (DampingScheme, f64),
    ) -> Repaired<BlockInverse> {
        let [Some(activation), Some(gradient)] = eigen else {
            let failed = KINDS
                .into_iter()
                .zip(eigen)
                .filter(|(_, eigen)| eigen.is_none());
            let action = FactorAction::KeptLastInverse { pivot: None };
            return (None, failed.map(|(kind, _)| (kind, action)).collect());
        };
        let (eigenvalues, reciprocals) =
            damping.spectra((&activation.values, &gradient.values), (gamma, self.pi));
        let block = BlockInverse::Eigen(EigenInverse {
            activation_basis: Some(self.place.transposed(&activation.vectors).transpose()),
            gradient_basis: self.place.transposed(&gradient.vectors).transpose(),
            eigenvalues: self.place.tensor::<E>(&eigenvalues),
            reciprocals: self.place.tensor::<E>(&reciprocals),
        });
        (Some(block), Vec::new())
    }
}

/// What damping leaves of squared canonical correlations: with the largest eigenvalue `m` of a factor,
/// at most its trace, none is above `m / (m + damping)` times the same number of the other factor.
///
/// For `xᵀ X y ≤ √(xᵀ M x · yᵀ M′ y)`, and `xᵀ M x ≤ m / (m + damping) · xᵀ (M + damping I) x`.
fn correlation_bound<E: Scalar>(matrix: &Mat<E>, damping: f64) -> f64 {
    let largest = trace(matrix);
    if largest > 0.0 {
        largest / (largest + damping)
    } else {
        0.0
    }
}

/// `π`, the balance of the damping between the two factors.
fn balance<E: Scalar>(norm: PiNorm, factors: &[Mat<E>; 2]) -> f64 {
    let [activation, gradient] = factors.each_ref().map(|m| mean_size(norm, m));
    factored_pi(activation, gradient)
}

/// [`balance`] of a diagonal factor and a dense one.
pub(super) fn balance_of<E: Scalar>(norm: PiNorm, (a, g): (&[f64], &Mat<E>)) -> f64 {
    let tokens = a.len() as f64;
    let activation = match norm {
        PiNorm::One => return 1.0,
        PiNorm::Trace => a.iter().sum::<f64>() / tokens,
        PiNorm::Frobenius => (a.iter().map(|a| a * a).sum::<f64>() / tokens).sqrt(),
    };
    factored_pi(activation, mean_size(norm, g))
}

/// The size of a factor that [`factored_pi`] balances.
fn mean_size<E: Scalar>(norm: PiNorm, matrix: &Mat<E>) -> f64 {
    match norm {
        PiNorm::One => 1.0,
        PiNorm::Trace => trace(matrix) / matrix.nrows() as f64,
        PiNorm::Frobenius => frobenius(matrix) / (matrix.nrows() as f64).sqrt(),
    }
}

fn trace<E: Scalar>(matrix: &Mat<E>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)].to_f64()).sum()
}

fn frobenius<E: Scalar>(matrix: &Mat<E>) -> f64 {
    let dimension = matrix.nrows();
    let squares = (0..dimension).flat_map(|i| (0..dimension).map(move |j| (i, j)));
    let total: f64 = squares.map(|at| matrix[at].to_f64().powi(2)).sum();
    total.sqrt()
}
