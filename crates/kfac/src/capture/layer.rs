//! What a layer is: its parameters as one matrix, and the curvature block that covers them.

use burn::{module::ParamId, tensor::Tensor};
use serde::{Deserialize, Serialize};

/// A use of parameters that has a curvature block.
///
/// Its parameters are one matrix: a row for each input, then one for the bias, where it has one; a
/// column for each output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where the layer sits in the model, for instance `encoder.0`.
    pub path: String,
    /// What the layer computes.
    pub kind: LayerKind,
    /// Identity of the weight.
    pub weight: ParamId,
    /// Identity of the bias that is trained with it; `None` where there is none or it is frozen.
    pub bias: Option<ParamId>,
    /// Rows of the parameters' matrix, the bias not counted: the inputs of a dense layer, the
    /// elements of a patch of one group of a convolution, the tokens of an embedding, otherwise one.
    pub d_in: usize,
    /// Columns of the parameters' matrix: the outputs, of all groups together.
    pub d_out: usize,
    /// Positions of a case at which the parameters are used.
    pub positions: usize,
    /// How the block is approximated.
    pub structure: BlockStructure,
    /// How positions at which the parameters are shared count.
    pub sharing: WeightSharing,
    /// The chain that the layer is in, counted from one: consecutive layers that are each used once,
    /// at one position a case. `None` for a layer without such a neighbour.
    pub chain: Option<usize>,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// `s = W ā`, at any number of positions.
    Dense,
    /// The same of the patches of an input, each group of output channels of the patches of its own
    /// input channels.
    Convolution {
        /// Number of groups; each has factors of its own.
        groups: usize,
    },
    /// The transpose of a convolution, as the convolution of its zero-stuffed input that it is.
    TransposedConvolution {
        /// Number of groups; each has factors of its own.
        groups: usize,
        /// Input channels of one group.
        channels_in: usize,
    },
    /// A row of the weight for each token: a dense layer of one-hot inputs.
    Embedding,
    /// Scale and shift of normalised features.
    ScaleShift,
    /// A parameter on its own.
    Parameter,
}

/// How a layer's block of the Fisher is approximated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockStructure {
    /// `Ā ⊗ G`; with groups, one such product for each.
    Kronecker,
    /// `diag(E[ā ⊙ ā]) ⊗ G`: the input factor of one-hot inputs has nothing off its diagonal.
    DiagonalKronecker,
    /// Only the diagonal.
    Diagonal,
    /// All elements.
    Full,
}

/// How the positions at which a layer shares its weights count (Eschenhagen et al. 2023).
///
/// # Definition
///
/// With inputs `a_{n,r}` and output gradients `g_{n,r}` of case `n` at position `r` of `R`:
///
/// ```text
/// Expand:  Ā = (1/N) Σ_n Σ_r a aᵀ              G = 1/(N R) Σ_n Σ_r g gᵀ
/// Reduce:  Ā = (1/N) Σ_n (Σ_r a)(Σ_r a)ᵀ       G = (1/N) Σ_n (mean_r g)(mean_r g)ᵀ
/// ```
///
/// All uses of a layer in one forward pass are its positions. At one position the two agree.
///
/// # References
///
/// Eschenhagen, Immer, Turner, Schneider and Hennig (2023), *Kronecker-Factored Approximate Curvature
/// for Modern Neural Network Architectures*, arXiv 2311.00636. For convolutions `Expand` is the KFC of
/// Grosse and Martens (2016), arXiv 1602.01407.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightSharing {
    /// Each position counts on its own: exact for deep linear networks whose loss sums over
    /// positions, as in language models.
    #[default]
    Expand,
    /// The positions of a case count together: exact for deep linear networks that pool positions
    /// before the loss, and cheaper by the number of positions.
    Reduce,
}

/// How the block of a scale and shift is approximated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleShiftBlock {
    /// `E[d²]` for each parameter.
    #[default]
    Diagonal,
    /// `E[d dᵀ]` for all scales and shifts of the layer: exact, of the size of the features squared.
    Full,
}

