//! What a layer is: its parameters as one matrix.

use std::borrow::Cow;

use burn::{module::ParamId, tensor::Tensor};
use serde::{Deserialize, Serialize};

use super::layout::WeightLayout;

/// A use of parameters that has a curvature block.
///
/// Its parameters are one matrix: a row for each input, then one for the bias, where it has one; a
/// column for each output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// Where the layer sits in the model, for instance `encoder.0`.
    pub path: String,
    /// What the layer is called, for instance `convolution`.
    pub name: Cow<'static, str>,
    /// How its parameters act on its inputs.
    pub action: ParameterAction,
    /// Identity of the weight.
    pub weight: ParamId,
    /// Identity of the bias that is trained with it; `None` where there is none or it is frozen.
    pub bias: Option<ParamId>,
    /// How the weight is stored.
    pub layout: WeightLayout,
    /// Rows of the parameters' matrix, the bias not counted: the inputs of a dense layer, the
    /// elements of a patch of one group of a convolution, the tokens of an embedding, otherwise one.
    pub d_in: usize,
    /// Columns of the parameters' matrix: the outputs, of all groups together.
    pub d_out: usize,
    /// Positions of a case at which the parameters are used.
    pub positions: usize,
    /// How positions at which the parameters are shared count: never [`WeightSharing::Automatic`].
    pub sharing: WeightSharing,
    /// The chain that the layer is in, counted from one: consecutive layers that are each used once,
    /// at one position a case. `None` for a layer without such a neighbour.
    pub chain: Option<usize>,
}

/// How a layer's parameters act on its inputs: what its gradient is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterAction {
    /// The matrix multiplies rows of inputs: `s = Wᵀ ā`, as in dense layers and, with patches as rows,
    /// in convolutions. With groups, each group of outputs has inputs of its own.
    Product {
        /// The number of groups.
        groups: usize,
    },
    /// A row of the matrix is looked up for each token: a product with one-hot inputs.
    Lookup,
    /// Scale and, with a bias, shift of normalised features, one by one.
    Scale,
    /// A parameter on its own, without inputs.
    Alone,
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
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum WeightSharing {
    /// Each position counts on its own: exact for deep linear networks whose loss sums over
    /// positions, as in language models.
    #[default]
    Expand,
    /// The positions of a case count together: exact for deep linear networks that pool positions
    /// before the loss, and cheaper by the number of positions.
    Reduce,
    /// What fits each layer: the positions of a dense layer count together where the network's outputs have none, as
    /// after a mean over positions, and on their own in all others. A network that lays its positions out in one row of
    /// outputs wants `Expand`. A layer that was found has one of the other two.
    Automatic,
}

impl WeightSharing {
    /// What it is of a layer, whose positions the network pools or not.
    pub(crate) fn of_layer(self, pooled: bool) -> Self {
        match self {
            Self::Automatic if pooled => Self::Reduce,
            Self::Automatic => Self::Expand,
            chosen => chosen,
        }
    }
}

impl ParameterAction {
    /// The number of blocks that the layer's outputs are divided among.
    pub fn groups(self) -> usize {
        match self {
            Self::Product { groups } => groups,
            Self::Lookup | Self::Scale | Self::Alone => 1,
        }
    }
}

impl Layer {
    /// Rows of the parameters' matrix, and the dimension of the input factor: the inputs, and the
    /// appended one if there is a bias.
    pub fn activation_dimension(&self) -> usize {
        self.d_in + usize::from(self.bias.is_some())
    }

    /// The shape of the parameters' matrix, the transpose of the paper's `W`: `[d_in + 1, d_out]`, or
    /// `[d_in, d_out]` without bias.
    pub fn matrix_shape(&self) -> [usize; 2] {
        [self.activation_dimension(), self.d_out]
    }

    /// The elements of the parameters' matrix, the dimension of the layer's block.
    pub fn dimension(&self) -> usize {
        self.matrix_shape().iter().product()
    }

    /// The dimension of the output factor: the outputs of one group.
    pub fn gradient_dimension(&self) -> usize {
        self.d_out / self.action.groups()
    }

    /// The numbers that a pass holds of a case for the layer, at most: inputs, and outputs with their probes
    /// and gradients.
    pub(crate) fn captured_elements(&self) -> usize {
        let inputs = match self.action {
            ParameterAction::Product { groups } => self.d_in * groups,
            ParameterAction::Scale => self.d_out,
            ParameterAction::Lookup | ParameterAction::Alone => 1,
        };
        self.positions * (inputs + 3 * self.d_out)
    }

    /// The weight in the order in which it is stored, and the bias, from the parameters' matrix.
    pub(super) fn weight_and_bias(&self, matrix: &Tensor<2>) -> (Tensor<1>, Option<Tensor<1>>) {
        let weight = matrix.clone().slice_dim(0, 0..self.d_in);
        let bias = self.bias.map(|_| {
            let row: Tensor<2> = matrix.clone().slice_dim(0, self.d_in..=self.d_in);
            row.flatten(0, 1)
        });
        (self.layout.stored(weight), bias)
    }

    /// The parameters' matrix from the weight in the order in which it is stored, and the bias.
    pub(super) fn matrix(&self, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let weight = self.layout.matrix(weight, [self.d_in, self.d_out]);
        match bias {
            Some(bias) => Tensor::cat(vec![weight, bias.reshape([1, self.d_out])], 0),
            None => weight,
        }
    }
}
