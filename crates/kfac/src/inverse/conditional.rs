//! The inverse covariance of a layer given the next one of its chain (section 4.3, appendix B).

use burn::tensor::{DType, Device, Tensor};
use faer::Mat;

use super::regression::Regression;
use crate::{
    blocks::{
        BlockInverse, CrossFactors, FactorAction, FactorCholesky, InverseMethod, Inversion,
        KroneckerInverse, in_basis, sandwich,
    },
    error::FactorKind,
    linalg::{
        CanonicalDirections, canonical_directions,
        host::{self, Scalar},
        whitened_cross,
    },
};

/// The inverse of `A ⊗ B − C ⊗ D` (appendix B).
#[derive(Clone, Debug)]
pub struct ConditionalInverse {
    /// The inverse of `A ⊗ B`.
    pub unconditional: KroneckerInverse,
    /// What `C ⊗ D` adds to it.
    pub explained: ExplainedPart,
}

/// What the part of a block that the next layer explains adds to the inverse of the block.
#[derive(Clone, Debug)]
pub enum ExplainedPart {
    /// By canonical directions: `U = A⁻¹ V B⁻¹ + K_A [(K_Aᵀ V K_B) ⊙ S] K_Bᵀ`.
    Directions(Box<DirectionPair>),
    /// By a series (Smith doubling): from `X = A⁻¹ V B⁻¹`, `X ← X + P X Qᵀ` with each pair of the powers
    /// 1, 2, 4, … of `P = A⁻¹C` and `Q = B⁻¹D`.
    Series(Vec<(Tensor<2>, Tensor<2>)>),
}

/// The canonical directions of both factors: `K_A K_Aᵀ = A⁻¹CA⁻¹` and `K_B K_Bᵀ = B⁻¹DB⁻¹`.
#[derive(Clone, Debug)]
pub struct DirectionPair {
    /// `K_A`, as columns.
    pub activation: Tensor<2>,
    /// `K_B`, as columns.
    pub gradient: Tensor<2>,
    /// `S`: `1 / (1 − s_A s_B)` for each pair of squared canonical correlations.
    pub reciprocals: Tensor<2>,
}

/// The series is used unasked where so many pairs of powers reach machine precision: its products
/// then cost no more than those with canonical directions, and no eigendecomposition is needed.
const CHEAP_POWERS: i32 = 2;

/// Most pairs of powers; each squares the last, so that the terms vanish for any radius below one.
const MAX_POWERS: usize = 60;

impl ConditionalInverse {
    /// The inverse times a matrix of the layer.
    ///
    /// # Cost
    ///
    /// About twice the products of the unconditional inverse with canonical directions; that much again
    /// for each pair of powers of a series.
    pub fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        let unconditional = &self.unconditional;
        match &self.explained {
            ExplainedPart::Directions(pair) => {
                let DirectionPair {
                    activation,
                    gradient,
                    reciprocals,
                } = &**pair;
                unconditional.multiply(v.clone()) + in_basis(activation, gradient, reciprocals, v)
            }
            ExplainedPart::Series(powers) => {
                powers.iter().fold(unconditional.multiply(v), |x, (p, q)| {
                    x.clone() + sandwich(p, x, &q.clone().transpose())
                })
            }
        }
    }
}

/// A layer of a chain with both damped factors factorised.
#[derive(Debug)]
pub(super) struct LinkedLayer<E> {
    pub(super) activation: FactorCholesky<E>,
    pub(super) gradient: FactorCholesky<E>,
}

impl<E: Scalar> LinkedLayer<E> {
    /// The inverse of the layer's own block.
    pub(super) fn inverse(&self) -> KroneckerInverse {
        KroneckerInverse {
            activation: self.activation.inverse.clone(),
            gradient: self.gradient.inverse.clone(),
        }
    }

