//! What the tape keeps of a layer at work: its inputs and the gradients at its outputs.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::patches::PatchGeometry;
use crate::statistics::append_ones;

/// The recorded layers of one forward and backward pass.
#[derive(Debug)]
pub(crate) struct CapturedPass {
    /// The number of cases.
    pub(crate) cases: usize,
    /// By layer; without uses where the layer was not called.
    pub(crate) layers: Vec<LayerUses>,
}

impl CapturedPass {
    /// No layer called yet.
    pub(crate) fn empty(layers: usize, cases: usize) -> Self {
        Self {
            cases,
            layers: (0..layers).map(|_| LayerUses::default()).collect(),
        }
    }

    /// The pass with one leading row for each case, see [`LayerUses::by_case`].
    #[must_use]
    pub(super) fn by_case(self) -> Self {
        let cases = self.cases;
        let layers = self.layers.into_iter().map(|uses| uses.by_case(cases));
        Self {
            cases,
            layers: layers.collect(),
        }
    }
}

/// All uses of a layer in one pass: together they are its positions.
#[derive(Debug, Default)]
pub(crate) struct LayerUses(Vec<LayerCapture>);

/// What one use of a layer left on the tape.
#[derive(Debug)]
pub(crate) struct LayerCapture {
    pub(crate) inputs: Inputs,
    /// Gradients of the summed per-case losses in the layer's outputs, `[n, R, d_out]`; zero at
    /// padded positions.
    pub(crate) output_gradients: Tensor<3>,
    /// One at each position that counts and zero at the padded ones, `[n, R]`; `None` where all count.
    pub(crate) valid: Option<Tensor<2>>,
}

/// The inputs of a layer.
#[derive(Clone, Debug)]
pub(crate) enum Inputs {
    /// The features at each position, `[n, R, d]`.
    Features(Tensor<3>),
    /// An input whose patches are the features: they are made a piece at a time.
    Patches(PatchedInput),
    /// The token at each position, `[n, R]`, out of so many: the features are one-hot.
    Tokens(Tensor<2, Int>, usize),
    /// A parameter on its own, whose gradient is the sum over cases: the feature is one.
    One,
}

/// The input of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct PatchedInput {
    /// `[n · folded, channels, depth, height, width]`
    pub(crate) input: Tensor<5>,
    pub(crate) geometry: PatchGeometry,
    /// The rows of the input that belong to one case.
    pub(crate) folded: usize,
}

impl PatchedInput {
    /// The patches at each position of some cases, `[len(cases), R, d]`.
    fn patches(&self, cases: &Range<usize>) -> Tensor<3> {
        let rows = cases.start * self.folded..cases.end * self.folded;
        let patches = self.geometry.patches(&self.input, rows);
        let [_, positions, d] = patches.dims();
        patches.reshape([cases.len(), self.folded * positions, d])
    }

    /// The elements of a case's patches.
    fn elements(&self) -> usize {
        let positions = self.folded * self.geometry.positions();
        self.input.dims()[1] * self.geometry.offsets() * positions
    }
}

/// At most this many elements of patches are made at once.
const PIECE: usize = 1 << 22;

impl LayerUses {
    pub(super) fn push(&mut self, capture: LayerCapture) {
        self.0.push(capture);
    }

    /// Whether the layer was not called.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The uses with one leading row for each of `cases` cases: a network may have folded positions
    /// into the axis of the cases.
    #[must_use]
    fn by_case(self, cases: usize) -> Self {
        Self(self.0.into_iter().map(|u| u.by_case(cases)).collect())
    }

    /// The number of cases: of rows, where positions are folded into them.
    pub(crate) fn cases(&self) -> usize {
        self.0.first().map_or(0, |u| u.output_gradients.dims()[0])
    }

    /// The number of positions of all cases that count.
    pub(crate) fn positions(&self) -> f64 {
        self.0.iter().map(LayerCapture::positions).sum()
    }

    /// The number of positions of each case that count, `[n, 1]`.
    pub(crate) fn positions_of_cases(&self) -> Tensor<2> {
        let weights = self.0.iter().map(LayerCapture::weights);
        Tensor::cat(weights.collect(), 1).sum_dim(1)
    }

    /// The gradients at all positions, `[n, R, d_out]`.
    pub(crate) fn output_gradients(&self) -> Tensor<3> {
        match self.0.as_slice() {
            [only] => only.output_gradients.clone(),
            uses => Tensor::cat(uses.iter().map(|u| u.output_gradients.clone()).collect(), 1),
        }
    }

    /// The features of each group at all positions of some cases, `[len(cases), R, d]`, with a one
    /// appended where `homogeneous`.
    pub(crate) fn features(
        &self,
        cases: &Range<usize>,
        (groups, homogeneous): (usize, bool),
    ) -> Vec<Tensor<3>> {
        let mut uses = self
            .0
            .iter()
            .map(|u| u.features(cases, groups, homogeneous));
        let Some(first) = uses.next() else {
            return Vec::new();
        };
        uses.fold(first, |all, next| {
            let together = |(a, b): (Tensor<3>, Tensor<3>)| Tensor::cat(vec![a, b], 1);
            all.into_iter().zip(next).map(together).collect()
        })
    }

    /// Ranges of cases whose features are few enough to be held at once: all cases, where they are in
    /// memory anyway.
    pub(crate) fn pieces(&self) -> Vec<Range<usize>> {
        pieces(self.cases(), self.made_elements())
    }

