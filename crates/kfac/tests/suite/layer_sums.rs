//! Are the sums that are formed without a convolution's patches those of its patches?

use std::sync::{Arc, Mutex};

use burn::{module::Module, tensor::Tensor};
use kfac::{
    Batch, BlockDescription, FisherEstimate, Gaussian, Layer, LayerUses, Network, RandomStream,
    Tape,
    blocks::{
        BlockEstimate, BlockInverse, BlockOptions, BlockStructure, Blocks, Grouped, Moments, Pass,
        Record, RecordError,
    },
    curvature::FisherEstimator,
};
use proptest::prelude::*;

use crate::{
    convolutions::{Setting, settings},
    support::{
        AxisShape, Convolution, ConvolutionNetwork, Padding, assert_close, cases, dense, normal,
    },
};

/// Sums of at most a few thousand products of order one in double precision.
const ROUNDING: f64 = 1e-12;

/// A convolution used several times, each time with images folded into the cases.
#[derive(Module, Debug)]
struct Repeated {
    layer: ConvolutionNetwork,
    #[module(skip)]
    repetition: Repetition,
}

#[derive(Clone, Copy, Debug)]
struct Repetition {
    uses: usize,
    folded: usize,
}

impl Network for Repeated {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let [n, all] = inputs.dims();
        let Repetition { uses, folded } = self.repetition;
        let images = inputs.reshape([n * folded, all / folded]);
        let of_use = |factor: usize| self.layer.forward(images.clone() * factor as f64, tape);
        let outputs = (1..=uses).map(of_use).reduce(|sum, one| sum + one);
        let outputs = outputs.unwrap();
        let width = outputs.dims()[1];
        outputs.reshape([n, folded * width])
    }
}

/// What was found of the two ways.
type Comparison = (&'static str, Tensor<2>, Tensor<2>);

/// The library's blocks; what both ways make of the same uses is kept.
#[derive(Debug, Default)]
struct Compared(Mutex<Vec<Comparison>>);

impl BlockStructure for Compared {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        Grouped.describe(layer)
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        let all = 0..uses.cases();
        let groups = layer.action.groups();
        let width = layer.gradient_dimension();
        let patches = uses.activations(layer, &all);
        let [moments, sums] = [uses.activation_moments(layer), uses.activation_sums(layer)];
        let gradient_moments = uses.gradient_moments(layer);
        let gradients = uses.parameter_gradients(layer, &all);
        let mut found = self.0.lock().unwrap();
        for group in 0..groups {
            let a = patches[group].clone();
            let own = group * width..(group + 1) * width;
            let g: Tensor<3> = uses.output_gradients().slice_dim(2, own);
            let expected = g.clone().swap_dims(1, 2).matmul(a.clone());
            let gradient = gradients[group].clone();
            found.extend([
                ("input moments", moments[group].clone(), moment(a.clone())),
                (
                    "input sums",
                    sums[group].clone(),
                    a.sum_dim(1).squeeze_dim(1),
                ),
                ("output moments", gradient_moments[group].clone(), moment(g)),
                ("gradients", gradient.flatten(0, 1), expected.flatten(0, 1)),
            ]);
        }
        Grouped.moments(layer, uses, pass)
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        Grouped.estimate(layer, factors)
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        Grouped.restore(layer, record)
    }
}

/// The second moment of all rows.
fn moment(rows: Tensor<3>) -> Tensor<2> {
    let rows: Tensor<2> = rows.flatten(0, 1);
    rows.clone().transpose().matmul(rows)
}

fn compare(convolution: &Convolution, repetition: Repetition, seed: u64) {
    let model = Repeated {
        layer: convolution.model(seed),
        repetition,
    };
    let inputs = normal([2, repetition.folded * convolution.inputs()], seed);
    let outputs = model.forward(inputs.clone(), &mut Tape::off()).inner();
    let batch = Batch::new(inputs, outputs.zeros_like());
    let compared = Arc::new(Compared::default());
    let (blocks, _) = Blocks::discover(&model, &batch.inputs, &BlockOptions::default());
    let path = blocks.layers().as_slice()[0].path.as_str();
    let options = BlockOptions::default().with_structure(path, compared.clone());
    let (blocks, _) = Blocks::discover(&model, &batch.inputs, &options);
    let estimator =
        FisherEstimator::new(&blocks, &Gaussian).with_estimate(FisherEstimate::Empirical);
    let random = &mut RandomStream::from_seed(seed);
    estimator.factors(&model, &batch, random).unwrap();
    let found = compared.0.lock().unwrap();
    assert_eq!(found.len(), 4 * convolution.groups);
    for (what, found, expected) in &*found {
        assert_close(what, &dense(found), &dense(expected), ROUNDING);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn sums_without_patches_are_those_of_the_patches(
        setting in settings(),
        uses in 1usize..3,
        folded in 1usize..3,
    ) {
        let Setting { convolution, seed, .. } = setting;
        compare(&convolution, Repetition { uses, folded }, seed);
    }
}

/// Windows that overlap in many ways, and reach beyond both ends of the input at once.
#[test]
fn large_kernels_on_small_inputs_count_what_is_there() {
    for (length, kernel, stride, dilation) in
        [(3, 7, 1, 1), (4, 5, 2, 1), (5, 5, 1, 2), (6, 4, 3, 2)]
    {
        let axis = AxisShape {
            length,
            kernel,
            stride,
            dilation,
            padding: [kernel * dilation / 2; 2],
            padding_out: 0,
        };
        for padding in [Padding::Explicit, Padding::Transposed] {
            let convolution = Convolution {
                axes: vec![axis; 2],
                padding,
                groups: 2,
                channels: [12, 2],
                bias: true,
            };
            compare(&convolution, Repetition { uses: 1, folded: 1 }, 1);
        }
    }
}
