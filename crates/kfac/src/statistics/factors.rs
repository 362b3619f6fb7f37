//! The Kronecker factors: two a layer, and two between neighbours in a chain.

use burn::tensor::{DType, Device, Tensor, s};
use rayon::prelude::*;

use crate::linalg::host;

/// The Kronecker factors of one layer: its Fisher block is `Ā ⊗ G`.
///
/// # Definition
///
/// ```text
/// Ā = E[ā āᵀ]   over the training cases
/// G = E[g gᵀ]   over the training cases and targets sampled from the model
/// ```
///
/// For a layer applied at `R` positions a case see [`WeightSharing`](crate::WeightSharing).
///
/// # Shapes
///
/// `activation` is `[d_in + 1, d_in + 1]` (`[d_in, d_in]` without bias), `gradient` is
/// `[d_out, d_out]`.
///
/// # References
///
/// Martens and Grosse (2015), section 3, arXiv 1503.05671; Eschenhagen et al. (2023) for positions.
#[derive(Clone, Debug)]
pub struct KroneckerFactors {
    /// `Ā`, the second moment of the layer's inputs.
    pub activation: Tensor<2>,
    /// `G`, the second moment of the gradients at its outputs.
    pub gradient: Tensor<2>,
}

/// Which of the two factors, or the block itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorKind {
    /// `Ā`.
    Activation,
    /// `G`.
    Gradient,
    /// A block that is not a product.
    Block,
}

/// The estimate of one layer's block of the Fisher, in the form that its structure asks for.
#[derive(Clone, Debug)]
pub enum LayerFactors {
    /// `Ā ⊗ G`.
    Kronecker(KroneckerFactors),
    /// One such product for each group of a convolution; in the parameters' matrix the groups are
    /// columns side by side.
    Groups(Vec<KroneckerFactors>),
    /// `diag(Ā) ⊗ G`, where the inputs are one-hot.
    Embedding {
        /// The diagonal of `Ā`: how often a case has each token, `[count, 1]`.
        activation: Tensor<2>,
        /// `G`.
        gradient: Tensor<2>,
    },
    /// The diagonal `E[d ⊙ d]`, in the shape of the parameters' matrix.
    Diagonal(Tensor<2>),
    /// `E[d dᵀ]` of the parameters' matrix, read row by row.
    Full(Tensor<2>),
}

/// The Kronecker factors between a layer and the next one of its chain: the Fisher block of the two
/// is `Ā_{i−1,i} ⊗ G_{i,i+1}`.
///
/// # Definition
///
/// ```text
/// Ā_{i−1,i} = E[ā_{i−1} ā_iᵀ]     G_{i,i+1} = E[g_i g_{i+1}ᵀ]
/// ```
///
/// # References
///
/// Martens and Grosse (2015), sections 3 and 4.3, arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct CrossFactors {
    /// `Ā_{i−1,i}`: this layer's inputs (rows) with the next layer's (columns).
    pub activation: Tensor<2>,
    /// `G_{i,i+1}`: the gradients at this layer's outputs (rows) with those at the next layer's.
    pub gradient: Tensor<2>,
}

/// The factors of all layers.
#[derive(Clone, Debug, Default)]
pub struct FactorSet {
    /// The factors of each layer.
    pub layers: Vec<LayerFactors>,
    /// The factors between each layer and the next, `None` where the two are not neighbours in a
    /// chain or the structure of the inverse does not use them. As many as layers.
    pub links: Vec<Option<CrossFactors>>,
}

impl From<KroneckerFactors> for LayerFactors {
    fn from(factors: KroneckerFactors) -> Self {
        Self::Kronecker(factors)
    }
}

impl FactorSet {
    /// The factors of the layers whose blocks are single Kronecker products, in their order.
    pub fn kronecker(&self) -> Vec<&KroneckerFactors> {
        self.layers
            .iter()
            .filter_map(LayerFactors::kronecker)
            .collect()
    }

    /// The factors with `π γ I` added to each layer's `Ā` and `γ / π I` to its `G` (section 6.3), and
    /// `γ² I` to blocks that are no product. The factors between layers stay as they are.
    #[must_use]
    pub fn damped(&self, gamma: f64, pi: &[f64]) -> Self {
        let layers = self.layers.iter().zip(pi);
        Self {
            layers: layers
                .map(|(factors, pi)| factors.damped(gamma, *pi))
                .collect(),
            links: self.links.clone(),
        }
    }

    /// `old_weight · self + (1 − old_weight) · new`, the layers at the same time.
    pub(super) fn averaged(&self, new: Self, old_weight: f64) -> Self {
        let link = |(old, new): (&Option<CrossFactors>, Option<CrossFactors>)| {
            let (old, new) = old.as_ref().zip(new)?;
            Some(CrossFactors {
                activation: mix(&old.activation, new.activation, old_weight),
                gradient: mix(&old.gradient, new.gradient, old_weight),
            })
        };
        let layers = self.layers.par_iter().zip(new.layers);
        let links = self.links.par_iter().zip(new.links);
        Self {
            layers: layers
                .map(|(old, new)| old.averaged(new, old_weight))
                .collect(),
            links: links.map(link).collect(),
        }
    }
}

