//! What a block of the approximate Fisher is, from the moments of a pass to the damped inverse.

use std::{any::Any, fmt::Debug, sync::Arc};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    magnitudes::Magnitudes,
    moments::{Moments, Pass},
    repair::FactorAction,
};
use crate::{
    capture::LayerUses,
    damping::{DampingRule, ProductDamping},
    error::FactorKind,
    network::{BlockDescription, Layer},
    record::{Record, RecordError},
};

/// How a layer's block of the Fisher is approximated.
///
/// A structure makes a block in four states, each an object of its own:
///
/// ```text
/// moments of the passes of a batch ──> BlockEstimate, averaged over batches
///                                         └── PreparedBlock: what does not depend on γ
///                                                └── BlockInverse: damped for a γ
/// ```
///
/// The structures of the library are [`Kronecker`](super::Kronecker), [`Grouped`](super::Grouped),
/// [`OneHot`](super::OneHot), [`Diagonal`](super::Diagonal), [`SummedDiagonal`](super::SummedDiagonal)
/// and [`Full`](super::Full). One of your own is given to an optimizer by
/// [`Extensions`](crate::Extensions).
pub trait BlockStructure: Any + Debug + Send + Sync {
    /// What the parameter table shows of the block of a layer.
    fn describe(&self, layer: &Layer) -> BlockDescription;

    /// The sums over all uses of a layer in a pass.
    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments;

    /// The estimate whose [`factors`](BlockEstimate::factors) are these: the means of the
    /// [`moments`](Self::moments), inputs first, or those of a record. `None` where their number or
    /// shapes are not those of the layer's block.
    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>>;

    /// The inverse that a record was made of.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where the record is not of an inverse of this structure.
    fn restore(&self, layer: &Layer, record: &Record)
    -> Result<Arc<dyn BlockInverse>, RecordError>;
}

/// The estimate of a block.
///
/// # Shapes
///
/// All matrices that it multiplies are the layer's, `[d_in + 1, d_out]`: the transpose of the paper's
/// `W`. A block as a matrix is over the elements of that, read row by row.
pub trait BlockEstimate: Any + Debug + Send + Sync {
    /// The tensors that the estimate is made of: what is averaged over batches, recorded and sent.
    fn factors(&self) -> Vec<Factor<'_>>;

    /// An estimate of the same form with other factors, in the same order.
    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate>;

    /// The block times a matrix of the layer.
    fn multiply(&self, v: Tensor<2>) -> Tensor<2>;

    /// The estimate with the damping of a rule on the diagonals of its factors; `None` where the rule
    /// damps a product in a way that no factors have.
    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>>;

    /// What the inverses for all γ share.
    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock>;
}

/// One of the tensors that an estimate is made of.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// What it is.
    pub kind: FactorKind,
    /// How its elements lie.
    pub form: FactorForm,
    /// Its elements.
    pub tensor: &'a Tensor<2>,
}

/// How the elements of a factor lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorForm {
    /// A square matrix, a second moment: symmetric, positive semi-definite.
    SecondMoment,
    /// A diagonal, in any shape.
    Diagonal,
}

/// A block with what does not depend on γ: the balance of the damping, and decompositions.
pub trait PreparedBlock: Any + Debug + Send + Sync {
    /// `π`, the balance of the damping between the factors; one where there are none.
    fn pi(&self) -> f64;

    /// The inverse of the block, damped for a γ.
    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>>;
}

/// The inverse of a damped block.
pub trait BlockInverse: Any + Debug + Send + Sync {
    /// The inverse times a matrix of the layer.
    fn multiply(&self, v: Tensor<2>) -> Tensor<2>;

    /// Log-determinant, trace and Frobenius norm of the damped block that this is the inverse of.
    fn magnitudes(&self) -> Magnitudes;

    /// All that makes the inverse again, see [`BlockStructure::restore`].
    fn record(&self) -> Record;
}

impl dyn BlockEstimate {
    /// The estimate as one of a type, where it is of that.
    pub fn downcast<T: BlockEstimate>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl dyn PreparedBlock {
    /// The block as one of a type, where it is of that.
    pub fn downcast<T: PreparedBlock>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl dyn BlockInverse {
    /// The inverse as one of a type, where it is of that.
    pub fn downcast<T: BlockInverse>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The factors of [`BlockEstimate::with_factors`], the old ones where there are no new.
pub(super) fn replaced<const N: usize>(
    old: [&Tensor<2>; N],
    new: Vec<Tensor<2>>,
) -> [Tensor<2>; N] {
    let mut new = new.into_iter();
    old.map(|old| new.next().unwrap_or_else(|| old.clone()))
}

/// What came of an inversion, and the repairs that it took.
#[derive(Clone, Debug)]
pub struct Inversion<T> {
    /// The result; `None` where nothing succeeded.
    pub inverse: Option<T>,
    /// The factors that could not be factorised as asked, and what was done.
    pub repairs: Vec<(FactorKind, FactorAction)>,
}

impl<T> Inversion<T> {
    /// A result that took no repairs.
    pub fn of(inverse: T) -> Self {
        Self {
            inverse: Some(inverse),
            repairs: Vec::new(),
        }
    }

    /// What `f` makes of the result, with the same repairs.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Inversion<U> {
        Inversion {
            inverse: self.inverse.map(f),
            repairs: self.repairs,
        }
    }

    /// Both results, or none, with the repairs of both.
    pub fn zip<U>(self, other: Inversion<U>) -> Inversion<(T, U)> {
        let mut repairs = self.repairs;
        repairs.extend(other.repairs);
        Inversion {
            inverse: self.inverse.zip(other.inverse),
            repairs,
        }
    }
}

/// How the damped blocks are inverted; all methods give the same product up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum InverseMethod {
    /// The cheapest one.
    ///
    /// Block-diagonal: Cholesky for factored damping, eigendecomposition for exact damping.
    /// Block-tridiagonal: the series where strong damping makes it short, otherwise eigendecompositions.
    #[default]
    Automatic,
    /// Cholesky factorisations, and a series for the block-tridiagonal structure.
    ///
    /// A factorisation of both damped factors for each γ: d³ flops, and products with two
    /// matrices. Not for exact damping. Within chains Smith's series (appendix B), which is long where
    /// the damping is weak.
    Cholesky,
    /// Eigendecompositions.
    ///
    /// One of both undamped factors, shared by all γ: about 9 d³ flops, and
    /// products with four matrices. Within chains the canonical correlations of neighbours, which
    /// depend on γ: an eigendecomposition of the smaller of each two neighbouring factors.
    Eigen,
}

impl InverseMethod {
    /// The dampings of the two factors, where each factor is inverted on its own.
    pub(crate) fn of_factors(self, damping: ProductDamping) -> Option<[f64; 2]> {
        match (self, damping) {
            (
                Self::Automatic | Self::Cholesky,
                ProductDamping::Factored {
                    activation,
                    gradient,
                },
            ) => Some([activation, gradient]),
            _ => None,
        }
    }
}
