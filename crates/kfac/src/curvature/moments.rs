//! The second moments of one layer in one pass, in the form of its block (section 5 and extensions).

use burn::tensor::Tensor;

use crate::{
    capture::{BlockStructure, Layer, LayerKind, LayerUses, WeightSharing, sum_by_token},
    statistics::second_moment,
};

/// Sums of outer products of one layer.
#[derive(Clone, Debug)]
pub(super) enum LayerMoments {
    /// Of a block that is a Kronecker product, or one a group.
    Product(ProductMoments),
    /// The block itself, summed over cases.
    Block(Tensor<2>),
    /// The gradient of a parameter on its own, summed over cases: its square is the diagonal block.
    Gradient(Tensor<2>),
}

/// Sums for Kronecker products, one of each group.
#[derive(Clone, Debug)]
pub(super) struct ProductMoments {
    /// Of the inputs; empty for a further column of the output Fisher's factor.
    pub(super) activation: Vec<Tensor<2>>,
    /// Of the output gradients.
    pub(super) gradient: Vec<Tensor<2>>,
    /// What the sums of gradients are to be divided by.
    pub(super) count: f64,
}

/// What a pass adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moments {
    Both,
    /// A further column of the output Fisher's factor: the activations were counted already.
    GradientOnly,
}

impl LayerMoments {
    /// The sums over all uses of a layer in a pass.
    pub(super) fn of(layer: &Layer, uses: &LayerUses, moments: Moments) -> Self {
        match (layer.structure, layer.sharing) {
            (BlockStructure::Kronecker, WeightSharing::Expand) => {
                Self::Product(expanded(layer, uses, moments))
            }
            (BlockStructure::Kronecker, WeightSharing::Reduce) => {
                Self::Product(reduced(layer, uses, moments))
            }
            (BlockStructure::DiagonalKronecker, sharing) => {
                Self::Product(embedding(layer, uses, (sharing, moments)))
            }
            (BlockStructure::Diagonal, _) if layer.kind == LayerKind::Parameter => {
                Self::Gradient(gradients_of_cases(layer, uses))
            }
            (BlockStructure::Diagonal, _) => {
                let d = gradients_of_cases(layer, uses);
                let squares: Tensor<2> = (d.clone() * d).sum_dim(0);
                Self::Block(squares.reshape([layer.activation_dimension(), layer.d_out]))
            }
            (BlockStructure::Full, _) => {
                Self::Block(second_moment(gradients_of_cases(layer, uses)))
            }
        }
    }

    /// A sum of gradients squared; all else as it is.
    #[must_use]
    pub(super) fn squared(self) -> Self {
        match self {
            Self::Gradient(sum) => Self::Block(sum.clone() * sum),
            moments => moments,
        }
    }

    /// These sums and those of another pass.
    #[must_use]
    pub(super) fn plus(self, pass: Self, moments: Moments) -> Self {
        match (self, pass) {
            (Self::Product(sum), Self::Product(pass)) => Self::Product(sum.plus(pass, moments)),
            (Self::Block(sum), Self::Block(pass)) => Self::Block(sum + pass),
            (Self::Gradient(sum), Self::Gradient(pass)) => Self::Gradient(sum + pass),
            // A layer's block has one structure.
            (sum, _) => sum,
        }
    }
}

impl ProductMoments {
    fn plus(self, pass: Self, moments: Moments) -> Self {
        let gradient = added(self.gradient, pass.gradient);
        match moments {
            Moments::GradientOnly => Self { gradient, ..self },
            Moments::Both => Self {
                activation: added(self.activation, pass.activation),
                gradient,
                count: self.count + pass.count,
            },
        }
    }
}

/// Every position on its own.
fn expanded(layer: &Layer, uses: &LayerUses, moments: Moments) -> ProductMoments {
    let activation = match moments {
        Moments::GradientOnly => Vec::new(),
        Moments::Both => summed(layer, uses, |features| {
            let [n, positions, d] = features.dims();
            second_moment(features.reshape([n * positions, d]))
        }),
    };
    ProductMoments {
        activation,
        gradient: expanded_gradients(layer, uses),
        count: uses.positions(),
    }
}

