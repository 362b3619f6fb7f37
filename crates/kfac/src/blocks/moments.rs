//! The second moments of a layer, summed over the passes of a batch (section 5 and extensions).

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    capture::LayerUses,
    linalg::{columns, cross_moment, second_moment},
    network::{Layer, ParameterAction, WeightSharing},
};

/// What a pass over the network is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Whether it is the first pass over its cases. Others only bring further output gradients: inputs
    /// are counted once.
    pub first: bool,
    /// What is known of the output gradients.
    pub gradients: GradientKind,
}

/// What is known of the output gradients of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientKind {
    /// They are of sampled targets: those of different cases are independent, with mean zero.
    Sampled {
        /// Which of the samples of each case, counted from zero.
        sample: usize,
    },
    /// They are not; where a parameter shows its gradient summed over cases only, the pass is over a
    /// single case.
    Given,
}

/// The sums of one layer over the passes of a batch, whose means are the factors of its block.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Sums over cases of what depends on the layer's inputs alone; empty in passes that are not the
    /// first over their cases.
    pub inputs: Vec<Tensor<2>>,
    /// Sums that the output gradients are in, over all passes.
    pub gradients: Vec<Tensor<2>>,
    /// What the sums of gradients are divided by.
    pub divisor: Divisor,
    /// What is done to the sums of gradients before that.
    pub finish: Finish,
}

/// What sums of gradients are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divisor {
    /// The number of cases of the batch.
    Cases,
    /// A count of its own, summed over the first passes, for instance of positions.
    Count(f64),
}

/// What is done to sums of gradients before they are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Nothing: they are sums of squares already.
    Mean,
    /// They are sums of the gradients themselves over cases, to be squared once all are in: a sum for
    /// each sample, of which a pass has one.
    Square {
        /// Which of the samples, counted from zero.
        sample: usize,
    },
    /// The same with the second moment of each sum, a row, in the place of its squares.
    SecondMoment {
        /// Which of the samples, counted from zero.
        sample: usize,
    },
}

impl Moments {
    /// These sums and those of a later pass.
    #[must_use]
    pub fn plus(self, pass: Self) -> Self {
        let inputs = if pass.inputs.is_empty() {
            self.inputs
        } else {
            added(self.inputs, pass.inputs)
        };
        let divisor = match (self.divisor, pass.divisor) {
            (Divisor::Count(sum), Divisor::Count(pass)) => Divisor::Count(sum + pass),
            (divisor, _) => divisor,
        };
        let gradients = match pass.finish {
            Finish::Mean => added(self.gradients, pass.gradients),
            Finish::Square { sample } | Finish::SecondMoment { sample } => {
                added_at(sample, self.gradients, pass.gradients)
            }
        };
        Self {
            inputs,
            gradients,
            divisor,
            finish: self.finish,
        }
    }

    /// The means over a batch of so many cases, those of the inputs first.
    pub fn means(self, cases: usize) -> Vec<Tensor<2>> {
        let divisor = match self.divisor {
            Divisor::Cases => cases as f64,
            Divisor::Count(count) => count,
        };
        let dtype = self.gradients.first().map(Tensor::dtype);
        // Sums may have been made in a higher precision than that of the network.
        let inputs = self.inputs.into_iter().map(|sum| {
            let mean = sum / cases as f64;
            match dtype {
                Some(dtype) => mean.cast(dtype),
                None => mean,
            }
        });
        let of_samples = |finished: fn(Tensor<2>) -> Tensor<2>| {
            let finished = self.gradients.iter().cloned().map(finished);
            finished.reduce(|all, one| all + one).into_iter().collect()
        };
        let gradients: Vec<Tensor<2>> = match self.finish {
            Finish::Mean => self.gradients,
            Finish::Square { .. } => of_samples(|sum| sum.clone() * sum),
            Finish::SecondMoment { .. } => of_samples(second_moment),
        };
        let gradients = gradients.into_iter().map(|sum| sum / divisor);
        inputs.chain(gradients).collect()
    }
}

fn added(sums: Vec<Tensor<2>>, others: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    sums.into_iter().zip(others).map(|(a, b)| a + b).collect()
}

/// The sums with a sample's own added to it: the next sample is a sum of its own.
fn added_at(sample: usize, mut sums: Vec<Tensor<2>>, own: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    match sums.get_mut(sample) {
        Some(sum) => {
            for own in own {
                *sum = sum.clone() + own;
            }
        }
        None => sums.extend(own),
    }
    sums
}

/// The sums of the two factors of each group of a product.
pub(super) fn of_product(layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
    let inputs = match (pass.first, layer.sharing) {
        (false, _) => Vec::new(),
        (true, WeightSharing::Reduce) => {
            let sums = uses.activation_sums(layer).into_iter();
            sums.map(second_moment).collect()
        }
        (true, WeightSharing::Expand | WeightSharing::Automatic) => uses.activation_moments(layer),
    };
    Moments {
        inputs,
        ..of_gradients(layer, uses, pass)
    }
}

