//! From running factors to a damped inverse (sections 4.2 and 6.3).

use burn::tensor::{DType, Device, Tensor};
use faer::Mat;
use serde::{Deserialize, Serialize};

use super::tikhonov::{DampingScheme, PiNorm, factored_pi};
use crate::{
    capture::Layers,
    curvature::{BlockDiagonalInverse, BlockInverse},
    linalg::{
        self, Eigendecomposition,
        host::{self, Scalar},
    },
    statistics::{FactorKind, KroneckerFactors},
};

/// How the damped blocks are inverted; all methods give the same product up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InverseMethod {
    /// The cheaper: Cholesky for factored damping, eigendecomposition for exact damping.
    #[default]
    Automatic,
    /// A Cholesky factorisation of both damped factors for each γ: d³ flops, and products with two
    /// matrices. Not for exact damping.
    Cholesky,
    /// An eigendecomposition of both undamped factors, shared by all γ: about 9 d³ flops, and
    /// products with four matrices.
    Eigen,
}

/// A factor that could not be factorised as asked, and what was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorRepair {
    /// Path of the layer.
    pub layer: String,
    /// Which factor.
    pub factor: FactorKind,
    /// What was done.
    pub action: FactorAction,
}

/// What was done about a factor that could not be factorised as asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorAction {
    /// Its own precision failed; double precision succeeded.
    DoublePrecision {
        /// The smallest pivot of the factorisation that succeeded.
        smallest_pivot: f64,
    },
    /// Double precision failed too; more damping succeeded.
    MoreDamping {
        /// The damping asked for.
        asked: f64,
        /// The damping used.
        used: f64,
        /// The smallest pivot of the factorisation that succeeded.
        smallest_pivot: f64,
    },
    /// Nothing succeeded: the layer's last good inverse stays in use (its gradient is not
    /// preconditioned where there is none yet).
    KeptLastInverse {
        /// Row of the first pivot that is not positive, where Cholesky tells.
        pivot: Option<usize>,
    },
}

/// A damped inverse and how it came about.
#[derive(Clone, Debug)]
pub(crate) struct DampedInverse {
    pub(crate) inverse: BlockDiagonalInverse,
    /// `π` of each layer; one for exact damping.
    pub(crate) pi: Vec<f64>,
    pub(crate) repairs: Vec<FactorRepair>,
}

/// The factors of all layers on the host, ready to be inverted for several γ.
#[derive(Debug)]
pub(crate) struct PreparedFactors<'a> {
    layers: &'a Layers,
    damping: DampingScheme,
    previous: Option<&'a BlockDiagonalInverse>,
    blocks: Vec<PreparedBlock>,
}

impl<'a> PreparedFactors<'a> {
    /// Copies the factors to the host and, for the eigen path, decomposes them.
    pub(crate) fn new(
        layers: &'a Layers,
        factors: &[KroneckerFactors],
        (damping, method): (DampingScheme, InverseMethod),
        previous: Option<&'a BlockDiagonalInverse>,
    ) -> Self {
        let eigen = match (method, damping) {
            (InverseMethod::Eigen, _) | (_, DampingScheme::ExactTikhonov) => true,
            (_, DampingScheme::FactoredTikhonov { .. }) => false,
        };
        let prepare = |factors| PreparedBlock::new(factors, damping, eigen);
        Self {
            layers,
            damping,
            previous,
            blocks: factors.iter().map(prepare).collect(),
        }
    }