/// The positions of a case together.
fn reduced(layer: &Layer, uses: &LayerUses, moments: Moments) -> ProductMoments {
    let activation = match moments {
        Moments::GradientOnly => Vec::new(),
        Moments::Both => summed(layer, uses, |features| {
            second_moment(features.sum_dim(1).squeeze_dim(1))
        }),
    };
    ProductMoments {
        activation,
        gradient: reduced_gradients(layer, uses),
        count: uses.cases() as f64,
    }
}

/// Tokens: of the inputs' factor only the diagonal, as a column.
fn embedding(
    layer: &Layer,
    uses: &LayerUses,
    (sharing, moments): (WeightSharing, Moments),
) -> ProductMoments {
    let activation = match (moments, sharing) {
        (Moments::GradientOnly, _) => Vec::new(),
        (Moments::Both, WeightSharing::Expand) => token_counts(layer, uses),
        (Moments::Both, WeightSharing::Reduce) => summed(layer, uses, |one_hot| {
            let counts: Tensor<2> = one_hot.sum_dim(1).squeeze_dim(1);
            (counts.clone() * counts).sum_dim(0).transpose()
        }),
    };
    let (gradient, count) = match sharing {
        WeightSharing::Expand => (expanded_gradients(layer, uses), uses.positions()),
        WeightSharing::Reduce => (reduced_gradients(layer, uses), uses.cases() as f64),
    };
    ProductMoments {
        activation,
        gradient,
        count,
    }
}

fn added(sums: Vec<Tensor<2>>, others: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    sums.into_iter().zip(others).map(|(a, b)| a + b).collect()
}

/// The sum over pieces of the cases of what `moment` makes of each group's features.
fn summed(
    layer: &Layer,
    uses: &LayerUses,
    moment: impl Fn(Tensor<3>) -> Tensor<2>,
) -> Vec<Tensor<2>> {
    let form = (layer.kind.groups(), layer.bias.is_some());
    let pieces = uses.pieces().into_iter();
    let of_piece = |cases| {
        let groups = uses.features(&cases, form);
        groups.into_iter().map(&moment).collect::<Vec<_>>()
    };
    pieces.map(of_piece).reduce(added).unwrap_or_default()
}

fn expanded_gradients(layer: &Layer, uses: &LayerUses) -> Vec<Tensor<2>> {
    let gradients = uses.output_gradients();
    let [n, positions, d_out] = gradients.dims();
    by_group(layer, &gradients.reshape([n * positions, d_out]))
}

fn reduced_gradients(layer: &Layer, uses: &LayerUses) -> Vec<Tensor<2>> {
    let sums: Tensor<2> = uses.output_gradients().sum_dim(1).squeeze_dim(1);
    // A case that is all padding has gradients of zero.
    let positions = uses.positions_of_cases().clamp_min(1.0);
    by_group(layer, &(sums / positions))
}

/// The second moment of each group's columns.
fn by_group(layer: &Layer, gradients: &Tensor<2>) -> Vec<Tensor<2>> {
    let columns = |group| super::block::columns(gradients, layer.kind.groups(), group);
    let groups = 0..layer.kind.groups();
    groups.map(|group| second_moment(columns(group))).collect()
}

/// How often each token occurs, `[count, 1]`.
fn token_counts(layer: &Layer, uses: &LayerUses) -> Vec<Tensor<2>> {
    let counts = uses.tokens().map(|(tokens, weights)| {
        let occurrences = weights.dims().iter().product();
        let weights = weights.reshape([occurrences, 1]);
        sum_by_token(tokens.flatten(0, 1), weights, layer.d_in)
    });
    counts.into_iter().collect()
}

/// Each case's gradient of the parameters of a layer without products, `[n, rows · d_out]`.
fn gradients_of_cases(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    let gradients = uses.output_gradients();
    let features = uses.features(&(0..gradients.dims()[0]), (1, false));
    let scales = features.into_iter().map(|f| f * gradients.clone());
    let shifts = layer.bias.map(|_| gradients.clone());
    let parts = scales
        .chain(shifts)
        .map(|part| part.sum_dim(1).squeeze_dim(1));
    Tensor::cat(parts.collect(), 1)
}
