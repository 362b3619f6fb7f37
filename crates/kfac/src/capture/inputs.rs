//! What a recorded layer saw: its inputs, or what they are made of.

use std::ops::Range;

use burn::tensor::{Int, Tensor};

use super::patch_geometry::PatchGeometry;

/// The inputs of a layer.
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    /// The features at each position, `[n, R, d]`.
    Features(Tensor<3>),
    /// An input whose patches are the features: they are made for some cases at a time.
    Patches(PatchedInput),
    /// The token at each position, `[n, R]`, out of so many: the features are one-hot.
    Tokens(Tensor<2, Int>, usize),
    /// A parameter on its own, whose gradient is the sum over cases: the feature is one.
    One,
}

/// The input of a convolution.
#[derive(Clone, Debug)]
pub(super) struct PatchedInput {
    /// `[n · folded, channels, depth, height, width]`
    pub(super) input: Tensor<5>,
    pub(super) geometry: PatchGeometry,
    /// The rows of the input that belong to one case.
    pub(super) folded: usize,
}

impl Inputs {
    /// The inputs with `folded` rows for each of some cases brought together as its positions.
    pub(super) fn by_case(self, cases: usize, folded: usize) -> Self {
        match self {
            Self::Features(features) => {
                let [_, positions, d] = features.dims();
                Self::Features(features.reshape([cases, folded * positions, d]))
            }
            Self::Tokens(tokens, count) => {
                let positions = tokens.dims()[1];
                Self::Tokens(tokens.reshape([cases, folded * positions]), count)
            }
            Self::Patches(patched) => Self::Patches(PatchedInput {
                folded: patched.folded * folded,
                ..patched
            }),
            Self::One => Self::One,
        }
    }

    /// The features at each position of some cases, `[len(cases), R, d]`; `weights` are what counts of
    /// each position, `[n, R]`.
    pub(super) fn features(
        &self,
        cases: &Range<usize>,
        weights: impl Fn() -> Tensor<2>,
    ) -> Tensor<3> {
        match self {
            Self::Features(features) if *cases == (0..features.dims()[0]) => features.clone(),
            Self::Features(features) => features.clone().slice_dim(0, cases.clone()),
            Self::Patches(patched) => patched.patches(cases),
            Self::Tokens(tokens, count) => {
                let tokens: Tensor<2, Int> = tokens.clone().slice_dim(0, cases.clone());
                tokens.one_hot::<3>(*count).float().cast(weights().dtype())
            }
            Self::One => {
                let weights: Tensor<2> = weights().slice_dim(0, cases.clone());
                weights.unsqueeze_dim(2)
            }
        }
    }

    /// The elements of a case's features that are not in memory yet.
    pub(super) fn made_elements(&self) -> usize {
        match self {
            Self::Patches(patched) => patched.elements(),
            Self::Tokens(tokens, count) => tokens.dims()[1] * count,
            Self::Features(_) | Self::One => 0,
        }
    }
}

impl PatchedInput {
    /// The patches at each position of some cases, `[len(cases), R, d]`.
    fn patches(&self, cases: &Range<usize>) -> Tensor<3> {
        let rows = cases.start * self.folded..cases.end * self.folded;
        let patches = self.geometry.patches(&self.input, rows).swap_dims(1, 2);
        if self.folded == 1 {
            return patches;
        }
        let [_, positions, d] = patches.dims();
        patches.reshape([cases.len(), self.folded * positions, d])
    }

    /// The sum over positions of each case's patches, `[n, d]`.
    pub(super) fn sums(&self) -> Tensor<2> {
        let sums = self.geometry.patch_sums(&self.input);
        if self.folded == 1 {
            return sums;
        }
        let [rows, d] = sums.dims();
        let sums = sums.reshape([rows / self.folded, self.folded, d]);
        sums.sum_dim(1).squeeze_dim(1)
    }

    /// The second moment of all patches for each group, `[d / groups, d / groups]`; `None` where making the
    /// patches is cheaper.
    pub(super) fn moments(&self, groups: usize) -> Option<Vec<Tensor<2>>> {
        if !self.geometry.shares_products(&self.input, groups) {
            return None;
        }
        let moments = self.geometry.patch_moments(&self.input, groups);
        let of_group = |group| moments.clone().slice_dim(0, group..=group).squeeze_dim(0);
        Some((0..groups).map(of_group).collect())
    }

    /// The elements of a case's patches.
    fn elements(&self) -> usize {
        let positions = self.folded * self.geometry.positions();
        self.input.dims()[1] * self.geometry.offsets() * positions
    }
}
