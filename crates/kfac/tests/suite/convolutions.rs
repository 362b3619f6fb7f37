//! Are the factors of a convolution those of its patches, written out element by element?

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Tensor, activation::sigmoid},
};
use faer::Mat;
use kfac::{
    Batch, Bernoulli, FisherEstimate, Network, PredictiveDistribution, RandomStream, Tape,
    WeightSharing,
};
use proptest::prelude::*;

use crate::support::exact;
use crate::support::{
    self, AxisShape, Convolution, Estimate, Padding, assert_close, bits, by_position, cases,
    column, dense, mean_outer, normal, pairs, tensor,
};

/// Sums of at most a few thousand products of order one in double precision.
const ROUNDING: f64 = 1e-12;

/// The exact Fisher takes a pass an output; more outputs than these only take time.
const FEW_OUTPUTS: usize = 48;

/// A convolution, its data, and the random numbers of both.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) convolution: Convolution,
    cases: usize,
    pub(crate) seed: u64,
}

fn axes() -> impl Strategy<Value = AxisShape> {
    let kernel = (1usize..4, 1usize..4, 1usize..3);
    let around = (0usize..3, 0usize..3, 0usize..3);
    (kernel, around, 0usize..3).prop_map(|((kernel, stride, dilation), around, further)| {
        let (before, behind, padding_out) = around;
        AxisShape {
            length: 1 + further,
            kernel,
            stride,
            dilation,
            padding: [before, behind],
            padding_out,
        }
    })
}

/// The axis made one that Burn accepts with such padding; three axes pad both sides alike.
fn adapted(mut axis: AxisShape, padding: Padding, three: bool) -> AxisShape {
    let further = axis.length - 1;
    match padding {
        Padding::Explicit => {
            if three {
                axis.padding[1] = axis.padding[0];
            }
            let padded: usize = axis.padding.iter().sum();
            axis.length = axis.reach().saturating_sub(padded).max(1) + further;
        }
        Padding::Same => {
            if three {
                axis.kernel = 2 * (axis.kernel / 2) + 1;
                axis.stride = 1;
            }
            axis.length = axis.reach() + further;
            // As many outputs as strides begin within the input, the dilation not counted; the
            // smaller half of the padding comes first.
            let outputs = axis.length.div_ceil(axis.stride);
            let needed = (outputs - 1) * axis.stride + axis.kernel;
            let all = needed.saturating_sub(axis.length);
            axis.padding = [all / 2, all - all / 2];
        }
        Padding::Transposed => {
            axis.padding_out %= axis.stride;
            let most = (axis.length - 1) * axis.stride + axis.reach() + axis.padding_out - 1;
            axis.padding = [axis.padding[0].min(most / 2); 2];
        }
    }
    axis
}

pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let all = vec![Padding::Explicit, Padding::Same, Padding::Transposed];
    (
        prop::collection::vec(axes(), 1..=3),
        prop::sample::select(all),
        (1usize..4, [1usize..4, 1usize..4]),
        any::<bool>(),
        (1usize..5, 0u64..1000),
    )
        .prop_map(|(axes, padding, (groups, channels), bias, (cases, seed))| {
            let three = axes.len() == 3;
            let axes = axes.into_iter().map(|axis| adapted(axis, padding, three));
            let convolution = Convolution {
                axes: axes.collect(),
                padding,
                groups,
                channels,
                bias,
            };
            Setting {
                convolution,
                cases,
                seed,
            }
        })
}

/// Settings with few outputs.
fn small_settings() -> impl Strategy<Value = Setting> {
    settings().prop_filter("many outputs", |setting| {
        let convolution = &setting.convolution;
        convolution.positions() * convolution.channels_out() <= FEW_OUTPUTS
    })
}

impl Setting {
    fn batch(&self) -> Batch<Tensor<2>> {
        let convolution = &self.convolution;
        let outputs = convolution.positions() * convolution.channels_out();
        let random = &mut RandomStream::from_seed(self.seed + 1);
        let targets = Bernoulli.sample(normal([self.cases, outputs], self.seed + 2), random);
        Batch::new(
            normal([self.cases, convolution.inputs()], self.seed),
            targets,
        )
    }

    /// The outputs, by a plain forward pass.
    fn outputs(&self, batch: &Batch<Tensor<2>>) -> Tensor<2> {
        let model = self.convolution.model(self.seed);
        model
            .forward(batch.inputs.clone(), &mut Tape::off())
            .inner()
    }

