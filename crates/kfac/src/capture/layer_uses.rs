//! What the tape keeps of a layer at work: its inputs and the gradients at its outputs.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

use super::inputs::Inputs;
use crate::{linalg::host, network::Layer};

/// The recorded layers of one forward and backward pass.
#[derive(Debug)]
pub(crate) struct CapturedPass {
    /// The number of cases.
    pub(crate) cases: usize,
    /// By layer; without uses where the layer was not called.
    pub(crate) layers: Vec<LayerUses>,
    /// A use that is not among these.
    pub(crate) misfit: Option<Misfit>,
}

/// A use of a layer of the user's own whose rows are not those of its outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misfit {
    pub(crate) layer: usize,
    /// Cases and positions of the rows.
    pub(crate) rows: [usize; 2],
    /// Cases and positions of the outputs.
    pub(crate) outputs: [usize; 2],
}

impl CapturedPass {
    /// A pass over so many cases, none of so many layers called yet.
    pub(crate) fn empty(layers: usize, cases: usize) -> Self {
        Self {
            cases,
            layers: (0..layers).map(|_| LayerUses::default()).collect(),
            misfit: None,
        }
    }

    /// The pass with all output gradients times a number.
    #[must_use]
    pub(crate) fn scaled(mut self, scale: f64) -> Self {
        for capture in self.layers.iter_mut().flat_map(|uses| &mut uses.0) {
            capture.output_gradients = capture.output_gradients.clone() * scale;
        }
        self
    }

    /// Where the pass was made.
    pub(crate) fn device(&self) -> Device {
        let uses = self.layers.iter().flat_map(|uses| &uses.0);
        let mut devices = uses.map(|u| u.output_gradients.device());
        devices.next().unwrap_or_default()
    }

    /// The pass with one leading row for each case: a network may have folded positions into the axis
    /// of the cases.
    #[must_use]
    pub(super) fn by_case(self) -> Self {
        let cases = self.cases;
        let of_layer =
            |uses: LayerUses| LayerUses(uses.0.into_iter().map(|u| u.by_case(cases)).collect());
        Self {
            cases,
            layers: self.layers.into_iter().map(of_layer).collect(),
            ..self
        }
    }
}

/// All uses of a layer in one pass: together they are its positions.
#[derive(Debug, Default)]
pub struct LayerUses(pub(super) Vec<LayerCapture>);

/// What one use of a layer left on the tape.
#[derive(Debug)]
pub(super) struct LayerCapture {
    pub(super) inputs: Inputs,
    /// Gradients of the summed per-case losses in the layer's outputs, `[n, R, d_out]`; zero at
    /// padded positions.
    pub(super) output_gradients: Tensor<3>,
    /// One at each position that counts and zero at the padded ones, `[n, R]`; `None` where all count.
    pub(super) valid: Option<Tensor<2>>,
}

/// At most this many elements of features are made at once.
const ELEMENTS_AT_ONCE: usize = 1 << 22;

impl LayerUses {
    pub(super) fn push(&mut self, capture: LayerCapture) {
        self.0.push(capture);
    }

    /// Whether the layer was not called.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of cases, `n`.
    pub fn cases(&self) -> usize {
        self.0.first().map_or(0, |u| u.output_gradients.dims()[0])
    }

    /// The number of positions of each case in all uses together, padded ones too.
    pub(crate) fn rows_of_case(&self) -> usize {
        let positions = self.0.iter().map(|u| u.output_gradients.dims()[1]);
        positions.sum()
    }

    /// The number of positions of all cases together; padded ones do not count.
    pub fn positions(&self) -> f64 {
        self.0.iter().map(LayerCapture::positions).sum()
    }

    /// The number of positions of each case, `[n, 1]`; padded ones do not count.
    pub fn positions_of_cases(&self) -> Tensor<2> {
        let weights = self.0.iter().map(LayerCapture::weights);
        Tensor::cat(weights.collect(), 1).sum_dim(1)
    }

    /// The gradients of each case's loss in the layer's outputs at all positions, `[n, R, d_out]`; zero
    /// at padded ones.
    pub fn output_gradients(&self) -> Tensor<3> {
        match self.0.as_slice() {
            [only] => only.output_gradients.clone(),
            uses => Tensor::cat(uses.iter().map(|u| u.output_gradients.clone()).collect(), 1),
        }
    }