fn mix(old: &Tensor<2>, new: Tensor<2>, old_weight: f64) -> Tensor<2> {
    new * (1.0 - old_weight) + old.clone() * old_weight
}

fn plus_identity(factor: &Tensor<2>, damping: f64) -> Tensor<2> {
    let identity = Tensor::<2>::eye(factor.dims()[0], &factor.device()).cast(factor.dtype());
    factor.clone() + identity * damping
}

impl LayerFactors {
    /// The two factors of a layer whose block is one Kronecker product.
    pub fn kronecker(&self) -> Option<&KroneckerFactors> {
        match self {
            Self::Kronecker(factors) => Some(factors),
            _ => None,
        }
    }

    /// Where the estimate is, and its precision.
    pub(crate) fn place(&self) -> (Device, DType) {
        let of = |tensor: &Tensor<2>| (tensor.device(), tensor.dtype());
        match self {
            Self::Kronecker(factors) => of(&factors.activation),
            Self::Groups(groups) => of(&groups[0].activation),
            Self::Embedding { gradient, .. } => of(gradient),
            Self::Diagonal(block) | Self::Full(block) => of(block),
        }
    }

    fn damped(&self, gamma: f64, pi: f64) -> Self {
        match self {
            Self::Kronecker(factors) => Self::Kronecker(factors.damped(gamma, pi)),
            Self::Groups(groups) => {
                Self::Groups(groups.iter().map(|group| group.damped(gamma, pi)).collect())
            }
            Self::Embedding {
                activation,
                gradient,
            } => Self::Embedding {
                activation: activation.clone() + pi * gamma,
                gradient: plus_identity(gradient, gamma / pi),
            },
            Self::Diagonal(diagonal) => Self::Diagonal(diagonal.clone() + gamma * gamma),
            Self::Full(block) => Self::Full(plus_identity(block, gamma * gamma)),
        }
    }

    /// Both estimates have one form: that of the layer.
    fn averaged(&self, new: Self, weight: f64) -> Self {
        match (self, new) {
            (Self::Kronecker(old), Self::Kronecker(new)) => {
                Self::Kronecker(old.averaged(new, weight))
            }
            (Self::Groups(old), Self::Groups(new)) => {
                let groups = old.iter().zip(new);
                Self::Groups(groups.map(|(old, new)| old.averaged(new, weight)).collect())
            }
            (
                Self::Embedding {
                    activation,
                    gradient,
                },
                Self::Embedding {
                    activation: new_activation,
                    gradient: new_gradient,
                },
            ) => Self::Embedding {
                activation: mix(activation, new_activation, weight),
                gradient: mix(gradient, new_gradient, weight),
            },
            (Self::Diagonal(old), Self::Diagonal(new)) => Self::Diagonal(mix(old, new, weight)),
            (Self::Full(old), Self::Full(new)) => Self::Full(mix(old, new, weight)),
            (_, new) => new,
        }
    }

    /// The first factor with an element that is not finite, if any.
    pub(crate) fn non_finite(&self) -> Option<FactorKind> {
        let plain =
            |tensor: &Tensor<2>, kind| (!host::sum(tensor.clone()).is_finite()).then_some(kind);
        match self {
            Self::Kronecker(factors) => factors.non_finite(),
            Self::Groups(groups) => groups.iter().find_map(KroneckerFactors::non_finite),
            Self::Embedding {
                activation,
                gradient,
            } => plain(activation, FactorKind::Activation)
                .or_else(|| plain(gradient, FactorKind::Gradient)),
            Self::Diagonal(block) | Self::Full(block) => plain(block, FactorKind::Block),
        }
    }
}

impl KroneckerFactors {
    fn damped(&self, gamma: f64, pi: f64) -> Self {
        Self {
            activation: plus_identity(&self.activation, pi * gamma),
            gradient: plus_identity(&self.gradient, gamma / pi),
        }
    }

    fn averaged(&self, new: Self, old_weight: f64) -> Self {
        Self {
            activation: mix(&self.activation, new.activation, old_weight),
            gradient: mix(&self.gradient, new.gradient, old_weight),
        }
    }

    /// The factor with an element that is not finite, if any.
    ///
    /// The diagonal tells: by Cauchy and Schwarz no element of a second moment is larger than the
    /// diagonal's, and a NaN in a column reaches its diagonal element.
    pub(crate) fn non_finite(&self) -> Option<FactorKind> {
        let finite = |factor: &Tensor<2>| {
            let dimension = factor.dims()[0];
            let elements = factor.clone().reshape([dimension * dimension]);
            let diagonal: Tensor<1> = elements.slice(s![..;dimension.cast_signed() + 1]);
            host::sum(diagonal).is_finite()
        };
        if !finite(&self.activation) {
            Some(FactorKind::Activation)
        } else if !finite(&self.gradient) {
            Some(FactorKind::Gradient)
        } else {
            None
        }
    }
}
