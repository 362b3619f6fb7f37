//! One layer's block on the host, whatever its structure, and its damped inverse.

use burn::tensor::Tensor;
use faer::Mat;

use super::{
    host_factors::{CholeskyPair, HostFactors, HostForm, Place, Repaired, balance_of},
    inverse::InverseKind,
    repair::FactorAction,
    tikhonov::DampingScheme,
};
use crate::{
    curvature::{BlockInverse, EigenInverse},
    linalg::{
        self, Eigendecomposition,
        host::{self, Scalar},
    },
    statistics::{FactorKind, LayerFactors},
};

/// One layer's block, with what does not depend on γ.
#[derive(Debug)]
pub(super) enum HostLayer<E> {
    Kronecker(HostFactors<E>),
    Groups(Vec<HostFactors<E>>),
    Embedding(HostEmbedding<E>),
    Diagonal(Tensor<2>),
    Full(Mat<E>, Place),
}

/// `diag(Ā) ⊗ G`.
#[derive(Debug)]
pub(super) struct HostEmbedding<E> {
    counts: Vec<f64>,
    gradient: GradientForm<E>,
    pi: f64,
    place: Place,
}

#[derive(Debug)]
enum GradientForm<E> {
    Matrix(Mat<E>),
    Eigen(Option<Eigendecomposition<E>>),
}

/// A layer's damped inverse on its own.
pub(super) struct LayerInverse<E> {
    pub(super) form: Form<E>,
    pub(super) repairs: Vec<(FactorKind, FactorAction)>,
}

pub(super) enum Form<E> {
    Cholesky(Box<CholeskyPair<E>>),
    Block(Box<BlockInverse>),
    /// It could not be computed.
    None,
}

impl<E> LayerInverse<E> {
    fn of<T>((found, repairs): Repaired<T>, form: impl Fn(T) -> Form<E>) -> Self {
        let form = found.map_or(Form::None, form);
        Self { form, repairs }
    }

    fn block(found: Repaired<BlockInverse>) -> Self {
        Self::of(found, |block| Form::Block(Box::new(block)))
    }
}

impl<E: Scalar> HostLayer<E> {
    /// Copies the block to the host, and decomposes its factors where `eigen` asks for it.
    pub(super) fn new(factors: &LayerFactors, damping: DampingScheme, eigen: bool) -> Self {
        match factors {
            LayerFactors::Kronecker(factors) => {
                Self::Kronecker(HostFactors::new(factors, damping, eigen))
            }
            LayerFactors::Groups(groups) => {
                let group = |factors| HostFactors::new(factors, damping, eigen);
                Self::Groups(groups.iter().map(group).collect())
            }
            LayerFactors::Embedding {
                activation,
                gradient,
            } => Self::Embedding(HostEmbedding::new((activation, gradient), damping, eigen)),
            LayerFactors::Diagonal(diagonal) => Self::Diagonal(diagonal.clone()),
            LayerFactors::Full(block) => {
                Self::Full(host::symmetric_to_host(block), Place::of(block))
            }
        }
    }

    /// The balance of the damping between the factors: its geometric mean over groups, and one where
    /// there are no two factors.
    pub(super) fn pi(&self) -> f64 {
        match self {
            Self::Kronecker(factors) => factors.pi,
            Self::Groups(groups) => {
                let sum: f64 = groups.iter().map(|group| group.pi.ln()).sum();
                (sum / groups.len() as f64).exp()
            }
            Self::Embedding(embedding) => embedding.pi,
            Self::Diagonal(_) | Self::Full(..) => 1.0,
        }
    }

    /// Where results go to, of a layer with a single Kronecker product.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Kronecker(factors) => Some(&factors.place),
            _ => None,
        }
    }

    /// The inverse damped by γ.
    pub(super) fn inverse(&self, kind: InverseKind, gamma: f64) -> LayerInverse<E> {
        match self {
            Self::Kronecker(factors) => factors_inverse(factors, kind, gamma),
            Self::Groups(groups) => groups_inverse(groups, kind, gamma),
            Self::Embedding(embedding) => LayerInverse::block(embedding.inverse(kind, gamma)),
            Self::Diagonal(diagonal) => {
                let reciprocals = (diagonal.clone() + gamma * gamma).recip();
                LayerInverse::block((Some(BlockInverse::Diagonal(reciprocals)), Vec::new()))
            }
            Self::Full(block, place) => {
                let damping = gamma * gamma;
                let (found, repairs) = factorised(block, (FactorKind::Block, damping));
                let block = |inverse: Mat<E>| BlockInverse::Full(place.transposed(&inverse));
                LayerInverse::block((found.map(block), repairs))
            }
        }
    }
}