/// The sums of the output factors of each group, without inputs.
pub(super) fn of_gradients(layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
    let (gradients, count) = match layer.sharing {
        WeightSharing::Reduce => (reduced_gradients(layer, uses), uses.cases() as f64),
        WeightSharing::Expand | WeightSharing::Automatic => {
            (uses.gradient_moments(layer), uses.positions())
        }
    };
    Moments {
        inputs: Vec::new(),
        gradients,
        divisor: Divisor::Count(if pass.first { count } else { 0.0 }),
        finish: Finish::Mean,
    }
}

/// The sum over parts of the cases of what `moment` makes of each group's activations.
pub(super) fn summed(
    layer: &Layer,
    uses: &LayerUses,
    moment: impl Fn(Tensor<3>) -> Tensor<2>,
) -> Vec<Tensor<2>> {
    let parts = uses.parts().into_iter();
    let of_part = |cases| {
        let groups = uses.activations(layer, &cases);
        groups.into_iter().map(&moment).collect::<Vec<_>>()
    };
    parts.map(of_part).reduce(added).unwrap_or_default()
}

fn reduced_gradients(layer: &Layer, uses: &LayerUses) -> Vec<Tensor<2>> {
    let sums: Tensor<2> = uses.output_gradients().sum_dim(1).squeeze_dim(1);
    // A case that is all padding has gradients of zero.
    let positions = uses.positions_of_cases().clamp_min(1.0);
    let means = sums / positions;
    let groups = layer.action.groups();
    let moment = |group| second_moment(columns(&means, groups, group));
    (0..groups).map(moment).collect()
}

/// The sum over cases of the squares of each case's gradient, in the shape of the layer's matrix.
pub(super) fn squared_gradients(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    match layer.action {
        ParameterAction::Product { .. } | ParameterAction::Lookup => {
            squares_of_products(layer, uses)
        }
        ParameterAction::Scale | ParameterAction::Alone => {
            let d = gradients_of_scales(layer, uses);
            let squares = d.clone() * d;
            squares.sum_dim(0).reshape(layer.matrix_shape())
        }
    }
}

fn squares_of_products(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    if uses.rows_of_case() == 1 {
        return squares_of_single_products(layer, uses);
    }
    let of_part = |cases: Range<usize>| {
        let gradients = uses.parameter_gradients(layer, &cases).into_iter();
        Tensor::cat(gradients.map(sum_of_squares).collect(), 0)
    };
    let parts = uses.parts_with(layer.dimension()).into_iter();
    let sums = parts.map(of_part).reduce(|sum, part| sum + part);
    let gradients = uses.output_gradients();
    let place = (&gradients.device(), gradients.dtype());
    let zeros = || Tensor::zeros(layer.matrix_shape(), place);
    sums.map_or_else(zeros, Tensor::transpose)
}

/// The same where a case has one position: its squared gradient is a product of squares.
fn squares_of_single_products(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    let gradients: Tensor<2> = uses.output_gradients().squeeze_dim(1);
    let groups = uses.activations(layer, &(0..uses.cases()));
    let count = groups.len();
    let of_group = |(group, activations): (usize, Tensor<3>)| {
        squared_products(
            activations.squeeze_dim(1),
            columns(&gradients, count, group),
        )
    };
    Tensor::cat(groups.into_iter().enumerate().map(of_group).collect(), 1)
}

/// `[n, d_A], [n, d_G] -> [d_A, d_G]`: the sum over cases of the squares of `a gᵀ`.
pub(crate) fn squared_products(a: Tensor<2>, g: Tensor<2>) -> Tensor<2> {
    cross_moment(a.clone() * a, g.clone() * g)
}

/// `[n, d, d′] -> [d, d′]`: the sum over cases of squares.
pub(crate) fn sum_of_squares(of_cases: Tensor<3>) -> Tensor<2> {
    (of_cases.clone() * of_cases).sum_dim(0).squeeze_dim(0)
}

/// Each case's gradient of the layer's parameters, `[n, rows · d_out]`: the layer's matrix read row by row.
pub(super) fn gradients_of_cases(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    match layer.action {
        ParameterAction::Product { .. } | ParameterAction::Lookup => {
            gradients_of_products(layer, uses)
        }
        ParameterAction::Scale | ParameterAction::Alone => gradients_of_scales(layer, uses),
    }
}

/// `Σ_r ā gᵀ` of each case, the groups' columns side by side.
fn gradients_of_products(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    let n = uses.cases();
    let groups = uses.parameter_gradients(layer, &(0..n));
    let matrices = Tensor::cat(groups, 1).swap_dims(1, 2); // [n, d_in + 1, d_out]
    matrices.reshape([n, layer.dimension()])
}

/// `Σ_r f ⊙ g` and, for shifts, `Σ_r g` of each case.
fn gradients_of_scales(layer: &Layer, uses: &LayerUses) -> Tensor<2> {
    let gradients = uses.output_gradients();
    let features = uses.features(layer, &(0..gradients.dims()[0]));
    let scales = features.into_iter().map(|f| f * gradients.clone());
    let shifts = layer.bias.map(|_| gradients.clone());
    let parts = scales
        .chain(shifts)
        .map(|part| part.sum_dim(1).squeeze_dim(1));
    Tensor::cat(parts.collect(), 1)
}
