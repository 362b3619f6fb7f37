//! What the second moments of a layer are made of, summed over positions without making its inputs one by
//! one where that is cheaper.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{
    inputs::Inputs,
    layer_uses::{LayerCapture, LayerUses, at_once},
};
use crate::{
    linalg::{bordered, columns, second_moment},
    network::Layer,
};

impl LayerUses {
    /// The sum of the outer products of the activations `ā` at all positions of all cases, for each group
    /// of outputs: `Σ_n Σ_r ā āᵀ`.
    ///
    /// # Shapes
    ///
    /// `[d_in + 1, d_in + 1]` each, without the one where the layer has no bias.
    pub fn activation_moments(&self, layer: &Layer) -> Vec<Tensor<2>> {
        let groups = layer.action.groups();
        let of_uses = self.0.iter().map(|u| u.input_moments(groups));
        let moments = of_uses.reduce(added).unwrap_or_default();
        if layer.bias.is_none() {
            return moments;
        }
        let sums = self.activation_sums(layer).into_iter();
        let with_bias = |(moment, sums): (Tensor<2>, Tensor<2>)| {
            let [_, d] = sums.dims();
            let sums = sums.slice_dim(1, 0..d - 1).sum_dim(0);
            bordered(moment, sums, self.positions())
        };
        moments.into_iter().zip(sums).map(with_bias).collect()
    }

    /// The sum over positions of each case's activations, for each group of outputs: `Σ_r ā`.
    ///
    /// # Shapes
    ///
    /// `[n, d_in + 1]` each, without the one where the layer has no bias.
    pub fn activation_sums(&self, layer: &Layer) -> Vec<Tensor<2>> {
        let of_uses = self.0.iter().map(LayerCapture::input_sums);
        let Some(sums) = of_uses.reduce(|sum, more| sum + more) else {
            return Vec::new();
        };
        let positions = layer.bias.map(|_| self.positions_of_cases());
        let groups = layer.action.groups();
        let of_group = |group| {
            let own = columns(&sums, groups, group);
            match positions.clone() {
                Some(positions) => Tensor::cat(vec![own, positions], 1),
                None => own,
            }
        };
        (0..groups).map(of_group).collect()
    }

    /// The sum of the outer products of the output gradients at all positions of all cases, for each group
    /// of outputs: `Σ_n Σ_r g gᵀ`, `[d_out / groups, d_out / groups]` each.
    pub fn gradient_moments(&self, layer: &Layer) -> Vec<Tensor<2>> {
        let groups = layer.action.groups();
        let of_uses = self.0.iter().map(|u| u.gradient_moments(groups));
        of_uses.reduce(added).unwrap_or_default()
    }

    /// The gradients of some cases' losses in the layer's parameters, for each group of outputs:
    /// `Σ_r g āᵀ`, the layer's matrix turned over.
    ///
    /// # Shapes
    ///
    /// `[len(cases), d_out / groups, d_in + 1]` each, without the one where the layer has no bias.
    pub fn parameter_gradients(&self, layer: &Layer, cases: &Range<usize>) -> Vec<Tensor<3>> {
        let groups = layer.action.groups();
        let of_uses = self.0.iter().map(|u| u.parameter_gradients(layer, cases));
        let weights = of_uses.reduce(added).unwrap_or_default();
        if layer.bias.is_none() {
            return weights;
        }
        let gradients: Tensor<3> = self.output_gradients().slice_dim(0, cases.clone());
        let sums: Tensor<2> = gradients.sum_dim(1).squeeze_dim(1);
        let with_bias = |(group, weight)| {
            let sums = columns(&sums, groups, group).unsqueeze_dim(2);
            Tensor::cat(vec![weight, sums], 2)
        };
        weights.into_iter().enumerate().map(with_bias).collect()
    }
}

impl LayerCapture {
    /// The second moment of each group's inputs at all positions.
    fn input_moments(&self, groups: usize) -> Vec<Tensor<2>> {
        if let Inputs::Patches(patched) = &self.inputs
            && let Some(moments) = patched.moments(groups)
        {
            return moments;
        }
        let of_part = |cases| {
            let features = self.features(groups, &cases, false).into_iter();
            features.map(|features| self.moment(features)).collect()
        };
        self.parts().map(of_part).reduce(added).unwrap_or_default()
    }

    /// The sum over positions of each case's inputs, `[n, d]`.
    fn input_sums(&self) -> Tensor<2> {
        if let Inputs::Patches(patched) = &self.inputs {
            return patched.sums();
        }
        let of_part = |cases| {
            let features = self.features(1, &cases, false).into_iter();
            features.map(|features| features.sum_dim(1).squeeze_dim(1))
        };
        Tensor::cat(self.parts().flat_map(of_part).collect(), 0)
    }

    /// The second moment of each group's output gradients at all positions.
    fn gradient_moments(&self, groups: usize) -> Vec<Tensor<2>> {
        let width = self.output_gradients.dims()[2] / groups;
        let of_group = |group| {
            let own = self.output_gradients.clone();
            self.moment(own.slice_dim(2, group * width..(group + 1) * width))
        };
        (0..groups).map(of_group).collect()
    }

    /// `Σ_r g aᵀ` of some cases for each group, `[len(cases), d_out / groups, d_in]`.
    fn parameter_gradients(&self, layer: &Layer, cases: &Range<usize>) -> Vec<Tensor<3>> {
        let gradients: Tensor<3> = self.output_gradients.clone().slice_dim(0, cases.clone());
        let width = layer.gradient_dimension();
        let of_group = |(group, features): (usize, Tensor<3>)| {
            let own = gradients
                .clone()
                .slice_dim(2, group * width..(group + 1) * width);
            own.swap_dims(1, 2).matmul(features)
        };
        let features = self.features(layer.action.groups(), cases, false);
        features.into_iter().enumerate().map(of_group).collect()
    }

    /// Ranges of cases whose inputs are few enough to be made at once.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        at_once(self.output_gradients.dims()[0], self.inputs.made_elements())
    }

    /// The second moment at all positions of what the layer sees or is told at each, `[n, R, d]`.
    fn moment(&self, features: Tensor<3>) -> Tensor<2> {
        let [n, positions, d] = features.dims();
        // Those of convolutions lie position by position: to turn them over takes R d copies a case, and to
        // add up the moments of the cases d² additions.
        if matches!(self.inputs, Inputs::Patches(_)) && d <= positions {
            let of_cases = features.clone().swap_dims(1, 2).matmul(features);
            return of_cases.sum_dim(0).squeeze_dim(0);
        }
        second_moment(features.reshape([n * positions, d]))
    }
}

fn added<const D: usize>(sums: Vec<Tensor<D>>, others: Vec<Tensor<D>>) -> Vec<Tensor<D>> {
    sums.into_iter().zip(others).map(|(a, b)| a + b).collect()
}
