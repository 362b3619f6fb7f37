//! The inverse of one layer's block of the approximate Fisher, in the forms that it is applied in.

use burn::tensor::Tensor;

/// The inverse of one layer's block.
///
/// # Shapes
///
/// All matrices that it multiplies are `[d_in + 1, d_out]`, the transpose of the paper's `W`.
#[derive(Clone, Debug)]
pub enum BlockInverse {
    /// The inverse of `A ⊗ B`: `U = A⁻¹ V B⁻¹`.
    Factored(KroneckerInverse),
    /// The inverse of `Ā ⊗ G`, damped, in the eigenbases of the undamped factors.
    Eigen(EigenInverse),
    /// One inverse for each group of outputs; the groups are columns side by side.
    Groups(Vec<BlockInverse>),
    /// The inverse of `diag(a) ⊗ B`: `U = diag(a)⁻¹ V B⁻¹`.
    Embedding {
        /// The reciprocals of the diagonal, `[count, 1]`.
        activation: Tensor<2>,
        /// `B⁻¹`.
        gradient: Tensor<2>,
    },
    /// The inverse of a diagonal, in the shape of the layer's matrix.
    Diagonal(Tensor<2>),
    /// The inverse of a dense block; the layer's matrix is read row by row.
    Full(Tensor<2>),
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

/// The inverse of a block with known eigenvalues: `U = Q_A [(Q_Aᵀ V Q_G) ⊙ S] Q_Gᵀ`.
#[derive(Clone, Debug)]
pub struct EigenInverse {
    /// Eigenvectors of `Ā`, as columns; `None` where it is diagonal already.
    pub activation_basis: Option<Tensor<2>>,
    /// Eigenvectors of `G`, as columns.
    pub gradient_basis: Tensor<2>,
    /// The eigenvalues without damping, `[d_in + 1, d_out]`.
    pub eigenvalues: Tensor<2>,
    /// `S`, the reciprocals of the damped eigenvalues.
    pub reciprocals: Tensor<2>,
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
    /// The eigenbases of the block, one of each group; empty where it has none.
    pub fn eigen_inverses(&self) -> Vec<&EigenInverse> {
        match self {
            Self::Eigen(inverse) => vec![inverse],
            Self::Groups(groups) => groups.iter().flat_map(Self::eigen_inverses).collect(),
            _ => Vec::new(),
        }
    }

    /// The block with new eigenvalues, one matrix for each eigenbasis, mixed into the old; without
    /// change where there are none.
    pub(super) fn corrected(&self, new: Vec<Tensor<2>>, weights: (f64, f64)) -> Self {
        let mut new = new.into_iter();
        match self {
            Self::Eigen(inverse) => {
                let corrected = new.next().map(|new| inverse.corrected(new, weights));
                Self::Eigen(corrected.unwrap_or_else(|| inverse.clone()))
            }
            Self::Groups(groups) => {
                let group =
                    |group: &Self| group.corrected(new.next().into_iter().collect(), weights);
                Self::Groups(groups.iter().map(group).collect())
            }
            _ => self.clone(),
        }
    }

    /// The inverse block times a layer's matrix.
    ///
    /// # Cost
    ///
    /// `d_in d_out (d_in + d_out)` multiply-adds for the inverse of a product; about twice that in an
    /// eigenbasis or with canonical directions; that much again for each pair of powers.
    pub fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Factored(inverse) => inverse.multiply(v),
            Self::Eigen(inverse) => inverse.multiply(v),
            Self::Groups(groups) => {
                let group = |(index, inverse): (usize, &Self)| {
                    inverse.multiply(columns(&v, groups.len(), index))
                };
                Tensor::cat(groups.iter().enumerate().map(group).collect(), 1)
            }
            Self::Embedding {
                activation,
                gradient,
            } => (v * activation.clone()).matmul(gradient.clone()),
            Self::Diagonal(reciprocals) => v * reciprocals.clone(),
            Self::Full(inverse) => {
                let [rows, columns] = v.dims();
                let column = v.reshape([rows * columns, 1]);
                inverse.clone().matmul(column).reshape([rows, columns])
            }
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

impl EigenInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        if let Some(basis) = &self.activation_basis {
            return in_basis(basis, &self.gradient_basis, &self.reciprocals, v);
        }
        let rotated = v.matmul(self.gradient_basis.clone()) * self.reciprocals.clone();
        rotated.matmul(self.gradient_basis.clone().transpose())
    }

    /// The same with the eigenvalues `old_weight · old + (1 − old_weight) · new`, damped by `γ²`.
    fn corrected(&self, new: Tensor<2>, (old_weight, gamma): (f64, f64)) -> Self {
        let eigenvalues = self.eigenvalues.clone() * old_weight + new * (1.0 - old_weight);
        Self {
            reciprocals: (eigenvalues.clone() + gamma * gamma).recip(),
            eigenvalues,
            ..self.clone()
        }
    }
}

/// The columns of one of several groups side by side.
pub(super) fn columns(matrix: &Tensor<2>, groups: usize, group: usize) -> Tensor<2> {
    if groups == 1 {
        return matrix.clone();
    }
    let width = matrix.dims()[1] / groups;
    matrix
        .clone()
        .slice_dim(1, group * width..(group + 1) * width)
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
