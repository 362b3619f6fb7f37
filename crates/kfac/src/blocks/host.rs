//! The factors of a block on the host: their norms, damped factorisations and eigendecompositions.

use burn::tensor::{DType, Tensor, s};
use faer::Mat;

use super::{block::Inversion, magnitudes::Magnitudes, repair::FactorAction};
use crate::{
    damping::FactorNorms,
    error::FactorKind,
    linalg::{
        self, DampedCholesky,
        host::{self, Scalar},
    },
    record::{Record, RecordError},
};

/// The inverse of a damped factor.
#[derive(Clone, Debug)]
pub struct FactorInverse {
    /// The inverse, `[d, d]`.
    pub inverse: Tensor<2>,
    /// How large the damped factor is.
    pub magnitudes: Magnitudes,
}

impl FactorInverse {
    const FORM: &str = "factor";

    /// The inverse of a symmetric positive semi-definite matrix with a damping on its diagonal.
    ///
    /// It is worked out on the host: in the matrix's own precision, else in `f64`, else in `f64` with up
    /// to ten doublings of the damping; the repairs tell of anything but the first, under the name
    /// `kind`.
    ///
    /// # Cost
    ///
    /// d³ multiply-adds.
    pub fn of(factor: &Tensor<2>, kind: FactorKind, damping: f64) -> Inversion<Self> {
        if factor.dtype() == DType::F64 {
            factorise::<f64>(factor, kind, damping).map(|cholesky| cholesky.inverse)
        } else {
            factorise::<f32>(factor, kind, damping).map(|cholesky| cholesky.inverse)
        }
    }

    pub(super) fn record(&self) -> Record {
        let size = self.magnitudes;
        Record::new(Self::FORM)
            .with_tensor("inverse", &self.inverse)
            .with_number("log_determinant", size.log_determinant)
            .with_number("trace", size.trace)
            .with_number("frobenius_norm", size.frobenius_norm)
    }

    pub(super) fn restore(record: &Record) -> Result<Self, RecordError> {
        record.expect_form(Self::FORM)?;
        let inverse = record.tensor("inverse")?;
        Ok(Self {
            magnitudes: Magnitudes {
                dimension: inverse.dims()[0],
                log_determinant: record.number("log_determinant")?,
                trace: record.number("trace")?,
                frobenius_norm: record.number("frobenius_norm")?,
            },
            inverse,
        })
    }
}

/// The eigendecomposition of a factor.
#[derive(Clone, Debug)]
pub(super) struct FactorEigen {
    /// The eigenvalues, in ascending order.
    pub(super) values: Vec<f64>,
    /// The eigenvectors, as columns.
    pub(super) vectors: Tensor<2>,
    double_precision: bool,
}

impl FactorEigen {
    /// What it took, if more than the own precision of the factor.
    pub(super) fn repair(&self) -> Option<FactorAction> {
        self.double_precision
            .then(|| FactorAction::of_double_precision(&self.values))
    }
}

/// A damped factor, factorised on the host.
#[derive(Clone, Debug)]
pub(crate) struct FactorCholesky<E> {
    /// `L` with `L Lᵀ` the damped factor.
    pub(crate) lower: Mat<E>,
    /// What damping leaves of squared canonical correlations: with the largest eigenvalue `m` of the
    /// factor, at most its trace, none is above `m / (m + damping)` times the same number of the other
    /// factor. For `xᵀ X y ≤ √(xᵀ M x · yᵀ M′ y)`, and `xᵀ M x ≤ m / (m + damping) · xᵀ (M + damping I) x`.
    pub(crate) correlation_bound: f64,
    /// The inverse on the device.
    pub(crate) inverse: FactorInverse,
}

/// A factor on the device, whose norms are asked for.
pub(super) struct DeviceFactor<'a>(pub(super) &'a Tensor<2>);

impl FactorNorms for DeviceFactor<'_> {
    fn dimension(&self) -> usize {
        self.0.dims()[0]
    }

    fn trace(&self) -> f64 {
        host::to_vec::<f64, 1>(&diagonal(self.0)).iter().sum()
    }

    fn frobenius(&self) -> f64 {
        let dimension = self.dimension();
        let values: Vec<f64> = host::to_vec(self.0);
        let columns = (0..dimension).flat_map(|i| (0..dimension).map(move |j| j * dimension + i));
        let squares: f64 = columns.map(|at| values[at].powi(2)).sum();
        squares.sqrt()
    }
}