    /// Input and output factor of each group, from the patches and each position's mean output factor.
    fn expected(
        &self,
        batch: &Batch<Tensor<2>>,
        gradient: impl Fn(usize) -> Mat<f64>,
    ) -> Vec<[Mat<f64>; 2]> {
        let inputs = dense(&batch.inputs);
        let positions = faer::Scale(self.convolution.positions() as f64);
        let group = |group| {
            let patches = self.convolution.patches(&inputs, group);
            [mean_outer(&patches) * positions, gradient(group)]
        };
        (0..self.convolution.groups).map(group).collect()
    }

    /// The columns of one group.
    fn of_group(&self, rows: &Mat<f64>, group: usize) -> Mat<f64> {
        let width = self.convolution.channels[1];
        rows.subcols(group * width, width).to_owned()
    }
}

fn assert_pairs(what: &str, found: &[[Mat<f64>; 2]], expected: &[[Mat<f64>; 2]]) {
    assert_eq!(found.len(), expected.len(), "{what}: groups");
    for (group, (found, expected)) in found.iter().zip(expected).enumerate() {
        let [a, g] = [0, 1].map(|i| (&found[i], &expected[i]));
        assert_close(&format!("{what}: Ā of group {group}"), a.0, a.1, ROUNDING);
        assert_close(&format!("{what}: G of group {group}"), g.0, g.1, ROUNDING);
    }
}

const EMPIRICAL: Estimate = Estimate::new(FisherEstimate::Empirical, WeightSharing::Expand);
const EXACT: Estimate = Estimate::new(FisherEstimate::Exact, WeightSharing::Expand);

/// The dense layer that a convolution is of its patches; its outputs are in the convolution's order.
#[derive(Module, Debug)]
struct DenseOfPatches {
    layer: Linear,
}

impl Network for DenseOfPatches {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, patches: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        tape.linear(&self.layer, patches)
            .swap_dims(1, 2)
            .flatten(1, 2)
    }
}