    /// The elements of the features of a case that are not in memory yet.
    pub(crate) fn made_elements(&self) -> usize {
        self.0.iter().map(LayerCapture::made_elements).sum()
    }

    /// The tokens at all positions with what counts of each, `[n, R]`; `None` where the layer does not
    /// take tokens.
    pub(crate) fn tokens(&self) -> Option<(Tensor<2, Int>, Tensor<2>)> {
        let of = |u: &LayerCapture| match &u.inputs {
            Inputs::Tokens(tokens, _) => Some((tokens.clone(), u.weights())),
            _ => None,
        };
        let (tokens, weights): (Vec<_>, Vec<_>) = self
            .0
            .iter()
            .map(of)
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .unzip();
        Some((Tensor::cat(tokens, 1), Tensor::cat(weights, 1)))
    }
}

/// Ranges of cases with at most [`PIECE`] elements together, `elements` in each case.
pub(crate) fn pieces(cases: usize, elements: usize) -> Vec<Range<usize>> {
    let size = (PIECE / elements.max(1)).clamp(1, cases.max(1));
    let starts = (0..cases).step_by(size);
    starts.map(|at| at..(at + size).min(cases)).collect()
}

impl LayerCapture {
    fn by_case(self, cases: usize) -> Self {
        let [rows, positions, d_out] = self.output_gradients.dims();
        if rows == cases || !rows.is_multiple_of(cases) || matches!(self.inputs, Inputs::One) {
            return self;
        }
        let folded = rows / cases;
        let together = folded * positions;
        let inputs = match self.inputs {
            Inputs::Features(features) => {
                let d = features.dims()[2];
                Inputs::Features(features.reshape([cases, together, d]))
            }
            Inputs::Tokens(tokens, count) => {
                Inputs::Tokens(tokens.reshape([cases, together]), count)
            }
            Inputs::Patches(patched) => Inputs::Patches(PatchedInput {
                folded: patched.folded * folded,
                ..patched
            }),
            Inputs::One => Inputs::One,
        };
        Self {
            inputs,
            output_gradients: self.output_gradients.reshape([cases, together, d_out]),
            valid: self.valid.map(|valid| valid.reshape([cases, together])),
        }
    }

    fn positions(&self) -> f64 {
        let [n, positions, _] = self.output_gradients.dims();
        match &self.valid {
            Some(valid) => crate::linalg::host::sum(valid.clone()),
            None => (n * positions) as f64,
        }
    }

    /// What counts of each position, `[n, R]`.
    fn weights(&self) -> Tensor<2> {
        let [n, positions, _] = self.output_gradients.dims();
        let options = (
            &self.output_gradients.device(),
            self.output_gradients.dtype(),
        );
        let ones = || Tensor::ones([n, positions], options);
        self.valid.clone().unwrap_or_else(ones)
    }

    /// The elements of a case's features that are not in memory yet.
    fn made_elements(&self) -> usize {
        match &self.inputs {
            Inputs::Patches(patched) => patched.elements(),
            Inputs::Tokens(tokens, count) => tokens.dims()[1] * count,
            Inputs::Features(_) | Inputs::One => 0,
        }
    }

    fn features(&self, cases: &Range<usize>, groups: usize, homogeneous: bool) -> Vec<Tensor<3>> {
        let features = self.inputs_of(cases);
        let valid = self.valid.as_ref().map(|valid| {
            let valid: Tensor<2> = valid.clone().slice_dim(0, cases.clone());
            valid.unsqueeze_dim::<3>(2)
        });
        let [n, positions, all] = features.dims();
        let of_group = all / groups;
        let group = |group: usize| {
            let own = if groups == 1 {
                features.clone()
            } else {
                let own = group * of_group..(group + 1) * of_group;
                features.clone().slice_dim(2, own)
            };
            let own = if homogeneous {
                append_ones(own.reshape([n * positions, of_group])).reshape([
                    n,
                    positions,
                    of_group + 1,
                ])
            } else {
                own
            };
            match &valid {
                Some(valid) => own * valid.clone(),
                None => own,
            }
        };
        (0..groups).map(group).collect()
    }

    /// The inputs at each position of some cases, `[len(cases), R, d]`.
    fn inputs_of(&self, cases: &Range<usize>) -> Tensor<3> {
        match &self.inputs {
            Inputs::Features(features) if *cases == (0..features.dims()[0]) => features.clone(),
            Inputs::Features(features) => features.clone().slice_dim(0, cases.clone()),
            Inputs::Patches(patched) => patched.patches(cases),
            Inputs::Tokens(tokens, count) => {
                let tokens: Tensor<2, Int> = tokens.clone().slice_dim(0, cases.clone());
                let dtype = self.output_gradients.dtype();
                tokens.one_hot::<3>(*count).float().cast(dtype)
            }
            Inputs::One => {
                let weights: Tensor<2> = self.weights().slice_dim(0, cases.clone());
                weights.unsqueeze_dim(2)
            }
        }
    }
}

/// Adds up values by token: row `t` of the result is the sum of the values of token `t`.
///
/// # Shapes
///
/// `[n], [n, d] -> [count, d]`
pub(crate) fn sum_by_token(tokens: Tensor<1, Int>, values: Tensor<2>, count: usize) -> Tensor<2> {
    let d = values.dims()[1];
    let zeros = Tensor::<2>::zeros([count, d], (&values.device(), values.dtype()));
    zeros.select_assign(0, tokens, values, IndexingUpdateOp::Add)
}
