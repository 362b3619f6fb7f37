//! The inverse of one layer's block of the approximate Fisher, in the forms that it is applied in.

use burn::tensor::Tensor;

/// The inverse of one layer's block.
///
/// # Shapes
///
/// All matrices that it multiplies are `[d_in + 1, d_out]`, the transpose of the paper's `W`.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "tensors are handles; there is one block a layer"
)]
pub enum BlockInverse {
    /// The inverse of `A ⊗ B`: `U = A⁻¹ V B⁻¹`.
    Factored(KroneckerInverse),
    /// The inverse of `Ā ⊗ G`, damped, in the eigenbases of the undamped factors:
    /// `U = Q_A [(Q_Aᵀ V Q_G) ⊙ S] Q_Gᵀ`.
    Eigen {
        /// Eigenvectors of `Ā`, as columns.
        activation_basis: Tensor<2>,
        /// Eigenvectors of `G`, as columns.
        gradient_basis: Tensor<2>,
        /// The reciprocals of the damped eigenvalues, `[d_in + 1, d_out]`.
        reciprocals: Tensor<2>,
    },
    /// The inverse of `A ⊗ B − C ⊗ D` (appendix B), with the canonical directions `K_A K_Aᵀ = A⁻¹CA⁻¹`
    /// and `K_B K_Bᵀ = B⁻¹DB⁻¹`: `U = A⁻¹ V B⁻¹ + K_A [(K_Aᵀ V K_B) ⊙ S] K_Bᵀ`.
    Conditional {
        /// The inverse of `A ⊗ B`.
        unconditional: KroneckerInverse,
        /// `K_A`, as columns.
        activation_directions: Tensor<2>,
        /// `K_B`, as columns.
        gradient_directions: Tensor<2>,
        /// `1 / (1 − s_A s_B)` for each pair of squared canonical correlations.
        reciprocals: Tensor<2>,
    },
    /// The same inverse as a series (Smith doubling): from `X = A⁻¹ V B⁻¹`, `X ← X + P X Qᵀ` with each
    /// pair of powers.
    Series {
        /// The inverse of `A ⊗ B`.
        unconditional: KroneckerInverse,
        /// `P = A⁻¹C` and `Q = B⁻¹D` to the powers 1, 2, 4, …
        powers: Vec<(Tensor<2>, Tensor<2>)>,
    },
}

/// The inverse of a Kronecker product, both factors inverted.
#[derive(Clone, Debug)]
pub struct KroneckerInverse {
    /// `A⁻¹`, of the input factor.
    pub activation: Tensor<2>,
    /// `B⁻¹`, of the output factor.
    pub gradient: Tensor<2>,
}

impl KroneckerInverse {
    /// `A⁻¹ V B⁻¹`.
    pub fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        sandwich(&self.activation, v, &self.gradient)
    }
}

impl BlockInverse {
    /// The inverse block times a layer's matrix.
    ///
    /// # Cost
    ///
    /// `d_in d_out (d_in + d_out)` multiply-adds for the inverse of a product; about twice that in an
    /// eigenbasis or with canonical directions; that much again for each pair of powers.
    pub fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Factored(inverse) => inverse.multiply(v),
            Self::Eigen {
                activation_basis,
                gradient_basis,
                reciprocals,
            } => in_basis(activation_basis, gradient_basis, reciprocals, v),
            Self::Conditional {
                unconditional,
                activation_directions: ka,
                gradient_directions: kb,
                reciprocals,
            } => unconditional.multiply(v.clone()) + in_basis(ka, kb, reciprocals, v),
            Self::Series {
                unconditional,
                powers,
            } => powers.iter().fold(unconditional.multiply(v), |x, (p, q)| {
                x.clone() + sandwich(p, x, &q.clone().transpose())
            }),
        }
    }
}

/// `L V R`, the product first that makes the two cheaper.
pub(super) fn sandwich(left: &Tensor<2>, v: Tensor<2>, right: &Tensor<2>) -> Tensor<2> {
    let ([c, a], [b, d]) = (left.dims(), right.dims());
    let (left_first, right_first) = (c * b * (a + d), a * d * (b + c));
    if left_first <= right_first {
        left.clone().matmul(v).matmul(right.clone())
    } else {
        left.clone().matmul(v.matmul(right.clone()))
    }
}

/// `K₁ [(K₁ᵀ V K₂) ⊙ S] K₂ᵀ`.
fn in_basis(k1: &Tensor<2>, k2: &Tensor<2>, scales: &Tensor<2>, v: Tensor<2>) -> Tensor<2> {
    let rotated = sandwich(&k1.clone().transpose(), v, k2);
    sandwich(k1, rotated * scales.clone(), &k2.clone().transpose())
}