/// The patches of a convolution without groups as the inputs of a dense layer, and that layer.
fn as_dense(setting: &Setting, batch: &Batch<Tensor<2>>) -> (DenseOfPatches, Batch<Tensor<3>>) {
    let convolution = &setting.convolution;
    let model = convolution.model(setting.seed);
    let matrix = &EXACT
        .layers(&model, &batch.inputs)
        .parameters(&model)
        .blocks()[0]
        .clone();
    let [rows, outputs] = matrix.dims();
    let d_in = rows - usize::from(convolution.bias);
    let trained = |tensor: Tensor<2>| tensor.autodiff().require_grad();
    let bias: Tensor<2> = matrix.clone().slice_dim(0, rows - 1..rows);
    let layer = Linear {
        weight: Param::from_tensor(trained(matrix.clone().slice_dim(0, 0..d_in))),
        bias: convolution
            .bias
            .then(|| Param::from_tensor(bias.reshape([outputs]).autodiff().require_grad())),
    };
    let patches = tensor(&convolution.patches(&dense(&batch.inputs), 0));
    let patches = patches.slice_dim(1, 0..d_in);
    let patches = patches.reshape([setting.cases, convolution.positions(), d_in]);
    let batch = Batch::new(patches, batch.targets.clone());
    (DenseOfPatches { layer }, batch)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn outputs_are_patches_times_the_layers_matrix(setting in settings()) {
        let batch = setting.batch();
        let model = setting.convolution.model(setting.seed);
        let layers = EXACT.layers(&model, &batch.inputs);
        let parameters = layers.parameters(&model);
        let matrix = dense(&parameters.blocks()[0]);
        let outputs = by_position(&dense(&setting.outputs(&batch)), setting.convolution.channels_out());
        for group in 0..setting.convolution.groups {
            let patches = setting.convolution.patches(&dense(&batch.inputs), group);
            let found = patches * setting.of_group(&matrix, group);
            assert_close("outputs", &found, &setting.of_group(&outputs, group), ROUNDING);
        }
        let same = layers.with_parameters(model.clone(), &parameters);
        prop_assert_eq!(bits(&same), bits(&model));
        // And written where they were read: other values come back as they went.
        let other = support::random_vector(&parameters, setting.seed);
        let back = layers.parameters(&layers.with_parameters(model, &other));
        prop_assert_eq!(column(&back), column(&other));
    }

    #[test]
    fn empirical_factors_are_those_of_the_patches(setting in settings()) {
        let batch = setting.batch();
        let model = setting.convolution.model(setting.seed);
        let found = EMPIRICAL.factors(&model, &Bernoulli, &batch);
        let gradients = sigmoid(setting.outputs(&batch)) - batch.targets.clone();
        let gradients = by_position(&dense(&gradients), setting.convolution.channels_out());
        let expected = setting.expected(&batch, |group| mean_outer(&setting.of_group(&gradients, group)));
        assert_pairs("empirical", &pairs(&found[0]), &expected);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// The output Fisher of a Bernoulli variable is p (1 − p): at each position G is its diagonal.
    #[test]
    fn exact_factors_are_those_of_the_patches(setting in small_settings()) {
        let batch = setting.batch();
        let model = setting.convolution.model(setting.seed);
        let found = EXACT.factors(&model, &Bernoulli, &batch);
        let p = sigmoid(setting.outputs(&batch));
        let variances = dense(&(p.clone() * (p.ones_like() - p)));
        let variances = by_position(&variances, setting.convolution.channels_out());
        let expected = setting.expected(&batch, |group| {
            let own = setting.of_group(&variances, group);
            let mean = |j: usize| own.col(j).iter().sum::<f64>() / own.nrows() as f64;
            Mat::from_fn(own.ncols(), own.ncols(), |i, j| if i == j { mean(j) } else { 0.0 })
        });
        assert_pairs("exact", &pairs(&found[0]), &expected);
    }

    #[test]
    fn a_convolution_is_a_dense_layer_of_its_patches(setting in small_settings()) {
        let mut setting = setting;
        setting.convolution.groups = 1;
        let batch = setting.batch();
        let model = setting.convolution.model(setting.seed);
        let (dense_model, patches) = as_dense(&setting, &batch);
        for fisher in [FisherEstimate::Empirical, FisherEstimate::Exact] {
            for sharing in [WeightSharing::Expand, WeightSharing::Reduce] {
                let estimate = Estimate::new(fisher, sharing);
                let found = pairs(&estimate.factors(&model, &Bernoulli, &batch)[0]);
                let expected = pairs(&estimate.factors(&dense_model, &Bernoulli, &patches)[0]);
                assert_pairs(&format!("{estimate:?}"), &found, &expected);
            }
        }
        let layers = EXACT.layers(&model, &batch.inputs);
        let found = exact::fisher(&model, &layers, &Bernoulli, &batch);
        let layers = EXACT.layers(&dense_model, &patches.inputs);
        let expected = exact::fisher(&dense_model, &layers, &Bernoulli, &patches);
        assert_close("exact block", &found, &expected, ROUNDING);
    }

    #[test]
    fn a_batch_is_the_sum_of_its_parts(setting in small_settings(), chunk_size in 1usize..4) {
        let batch = setting.batch();
        let model = setting.convolution.model(setting.seed);
        for fisher in [FisherEstimate::Empirical, FisherEstimate::Exact] {
            for sharing in [WeightSharing::Expand, WeightSharing::Reduce] {
                let whole = Estimate::new(fisher, sharing);
                let expected = pairs(&whole.factors(&model, &Bernoulli, &batch)[0]);
                let parts = whole.in_chunks_of(chunk_size);
                let found = pairs(&parts.factors(&model, &Bernoulli, &batch)[0]);
                assert_pairs(&format!("{parts:?}"), &found, &expected);
            }
        }
    }
}

/// More patches than are made at once: 64 cases of 32 · 32 positions of 72 elements are 4.7 million,
/// and a piece has at most 4.2 million.
#[test]
fn patches_made_a_piece_at_a_time_are_all_counted() {
    let axis = AxisShape {
        length: 32,
        kernel: 3,
        stride: 1,
        dilation: 1,
        padding: [1, 1],
        padding_out: 0,
    };
    let convolution = Convolution {
        axes: vec![axis; 2],
        padding: Padding::Explicit,
        groups: 2,
        channels: [4, 1],
        bias: true,
    };
    let setting = Setting {
        convolution,
        cases: 64,
        seed: 1,
    };
    let (batch, model) = (setting.batch(), setting.convolution.model(1));
    for sharing in [WeightSharing::Expand, WeightSharing::Reduce] {
        let whole = Estimate::new(FisherEstimate::Empirical, sharing);
        let found = pairs(&whole.factors(&model, &Bernoulli, &batch)[0]);
        let parts = whole.in_chunks_of(16).factors(&model, &Bernoulli, &batch);
        assert_pairs(&format!("{sharing:?}"), &found, &pairs(&parts[0]));
    }
}