/// A diagonal factor, whose norms are asked for.
pub(super) struct DiagonalFactor<'a>(pub(super) &'a [f64]);

impl FactorNorms for DiagonalFactor<'_> {
    fn dimension(&self) -> usize {
        self.0.len()
    }

    fn trace(&self) -> f64 {
        self.0.iter().sum()
    }

    fn frobenius(&self) -> f64 {
        self.0.iter().map(|a| a * a).sum::<f64>().sqrt()
    }
}

/// The diagonal of a square matrix.
pub(crate) fn diagonal(matrix: &Tensor<2>) -> Tensor<1> {
    let dimension = matrix.dims()[0];
    let elements = matrix.clone().reshape([dimension * dimension]);
    elements.slice(s![..;dimension.cast_signed() + 1])
}

/// `M + damping I`.
pub(super) fn plus_identity(factor: &Tensor<2>, damping: f64) -> Tensor<2> {
    let identity = Tensor::<2>::eye(factor.dims()[0], &factor.device()).cast(factor.dtype());
    factor.clone() + identity * damping
}

/// The damped factor factorised on the host in precision `E`.
pub(crate) fn factorise<E: Scalar>(
    factor: &Tensor<2>,
    kind: FactorKind,
    damping: f64,
) -> Inversion<FactorCholesky<E>> {
    let matrix = host::symmetric_to_host::<E>(factor);
    match linalg::factorise(&matrix, damping) {
        Ok((cholesky, attempt)) => {
            let repair = FactorAction::of(attempt, damping);
            Inversion {
                inverse: Some(on_device(&matrix, factor, cholesky, attempt.damping)),
                repairs: repair.map(|action| (kind, action)).into_iter().collect(),
            }
        }
        Err(error) => Inversion {
            inverse: None,
            repairs: vec![(kind, FactorAction::given_up(error))],
        },
    }
}

/// A factorisation with its inverse where the factor is.
fn on_device<E: Scalar>(
    matrix: &Mat<E>,
    factor: &Tensor<2>,
    cholesky: DampedCholesky<E>,
    damping: f64,
) -> FactorCholesky<E> {
    let DampedCholesky { lower, inverse } = cholesky;
    let dimension = matrix.nrows();
    let trace: f64 = (0..dimension).map(|i| matrix[(i, i)].to_f64()).sum();
    let pivots = (0..dimension).map(|i| lower[(i, i)].to_f64().ln());
    let squared_norm = matrix.squared_norm_l2().to_f64();
    let count = dimension as f64;
    FactorCholesky {
        correlation_bound: if trace > 0.0 {
            trace / (trace + damping)
        } else {
            0.0
        },
        inverse: FactorInverse {
            // The transpose: an inverse is symmetric but for rounding, and need not be turned over.
            inverse: host::transposed_to_device(&inverse, &factor.device(), factor.dtype()),
            magnitudes: Magnitudes {
                dimension,
                log_determinant: 2.0 * pivots.sum::<f64>(),
                trace: trace + count * damping,
                frobenius_norm: (squared_norm + damping * (2.0 * trace + count * damping)).sqrt(),
            },
        },
        lower,
    }
}

/// The eigendecomposition of a factor, worked out on the host in the factor's own precision, else in `f64`;
/// `None` where both fail.
pub(super) fn eigen(factor: &Tensor<2>) -> Option<FactorEigen> {
    if factor.dtype() == DType::F64 {
        eigen_in::<f64>(factor)
    } else {
        eigen_in::<f32>(factor)
    }
}

fn eigen_in<E: Scalar>(factor: &Tensor<2>) -> Option<FactorEigen> {
    let eigen = linalg::symmetric_eigen(&host::symmetric_to_host::<E>(factor))?;
    let vectors = host::transposed_to_device(&eigen.vectors, &factor.device(), factor.dtype());
    Some(FactorEigen {
        values: eigen.values,
        vectors: vectors.transpose(),
        double_precision: eigen.double_precision,
    })
}
