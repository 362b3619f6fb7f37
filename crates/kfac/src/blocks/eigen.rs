//! Inverses in the eigenbases of Kronecker factors, whose eigenvalues can be corrected.

use burn::tensor::Tensor;
use faer::Mat;

use super::{
    block::{BlockInverse, Inversion},
    host::{FactorEigen, eigen},
    magnitudes::Magnitudes,
    products::in_basis,
    repair::FactorAction,
};
use crate::{
    damping::ProductDamping,
    error::FactorKind,
    linalg::{columns, host},
    record::{Record, RecordError},
};

/// The inverse of a block with known eigenvectors; with groups, one basis for each, and the groups are
/// columns side by side.
#[derive(Clone, Debug)]
pub struct EigenInverse {
    bases: Vec<EigenBasis>,
}

/// The inverse of a product with known eigenvalues: `U = Q_A [(Q_Aᵀ V Q_G) ⊙ S] Q_Gᵀ`.
#[derive(Clone, Debug)]
pub struct EigenBasis {
    /// Eigenvectors of `Ā`, as columns; `None` where it is diagonal already.
    pub activation_basis: Option<Tensor<2>>,
    /// Eigenvectors of `G`, as columns.
    pub gradient_basis: Tensor<2>,
    /// The eigenvalues without damping, `[d_in + 1, d_out]`.
    pub eigenvalues: Tensor<2>,
    /// `S`, the reciprocals of the damped eigenvalues.
    pub reciprocals: Tensor<2>,
}

/// The eigendecompositions of the two factors of a product.
#[derive(Debug)]
pub(super) struct EigenPair {
    activation: ActivationEigen,
    gradient: Option<FactorEigen>,
}

#[derive(Debug)]
enum ActivationEigen {
    /// Of a dense factor; `None` where it failed.
    Dense(Option<Box<FactorEigen>>),
    /// A diagonal factor's elements are its eigenvalues.
    Diagonal(Vec<f64>),
}

impl EigenPair {
    /// Of two dense factors.
    pub(super) fn of(activation: &Tensor<2>, gradient: &Tensor<2>) -> Self {
        Self {
            activation: ActivationEigen::Dense(eigen(activation).map(Box::new)),
            gradient: eigen(gradient),
        }
    }

    /// Of a diagonal input factor and a dense output factor.
    pub(super) fn of_diagonal(activation: Vec<f64>, gradient: &Tensor<2>) -> Self {
        Self {
            activation: ActivationEigen::Diagonal(activation),
            gradient: eigen(gradient),
        }
    }

    /// The damped inverse in these bases.
    pub(super) fn damped(&self, damping: ProductDamping) -> Inversion<EigenBasis> {
        let activation = match &self.activation {
            ActivationEigen::Dense(eigen) => decomposed(eigen.as_deref(), FactorKind::Activation)
                .map(|eigen| (&eigen.values, Some(eigen.vectors.clone()))),
            ActivationEigen::Diagonal(values) => Inversion::of((values, None)),
        };
        let gradient = decomposed(self.gradient.as_ref(), FactorKind::Gradient);
        let both = activation.zip(gradient);
        both.map(|((values, basis), gradient)| EigenBasis::new(values, basis, gradient, damping))
    }
}

/// A factor's decomposition with what it took, or that there is none.
fn decomposed(eigen: Option<&FactorEigen>, kind: FactorKind) -> Inversion<&FactorEigen> {
    let repair = match eigen {
        Some(eigen) => eigen.repair(),
        None => Some(FactorAction::KeptLastInverse { pivot: None }),
    };
    Inversion {
        inverse: eigen,
        repairs: repair.map(|action| (kind, action)).into_iter().collect(),
    }
}

