//! A layer given the next one of its chain: `Ψ` and `Σ⁻¹` (section 4.3, appendix B).

use faer::Mat;

use super::{
    host_factors::{CholeskyPair, Place},
    inverse::InverseMethod,
};
use crate::{
    curvature::{BlockInverse, KroneckerInverse, Regression},
    linalg::{
        CanonicalDirections, canonical_directions,
        host::{self, Scalar},
        whitened_cross,
    },
    statistics::CrossFactors,
};

/// The series is used unasked where so many pairs of powers reach machine precision: its products
/// then cost no more than those with canonical directions, and no eigendecomposition is needed.
const CHEAP_POWERS: i32 = 2;

/// Most pairs of powers; each squares the last, so that the terms vanish for any radius below one.
const MAX_POWERS: usize = 60;

/// The factors between a layer and the next, on the device and on the host.
#[derive(Debug)]
pub(super) struct HostCross<E> {
    device: CrossFactors,
    activation: Mat<E>,
    gradient: Mat<E>,
}

impl<E: Scalar> HostCross<E> {
    pub(super) fn new(cross: &CrossFactors) -> Self {
        Self {
            activation: host::to_host(&cross.activation),
            gradient: host::to_host(&cross.gradient),
            device: cross.clone(),
        }
    }

    /// `Ψ_{i,i+1}`.
    pub(super) fn regression(&self, next: &KroneckerInverse) -> Regression {
        Regression::new(&self.device, next)
    }

    /// `Σ_{i|i+1}⁻¹`, or `None` where an eigendecomposition fails.
    pub(super) fn conditional(
        &self,
        (this, next): (&CholeskyPair<E>, &CholeskyPair<E>),
        regression: &Regression,
        (method, place): (InverseMethod, &Place),
    ) -> Option<BlockInverse> {
        let [a, b] = this.correlation_bounds;
        let [next_a, next_b] = next.correlation_bounds;
        let activation = Whitened {
            lower: &this.activation.lower,
            cross: whitened_cross(
                &this.activation.lower,
                &self.activation,
                &next.activation.lower,
            ),
            bound: a * next_a,
        };
        let gradient = Whitened {
            lower: &this.gradient.lower,
            cross: whitened_cross(&this.gradient.lower, &self.gradient, &next.gradient.lower),
            bound: b * next_b,
        };
        let series = match method {
            InverseMethod::Cholesky => true,
            InverseMethod::Eigen => false,
            InverseMethod::Automatic => {
                let radius = activation.radius() * gradient.radius();
                radius.powi(1 << CHEAP_POWERS) <= E::EPSILON
            }
        };
        if series {
            return Some(self.series(&this.inverse, regression, E::EPSILON));
        }
        let directions = (activation.directions()?, gradient.directions()?);
        Some(with_directions(this.inverse.clone(), &directions, place))
    }

    fn series(
        &self,
        unconditional: &KroneckerInverse,
        regression: &Regression,
        epsilon: f64,
    ) -> BlockInverse {
        let [c, d] = regression.explained(&self.device);
        let mut p = unconditional.activation.clone().matmul(c);
        let mut q = unconditional.gradient.clone().matmul(d);
        let mut powers = Vec::new();
        while powers.len() < MAX_POWERS && host::norm(&p) * host::norm(&q) > epsilon {
            powers.push((p.clone(), q.clone()));
            p = p.clone().matmul(p);
            q = q.clone().matmul(q);
        }
        BlockInverse::Series {
            unconditional: unconditional.clone(),
            powers,
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

impl<E: Scalar> Whitened<'_, E> {
    /// An upper bound of the largest squared canonical correlation.
    fn radius(&self) -> f64 {
        self.cross.squared_norm_l2().to_f64().min(self.bound)
    }

    fn directions(&self) -> Option<CanonicalDirections<E>> {
        canonical_directions(self.lower, &self.cross, self.bound)
    }
}

fn with_directions<E: Scalar>(
    unconditional: KroneckerInverse,
    (activation, gradient): &(CanonicalDirections<E>, CanonicalDirections<E>),
    place: &Place,
) -> BlockInverse {
    let (s_a, s_b) = (
        &activation.squared_correlations,
        &gradient.squared_correlations,
    );
    let reciprocals = Mat::from_fn(s_a.len(), s_b.len(), |i, j| {
        let rest = 1.0 - s_a[i] * s_b[j];
        // Nothing is left: the direction is treated as if the next layer told nothing of it.
        E::from_f64(if rest > 0.0 { 1.0 / rest } else { 0.0 })
    });
    BlockInverse::Conditional {
        unconditional,
        activation_directions: place.transposed(&activation.directions).transpose(),
        gradient_directions: place.transposed(&gradient.directions).transpose(),
        reciprocals: place.tensor(&reciprocals),
    }
}