fn factors_inverse<E: Scalar>(
    factors: &HostFactors<E>,
    kind: InverseKind,
    gamma: f64,
) -> LayerInverse<E> {
    match &factors.form {
        HostForm::Matrices(matrices) => {
            LayerInverse::of(factors.cholesky(matrices, gamma), |pair| {
                Form::Cholesky(Box::new(pair))
            })
        }
        HostForm::Eigen(eigen) => LayerInverse::block(factors.eigen(eigen, (kind.damping, gamma))),
    }
}

/// All groups or none: where one fails, the layer's last good inverse stays in use.
fn groups_inverse<E: Scalar>(
    groups: &[HostFactors<E>],
    kind: InverseKind,
    gamma: f64,
) -> LayerInverse<E> {
    let mut blocks = Vec::with_capacity(groups.len());
    let mut repairs = Vec::new();
    for group in groups {
        let inverse = factors_inverse(group, kind, gamma);
        repairs.extend(inverse.repairs);
        match inverse.form {
            Form::Cholesky(pair) => blocks.push(BlockInverse::Factored(pair.inverse)),
            Form::Block(block) => blocks.push(*block),
            Form::None => {}
        }
    }
    let all = (blocks.len() == groups.len()).then(|| BlockInverse::Groups(blocks));
    LayerInverse::block((all, repairs))
}

/// The inverse of a matrix with some damping on its diagonal.
fn factorised<E: Scalar>(matrix: &Mat<E>, (kind, damping): (FactorKind, f64)) -> Repaired<Mat<E>> {
    match linalg::factorise(matrix, damping) {
        Ok((cholesky, attempt)) => {
            let repair = FactorAction::of(attempt, damping);
            let repairs = repair.map(|action| (kind, action)).into_iter().collect();
            (Some(cholesky.inverse), repairs)
        }
        Err(error) => (None, vec![(kind, FactorAction::given_up(error))]),
    }
}

impl<E: Scalar> HostEmbedding<E> {
    fn new(
        (activation, gradient): (&Tensor<2>, &Tensor<2>),
        damping: DampingScheme,
        eigen: bool,
    ) -> Self {
        let counts: Vec<f64> = host::to_vec(activation);
        let matrix = host::symmetric_to_host::<E>(gradient);
        let pi = match damping {
            DampingScheme::FactoredTikhonov { pi } => balance_of(pi, (&counts, &matrix)),
            DampingScheme::ExactTikhonov => 1.0,
        };
        let gradient_form = if eigen {
            GradientForm::Eigen(linalg::symmetric_eigen(&matrix))
        } else {
            GradientForm::Matrix(matrix)
        };
        Self {
            counts,
            gradient: gradient_form,
            pi,
            place: Place::of(gradient),
        }
    }

    fn inverse(&self, kind: InverseKind, gamma: f64) -> Repaired<BlockInverse> {
        let (own, of_gradient) = (self.pi * gamma, gamma / self.pi);
        match &self.gradient {
            GradientForm::Matrix(matrix) => {
                let (found, repairs) = factorised(matrix, (FactorKind::Gradient, of_gradient));
                let column = Mat::from_fn(self.counts.len(), 1, |token, _| {
                    E::from_f64(1.0 / (self.counts[token] + own))
                });
                let block = |inverse: Mat<E>| BlockInverse::Embedding {
                    activation: self.place.tensor(&column),
                    gradient: self.place.transposed(&inverse),
                };
                (found.map(block), repairs)
            }
            GradientForm::Eigen(Some(eigen)) => {
                let (eigenvalues, reciprocals) = kind
                    .damping
                    .spectra((&self.counts, &eigen.values), (gamma, self.pi));
                let block = BlockInverse::Eigen(EigenInverse {
                    activation_basis: None,
                    gradient_basis: self.place.transposed(&eigen.vectors).transpose(),
                    eigenvalues: self.place.tensor::<E>(&eigenvalues),
                    reciprocals: self.place.tensor::<E>(&reciprocals),
                });
                (Some(block), Vec::new())
            }
            GradientForm::Eigen(None) => {
                let action = FactorAction::KeptLastInverse { pivot: None };
                (None, vec![(FactorKind::Gradient, action)])
            }
        }
    }
}