impl EigenBasis {
    fn new(
        activation: &[f64],
        activation_basis: Option<Tensor<2>>,
        gradient: &FactorEigen,
        damping: ProductDamping,
    ) -> Self {
        // Eigenvalues that rounding made negative are zero.
        let of = |i: usize, j: usize| (activation[i].max(0.0), gradient.values[j].max(0.0));
        let spectrum = |value: &dyn Fn(f64, f64) -> f64| {
            let (rows, columns) = (activation.len(), gradient.values.len());
            let matrix = Mat::from_fn(rows, columns, |i, j| {
                let (a, g) = of(i, j);
                value(a, g)
            });
            let (device, dtype) = (gradient.vectors.device(), gradient.vectors.dtype());
            host::to_device(&matrix, &device, dtype)
        };
        Self {
            activation_basis,
            gradient_basis: gradient.vectors.clone(),
            eigenvalues: spectrum(&|a, g| a * g),
            reciprocals: spectrum(&|a, g| 1.0 / damping.eigenvalue(a, g)),
        }
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        if let Some(basis) = &self.activation_basis {
            return in_basis(basis, &self.gradient_basis, &self.reciprocals, v);
        }
        let rotated = v.matmul(self.gradient_basis.clone()) * self.reciprocals.clone();
        rotated.matmul(self.gradient_basis.clone().transpose())
    }

    fn record(&self) -> Record {
        let record = Record::new("basis")
            .with_tensor("gradient_basis", &self.gradient_basis.clone().transpose())
            .with_tensor("eigenvalues", &self.eigenvalues)
            .with_tensor("reciprocals", &self.reciprocals);
        match &self.activation_basis {
            // Bases are views of their transposes: kept as these, they come back with the same strides.
            Some(basis) => record.with_tensor("activation_basis", &basis.clone().transpose()),
            None => record,
        }
    }

    fn restore(record: &Record) -> Result<Self, RecordError> {
        record.expect_form("basis")?;
        let basis = record.tensor("activation_basis").ok();
        Ok(Self {
            activation_basis: basis.map(Tensor::transpose),
            gradient_basis: record.tensor("gradient_basis")?.transpose(),
            eigenvalues: record.tensor("eigenvalues")?,
            reciprocals: record.tensor("reciprocals")?,
        })
    }
}

impl EigenInverse {
    pub(super) const FORM: &str = "eigen";

    /// An inverse with one basis for each group of outputs, at least one.
    pub fn new(bases: Vec<EigenBasis>) -> Self {
        Self { bases }
    }

    /// The basis of each group.
    pub fn bases(&self) -> &[EigenBasis] {
        &self.bases
    }

    /// The inverse with the eigenvalues `old_weight · old + (1 − old_weight) · new`, one matrix for each
    /// basis, and `damping` added to each of them.
    pub(crate) fn corrected(&self, new: Vec<Tensor<2>>, old_weight: f64, damping: f64) -> Self {
        let corrected = |(basis, new): (&EigenBasis, Tensor<2>)| {
            let eigenvalues = basis.eigenvalues.clone() * old_weight + new * (1.0 - old_weight);
            EigenBasis {
                reciprocals: (eigenvalues.clone() + damping).recip(),
                eigenvalues,
                ..basis.clone()
            }
        };
        Self::new(self.bases.iter().zip(new).map(corrected).collect())
    }

    /// The inverse of so many groups.
    pub(super) fn restore(record: &Record, groups: usize) -> Result<Self, RecordError> {
        record.expect_form(Self::FORM)?;
        let bases = (0..groups).map(|group| EigenBasis::restore(record.part(group)?));
        Ok(Self::new(bases.collect::<Result<_, _>>()?))
    }
}

impl BlockInverse for EigenInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        if let [only] = &self.bases[..] {
            return only.multiply(v);
        }
        let groups = self.bases.len();
        let of_group =
            |(index, basis): (usize, &EigenBasis)| basis.multiply(columns(&v, groups, index));
        Tensor::cat(self.bases.iter().enumerate().map(of_group).collect(), 1)
    }

    fn magnitudes(&self) -> Magnitudes {
        let damped = |basis: &EigenBasis| {
            let reciprocals: Vec<f64> = host::to_vec(&basis.reciprocals);
            Magnitudes::of_eigenvalues(reciprocals.into_iter().map(f64::recip))
        };
        let groups = self.bases.iter().map(damped);
        groups.fold(Magnitudes::EMPTY, Magnitudes::beside)
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM).with_parts(self.bases.iter().map(EigenBasis::record).collect())
    }
}