    /// The damped inverse for one γ.
    pub(crate) fn inverse(&self, gamma: f64) -> DampedInverse {
        let mut repairs = Vec::new();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let inverted = match &block.factors {
                HostFactors::Single(factors) => factors.invert(block, self.damping, gamma),
                HostFactors::Double(factors) => factors.invert(block, self.damping, gamma),
            };
            let layer = self.layers.path(index);
            let repair = |(factor, action)| FactorRepair {
                layer: layer.to_owned(),
                factor,
                action,
            };
            repairs.extend(inverted.repairs.into_iter().map(repair));
            blocks.push(inverted.block.unwrap_or_else(|| self.last_good(index)));
        }
        let pi = self.blocks.iter().map(|block| block.pi).collect();
        DampedInverse {
            inverse: BlockDiagonalInverse::new(blocks),
            pi,
            repairs,
        }
    }

    fn last_good(&self, index: usize) -> BlockInverse {
        if let Some(previous) = self.previous {
            return previous.blocks()[index].clone();
        }
        let PreparedBlock {
            activation,
            gradient,
            device,
            dtype,
            ..
        } = &self.blocks[index];
        let identity = |d: usize| Tensor::<2>::eye(d, device).cast(*dtype);
        BlockInverse::Factored {
            activation: identity(*activation),
            gradient: identity(*gradient),
        }
    }
}

#[derive(Debug)]
struct PreparedBlock {
    factors: HostFactors,
    activation: usize,
    gradient: usize,
    pi: f64,
    device: Device,
    dtype: DType,
}

#[derive(Debug)]
enum HostFactors {
    Single(FactorPair<f32>),
    Double(FactorPair<f64>),
}

#[derive(Debug)]
struct FactorPair<E> {
    activation: HostFactor<E>,
    gradient: HostFactor<E>,
}

#[derive(Debug)]
enum HostFactor<E> {
    Matrix(Mat<E>),
    Eigen(Option<Eigendecomposition<E>>),
}

struct Inverted {
    block: Option<BlockInverse>,
    repairs: Vec<(FactorKind, FactorAction)>,
}

impl PreparedBlock {
    fn new(factors: &KroneckerFactors, damping: DampingScheme, eigen: bool) -> Self {
        let norm = match damping {
            DampingScheme::FactoredTikhonov { pi } => pi,
            DampingScheme::ExactTikhonov => PiNorm::One,
        };
        let dtype = factors.activation.dtype();
        let (factors_on_host, pi) = if dtype == DType::F64 {
            let (pair, pi) = FactorPair::<f64>::new(factors, norm, eigen);
            (HostFactors::Double(pair), pi)
        } else {
            let (pair, pi) = FactorPair::<f32>::new(factors, norm, eigen);
            (HostFactors::Single(pair), pi)
        };
        Self {
            factors: factors_on_host,
            activation: factors.activation.dims()[0],
            gradient: factors.gradient.dims()[0],
            pi,
            device: factors.activation.device(),
            dtype,
        }
    }
}

impl<E: Scalar> FactorPair<E> {
    fn new(factors: &KroneckerFactors, norm: PiNorm, eigen: bool) -> (Self, f64) {
        let activation = symmetric::<E>(&factors.activation);
        let gradient = symmetric::<E>(&factors.gradient);
        let pi = match norm {
            PiNorm::One => 1.0,
            PiNorm::Trace => factored_pi(mean_trace(&activation), mean_trace(&gradient)),
            PiNorm::Frobenius => {
                factored_pi(mean_frobenius(&activation), mean_frobenius(&gradient))
            }
        };
        let prepare = |matrix: Mat<E>| {
            if eigen {
                HostFactor::Eigen(linalg::symmetric_eigen(&matrix))
            } else {
                HostFactor::Matrix(matrix)
            }
        };
        (
            Self {
                activation: prepare(activation),
                gradient: prepare(gradient),
            },
            pi,
        )
    }