    /// The inputs of the layer at all positions of some cases, `[len(cases), R, d_in]`, zero at padded
    /// ones; one tensor for each group of the layer's outputs.
    pub fn features(&self, layer: &Layer, cases: &Range<usize>) -> Vec<Tensor<3>> {
        self.grouped(layer.action.groups(), cases, false)
    }

    /// The same with a one appended where the layer has a bias: `ā`, `[len(cases), R, d_in + 1]`.
    pub fn activations(&self, layer: &Layer, cases: &Range<usize>) -> Vec<Tensor<3>> {
        self.grouped(layer.action.groups(), cases, layer.bias.is_some())
    }

    fn grouped(&self, groups: usize, cases: &Range<usize>, homogeneous: bool) -> Vec<Tensor<3>> {
        let of_use = |u: &LayerCapture| u.features(groups, cases, homogeneous);
        let mut by_use: Vec<_> = self.0.iter().map(|u| of_use(u).into_iter()).collect();
        if let [only] = &mut by_use[..] {
            return only.collect();
        }
        // All uses of a group together at once: one after another would copy the first of them again
        // for each of the others.
        let of_group = |_| Tensor::cat(by_use.iter_mut().filter_map(Iterator::next).collect(), 1);
        (0..groups).map(of_group).collect()
    }

    /// Ranges of cases whose features are few enough to be made at once: all cases, where they are in
    /// memory anyway.
    pub fn parts(&self) -> Vec<Range<usize>> {
        self.parts_with(0)
    }

    /// The same where so many more elements are made for each case.
    pub(crate) fn parts_with(&self, elements: usize) -> Vec<Range<usize>> {
        let made: usize = self.0.iter().map(|u| u.inputs.made_elements()).sum();
        at_once(self.cases(), made + elements).collect()
    }

    /// The tokens at all positions with what counts of each, `[n, R]`; `None` where the layer does not
    /// take tokens.
    pub fn tokens(&self) -> Option<(Tensor<2, Int>, Tensor<2>)> {
        let of = |u: &LayerCapture| match &u.inputs {
            Inputs::Tokens(tokens, _) => Some((tokens.clone(), u.weights())),
            _ => None,
        };
        let both: Option<Vec<_>> = self.0.iter().map(of).collect();
        let (tokens, weights): (Vec<_>, Vec<_>) = both?.into_iter().unzip();
        Some((Tensor::cat(tokens, 1), Tensor::cat(weights, 1)))
    }
}

/// Ranges of cases for each of which so many elements are made at once.
pub(super) fn at_once(cases: usize, elements: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (ELEMENTS_AT_ONCE / elements.max(1)).clamp(1, cases.max(1));
    let starts = (0..cases).step_by(size);
    starts.map(move |at| at..(at + size).min(cases))
}

impl LayerCapture {
    /// Cases and positions of the rows and of the outputs, where these are not the same.
    pub(super) fn misfit(&self) -> Option<[[usize; 2]; 2]> {
        let Inputs::Features(features) = &self.inputs else {
            return None;
        };
        let both = [features, &self.output_gradients].map(|tensor| {
            let [cases, positions, _] = tensor.dims();
            [cases, positions]
        });
        (both[0] != both[1]).then_some(both)
    }

    fn by_case(self, cases: usize) -> Self {
        let [rows, positions, d_out] = self.output_gradients.dims();
        if rows == cases || !rows.is_multiple_of(cases) || matches!(self.inputs, Inputs::One) {
            return self;
        }
        let folded = rows / cases;
        let together = folded * positions;
        Self {
            inputs: self.inputs.by_case(cases, folded),
            output_gradients: self.output_gradients.reshape([cases, together, d_out]),
            valid: self.valid.map(|valid| valid.reshape([cases, together])),
        }
    }

    fn positions(&self) -> f64 {
        let [n, positions, _] = self.output_gradients.dims();
        match &self.valid {
            Some(valid) => host::sum(valid.clone()),
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

    /// The inputs of each group at all positions of some cases, `[len(cases), R, d]`, and a one behind them
    /// where they are homogeneous.
    pub(super) fn features(
        &self,
        groups: usize,
        cases: &Range<usize>,
        homogeneous: bool,
    ) -> Vec<Tensor<3>> {
        let features = self.inputs.features(cases, || self.weights());
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
                let ones = Tensor::ones([n, positions, 1], (&own.device(), own.dtype()));
                Tensor::cat(vec![own, ones], 2)
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
}