/// What is chosen about the layers' blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerOptions {
    /// Weight sharing, where nothing is said about the layer.
    pub sharing: WeightSharing,
    /// Weight sharing of layers, by their paths.
    pub sharing_of: Vec<(String, WeightSharing)>,
    /// The blocks of scales and shifts.
    pub scale_shift: ScaleShiftBlock,
}

impl LayerOptions {
    pub(super) fn sharing(&self, path: &str) -> WeightSharing {
        let named = self.sharing_of.iter().find(|(layer, _)| layer == path);
        named.map_or(self.sharing, |(_, sharing)| *sharing)
    }

    pub(super) fn structure(&self, kind: LayerKind) -> BlockStructure {
        match (kind, self.scale_shift) {
            (
                LayerKind::Dense
                | LayerKind::Convolution { .. }
                | LayerKind::TransposedConvolution { .. },
                _,
            ) => BlockStructure::Kronecker,
            (LayerKind::Embedding, _) => BlockStructure::DiagonalKronecker,
            (LayerKind::ScaleShift, ScaleShiftBlock::Full) => BlockStructure::Full,
            (LayerKind::ScaleShift | LayerKind::Parameter, _) => BlockStructure::Diagonal,
        }
    }
}

impl LayerKind {
    /// The number of blocks that the layer's outputs are divided among.
    pub fn groups(self) -> usize {
        match self {
            Self::Convolution { groups } | Self::TransposedConvolution { groups, .. } => groups,
            Self::Dense | Self::Embedding | Self::ScaleShift | Self::Parameter => 1,
        }
    }
}

impl Layer {
    /// Rows of the parameters' matrix, and the dimension of the input factor: the inputs, and the
    /// appended one if there is a bias.
    pub fn activation_dimension(&self) -> usize {
        self.d_in + usize::from(self.bias.is_some())
    }

    /// The dimension of the output factor: the outputs of one group.
    pub fn gradient_dimension(&self) -> usize {
        self.d_out / self.kind.groups()
    }

    /// The weight in the order in which it is stored, and the bias, from the parameters' matrix.
    pub(super) fn weight_and_bias(&self, matrix: &Tensor<2>) -> (Tensor<1>, Option<Tensor<1>>) {
        let weight = matrix.clone().slice_dim(0, 0..self.d_in);
        let bias = self.bias.map(|_| {
            let row: Tensor<2> = matrix.clone().slice_dim(0, self.d_in..=self.d_in);
            row.flatten(0, 1)
        });
        (self.stored(weight), bias)
    }

    /// The parameters' matrix from the weight in the order in which it is stored, and the bias.
    pub(super) fn matrix(&self, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let weight = self.as_rows(weight);
        match bias {
            Some(bias) => Tensor::cat(vec![weight, bias.reshape([1, self.d_out])], 0),
            None => weight,
        }
    }

    fn as_rows(&self, stored: Tensor<1>) -> Tensor<2> {
        match self.kind {
            LayerKind::Convolution { .. } => stored.reshape([self.d_out, self.d_in]).transpose(),
            LayerKind::TransposedConvolution {
                groups,
                channels_in,
            } => {
                let [outputs, offsets] = self.transposed_dimensions(groups, channels_in);
                stored
                    .reshape([groups, channels_in, outputs, offsets])
                    .permute([1, 3, 0, 2])
                    .reshape([self.d_in, self.d_out])
            }
            _ => stored.reshape([self.d_in, self.d_out]),
        }
    }

    fn stored(&self, rows: Tensor<2>) -> Tensor<1> {
        match self.kind {
            LayerKind::Convolution { .. } => rows.transpose().flatten(0, 1),
            LayerKind::TransposedConvolution {
                groups,
                channels_in,
            } => {
                let [outputs, offsets] = self.transposed_dimensions(groups, channels_in);
                rows.reshape([channels_in, offsets, groups, outputs])
                    .permute([2, 0, 3, 1])
                    .flatten(0, 3)
            }
            _ => rows.flatten(0, 1),
        }
    }

    /// Outputs of a group, and kernel offsets.
    fn transposed_dimensions(&self, groups: usize, channels_in: usize) -> [usize; 2] {
        [self.d_out / groups, self.d_in / channels_in]
    }
}