    fn invert(&self, block: &PreparedBlock, damping: DampingScheme, gamma: f64) -> Inverted {
        match (&self.activation, &self.gradient) {
            (HostFactor::Matrix(activation), HostFactor::Matrix(gradient)) => {
                let (pi, gradient_damping) = (block.pi, gamma / block.pi);
                let mut repairs = Vec::new();
                let mut invert = |kind, matrix, damping| {
                    let inverse = factor_inverse(matrix, damping);
                    repairs.extend(inverse.1.map(|action| (kind, action)));
                    inverse
                        .0
                        .map(|m: Mat<E>| host::to_device(&m, &block.device, block.dtype))
                };
                let activation = invert(FactorKind::Activation, activation, pi * gamma);
                let gradient = invert(FactorKind::Gradient, gradient, gradient_damping);
                let factored = |(activation, gradient)| BlockInverse::Factored {
                    activation,
                    gradient,
                };
                Inverted {
                    block: activation.zip(gradient).map(factored),
                    repairs,
                }
            }
            (HostFactor::Eigen(Some(activation)), HostFactor::Eigen(Some(gradient))) => {
                let block = eigen_inverse(block, activation, gradient, (damping, gamma));
                Inverted {
                    block: Some(block),
                    repairs: Vec::new(),
                }
            }
            (activation, _) => {
                let failed = match activation {
                    HostFactor::Eigen(None) => FactorKind::Activation,
                    _ => FactorKind::Gradient,
                };
                let action = FactorAction::KeptLastInverse { pivot: None };
                Inverted {
                    block: None,
                    repairs: vec![(failed, action)],
                }
            }
        }
    }
}

/// The reciprocals of the damped eigenvalues; eigenvalues that rounding made negative are zero.
fn eigen_inverse<E: Scalar>(
    block: &PreparedBlock,
    activation: &Eigendecomposition<E>,
    gradient: &Eigendecomposition<E>,
    (damping, gamma): (DampingScheme, f64),
) -> BlockInverse {
    let pi = block.pi;
    let reciprocals = Mat::from_fn(block.activation, block.gradient, |i, j| {
        let (a, g) = (activation.values[i].max(0.0), gradient.values[j].max(0.0));
        E::from_f64(match damping {
            DampingScheme::FactoredTikhonov { .. } => 1.0 / ((a + pi * gamma) * (g + gamma / pi)),
            DampingScheme::ExactTikhonov => 1.0 / (a * g + gamma * gamma),
        })
    });
    let on_device = |matrix: &Mat<E>| host::to_device(matrix, &block.device, block.dtype);
    BlockInverse::Eigen {
        activation_basis: on_device(&activation.vectors),
        gradient_basis: on_device(&gradient.vectors),
        reciprocals: on_device(&reciprocals),
    }
}

fn factor_inverse<E: Scalar>(
    matrix: &Mat<E>,
    damping: f64,
) -> (Option<Mat<E>>, Option<FactorAction>) {
    match linalg::inverse(matrix, damping) {
        Ok((inverse, attempt)) => {
            let smallest_pivot = attempt.smallest_pivot;
            let action = if attempt.doublings > 0 {
                let used = attempt.damping;
                Some(FactorAction::MoreDamping {
                    asked: damping,
                    used,
                    smallest_pivot,
                })
            } else if attempt.double_precision {
                Some(FactorAction::DoublePrecision { smallest_pivot })
            } else {
                None
            };
            (Some(inverse), action)
        }
        Err(error) => (
            None,
            Some(FactorAction::KeptLastInverse {
                pivot: Some(error.pivot),
            }),
        ),
    }
}

/// The factor on the host, its rounding errors made symmetric.
fn symmetric<E: Scalar>(factor: &Tensor<2>) -> Mat<E> {
    let matrix: Mat<E> = host::to_host(factor);
    let half = E::from_f64(0.5);
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        (matrix[(i, j)] + matrix[(j, i)]) * half
    })
}

fn mean_trace<E: Scalar>(matrix: &Mat<E>) -> f64 {
    let dimension = matrix.nrows();
    (0..dimension).map(|i| matrix[(i, i)].to_f64()).sum::<f64>() / dimension as f64
}

fn mean_frobenius<E: Scalar>(matrix: &Mat<E>) -> f64 {
    let dimension = matrix.nrows();
    let squares = (0..dimension).flat_map(|i| (0..dimension).map(move |j| (i, j)));
    let total: f64 = squares.map(|at| matrix[at].to_f64().powi(2)).sum();
    total.sqrt() / (dimension as f64).sqrt()
}