    /// The layer given the next, or nothing where an eigendecomposition fails.
    pub(super) fn given(
        &self,
        next: &Self,
        cross: &CrossFactors,
        regression: &Regression,
        method: InverseMethod,
    ) -> Inversion<ConditionalInverse> {
        let activation = Whitened::new(&self.activation, &cross.activation, &next.activation);
        let gradient = Whitened::new(&self.gradient, &cross.gradient, &next.gradient);
        let series = match method {
            InverseMethod::Cholesky => true,
            InverseMethod::Eigen => false,
            InverseMethod::Automatic => {
                let radius = activation.radius() * gradient.radius();
                radius.powi(1 << CHEAP_POWERS) <= E::EPSILON
            }
        };
        if series {
            return Inversion::of(self.series(regression, cross));
        }
        let activation = activation.directions(FactorKind::Activation);
        let gradient = gradient.directions(FactorKind::Gradient);
        let both = activation.zip(gradient);
        both.map(|(activation, gradient)| self.directions([activation, gradient]))
    }

    fn series(&self, regression: &Regression, cross: &CrossFactors) -> ConditionalInverse {
        let unconditional = self.inverse();
        let [c, d] = regression.explained(cross);
        let mut p = unconditional.activation.inverse.clone().matmul(c);
        let mut q = unconditional.gradient.inverse.clone().matmul(d);
        let mut powers = Vec::new();
        while powers.len() < MAX_POWERS && host::norm(&p) * host::norm(&q) > E::EPSILON {
            powers.push((p.clone(), q.clone()));
            p = p.clone().matmul(p);
            q = q.clone().matmul(q);
        }
        ConditionalInverse {
            unconditional,
            explained: ExplainedPart::Series(powers),
        }
    }

    fn directions(
        &self,
        [activation, gradient]: [CanonicalDirections<E>; 2],
    ) -> ConditionalInverse {
        let unconditional = self.inverse();
        let (s_a, s_b) = (
            &activation.squared_correlations,
            &gradient.squared_correlations,
        );
        let reciprocals = Mat::from_fn(s_a.len(), s_b.len(), |i, j| {
            let rest = 1.0 - s_a[i] * s_b[j];
            // Nothing is left: the direction is treated as if the next layer told nothing of it.
            E::from_f64(if rest > 0.0 { 1.0 / rest } else { 0.0 })
        });
        let inverse = &unconditional.activation.inverse;
        let (device, dtype): (Device, DType) = (inverse.device(), inverse.dtype());
        let columns = |directions: &Mat<E>| {
            host::transposed_to_device(directions, &device, dtype).transpose()
        };
        let pair = DirectionPair {
            activation: columns(&activation.directions),
            gradient: columns(&gradient.directions),
            reciprocals: host::to_device(&reciprocals, &device, dtype),
        };
        ConditionalInverse {
            unconditional,
            explained: ExplainedPart::Directions(Box::new(pair)),
        }
    }
}

/// The whitened cross-covariance of one factor.
struct Whitened<'a, E> {
    lower: &'a Mat<E>,
    cross: Mat<E>,
    /// Upper bound of the squared canonical correlations.
    bound: f64,
}

impl<'a, E: Scalar> Whitened<'a, E> {
    fn new(own: &'a FactorCholesky<E>, cross: &Tensor<2>, next: &FactorCholesky<E>) -> Self {
        Self {
            lower: &own.lower,
            cross: whitened_cross(&own.lower, &host::to_host(cross), &next.lower),
            bound: own.correlation_bound * next.correlation_bound,
        }
    }

    /// An upper bound of the largest squared canonical correlation.
    fn radius(&self) -> f64 {
        self.cross.squared_norm_l2().to_f64().min(self.bound)
    }

    /// The canonical directions with what they took, or that there are none.
    fn directions(&self, kind: FactorKind) -> Inversion<CanonicalDirections<E>> {
        let found = canonical_directions(self.lower, &self.cross, self.bound);
        let repair = match &found {
            None => Some(FactorAction::CutFromNextLayer),
            Some(found) if found.double_precision => Some(FactorAction::of_double_precision(
                &found.squared_correlations,
            )),
            Some(_) => None,
        };
        Inversion {
            inverse: found,
            repairs: repair.map(|action| (kind, action)).into_iter().collect(),
        }
    }
}
