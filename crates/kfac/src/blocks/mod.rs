//! The blocks of the approximate Fisher, one for each layer: from moments to damped inverses.
//!
//! A block is an object; everything that a structure can do is in its file.

mod block;
mod diagonal;
mod eigen;
mod factor_set;
mod full;
mod grouped;
mod host;
mod identity;
mod kronecker;
mod layer_blocks;
mod magnitudes;
mod moments;
mod one_hot;
mod products;
mod repair;
mod restore;

pub use block::{
    BlockEstimate, BlockInverse, BlockStructure, Factor, FactorForm, InverseMethod, Inversion,
    PreparedBlock,
};
pub use diagonal::{Diagonal, DiagonalFactors, DiagonalInverse, SummedDiagonal};
pub use eigen::{EigenBasis, EigenInverse};
pub use factor_set::{CrossFactors, FactorSet, RunningFactors};
pub use full::{Full, FullFactors, FullInverse};
pub use grouped::{Grouped, GroupedFactors, GroupedInverse};
pub use host::FactorInverse;
pub(crate) use host::{FactorCholesky, factorise};
pub use identity::IdentityInverse;
pub(crate) use kronecker::PreparedKronecker;
pub use kronecker::{Kronecker, KroneckerFactors, KroneckerInverse};
pub use layer_blocks::{BlockOptions, Blocks, ScaleShiftBlock};
pub use magnitudes::Magnitudes;
pub use moments::{Divisor, Finish, GradientKind, Moments, Pass};
pub(crate) use moments::{squared_products, sum_of_squares};
pub use one_hot::{OneHot, OneHotFactors, OneHotInverse};
pub(crate) use products::{in_basis, sandwich};
pub use repair::{FactorAction, FactorRepair};
pub(crate) use restore::{ESTIMATE, FACTORS};

pub use crate::{
    linalg::{append_ones, second_moment},
    record::{Record, RecordError},
};
