//! Do the positions at which weights are shared count as the definitions say?

use burn::{
    module::Module,
    nn::{
        Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, conv::Conv2d,
        conv::Conv2dConfig,
    },
    tensor::{DType, Device, Tensor},
};
use faer::Mat;
use kfac::{Batch, Categorical, FisherEstimate, Gaussian, Network, Tape, WeightSharing};

use crate::support::{
    self, AxisShape, Call, Convolution, Estimate, Padding, SequenceNetwork, TOKENS, WIDTH,
    assert_close, assert_same_factors, by_position, class_targets, dense, normal, pairs,
    randomised, sequences, tensor,
};

/// Sums of some hundred products of order one in double precision.
const ROUNDING: f64 = 1e-12;

/// Burn's default of a layer normalisation.
const EPSILON: f64 = 1e-5;

const SHARINGS: [WeightSharing; 2] = [WeightSharing::Expand, WeightSharing::Reduce];

/// One layer at each position, whose outputs, zero at padded positions, are the network's.
#[derive(Module, Debug)]
enum OneLayer {
    Dense(Linear),
    Embedding(Embedding),
    Norm(LayerNorm),
}

impl OneLayer {
    fn all() -> [Self; 3] {
        let device = Device::default().autodiff();
        [
            Self::Dense(LinearConfig::new(WIDTH, WIDTH).init(&device)),
            Self::Embedding(EmbeddingConfig::new(TOKENS, WIDTH).init(&device)),
            Self::Norm(LayerNormConfig::new(WIDTH).init(&device)),
        ]
        .map(|layer| randomised(layer, DType::F64, 4))
    }

    /// What the layer's weight is multiplied with at each position, one appended where there is a bias.
    fn features(&self, inputs: &Tensor<3>) -> Vec<Vec<Vec<f64>>> {
        let [n, positions, _] = inputs.dims();
        let rows = dense(&inputs.clone().reshape([n * positions, WIDTH]));
        let feature = |i: usize| {
            let row: Vec<f64> = (0..WIDTH).map(|j| rows[(i, j)]).collect();
            match self {
                Self::Dense(_) => [row, vec![1.0]].concat(),
                Self::Embedding(_) => {
                    let token = (row[0].abs() as usize).min(TOKENS - 1);
                    (0..TOKENS)
                        .map(|t| f64::from(u8::from(t == token)))
                        .collect()
                }
                Self::Norm(_) => {
                    let mean = row.iter().sum::<f64>() / WIDTH as f64;
                    let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
                    let deviation = (square / WIDTH as f64 + EPSILON).sqrt();
                    row.iter().map(|x| (x - mean) / deviation).collect()
                }
            }
        };
        (0..n)
            .map(|case| {
                (0..positions)
                    .map(|r| feature(case * positions + r))
                    .collect()
            })
            .collect()
    }
}

impl Network for OneLayer {
    type Input = (Tensor<3>, Tensor<2>);
    type Output = Tensor<2>;

    fn forward(&self, (x, padding): Self::Input, tape: &mut Tape) -> Tensor<2> {
        tape.set_padding(Some(padding.clone().bool()));
        let valid = (padding.ones_like() - padding).unsqueeze_dim::<3>(2);
        let outputs = match self {
            Self::Dense(layer) => tape.linear(layer, x),
            Self::Embedding(layer) => {
                let first: Tensor<2> = x.slice_dim(2, 0..1).squeeze_dim(2);
                let tokens = first.abs().clamp_max(TOKENS as f64 - 0.5).int();
                tape.embedding(layer, tokens)
            }
            Self::Norm(layer) => tape.layer_norm(layer, x),
        };
        (outputs * valid).flatten(1, 2)
    }
}

/// Inputs and output gradients at the positions of each case that count.
type Positions = Vec<Vec<(Vec<f64>, Vec<f64>)>>;

/// `Ā` and `G` by their definitions, element by element.
fn slow_factors(cases: &Positions, sharing: WeightSharing) -> [Mat<f64>; 2] {
    let n = cases.len() as f64;
    let (d_in, d_out) = cases
        .iter()
        .flatten()
        .next()
        .map(|(a, g)| (a.len(), g.len()))
        .unwrap();
    let mut activation = Mat::<f64>::zeros(d_in, d_in);
    let mut gradient = Mat::<f64>::zeros(d_out, d_out);
    let all = cases.iter().map(Vec::len).sum::<usize>() as f64;
    for positions in cases {
        let length = positions.len() as f64;
        for (r, (a, g)) in positions.iter().enumerate() {
            for (q, (b, h)) in positions.iter().enumerate() {
                let (of_a, of_g) = match sharing {
                    WeightSharing::Reduce => (1.0 / n, 1.0 / (n * length * length)),
                    _ if r != q => continue,
                    WeightSharing::Expand | WeightSharing::Automatic => (1.0 / n, 1.0 / all),
                };
                for i in 0..d_in {
                    for j in 0..d_in {
                        activation[(i, j)] += of_a * a[i] * b[j];
                    }
                }
                for i in 0..d_out {
                    for j in 0..d_out {
                        gradient[(i, j)] += of_g * g[i] * h[j];
                    }
                }
            }
        }
    }
    [activation, gradient]
}

/// `E[d dᵀ]` of the scales and then the shifts, whatever the sharing.
fn slow_scale_shift(cases: &Positions) -> Mat<f64> {
    let mut block = Mat::<f64>::zeros(2 * WIDTH, 2 * WIDTH);
    for positions in cases {
        let mut d = [0.0; 2 * WIDTH];
        for (x, g) in positions {
            for j in 0..WIDTH {
                d[j] += x[j] * g[j];
                d[WIDTH + j] += g[j];
            }
        }
        for i in 0..2 * WIDTH {
            for j in 0..2 * WIDTH {
                block[(i, j)] += d[i] * d[j] / cases.len() as f64;
            }
        }
    }
    block
}

/// Features and the residuals at the positions that are not padding.
fn valid_positions(model: &OneLayer, batch: &Batch<(Tensor<3>, Tensor<2>)>) -> Positions {
    let outputs = model
        .forward(batch.inputs.clone(), &mut Tape::off())
        .inner();
    let residuals = dense(&(outputs - batch.targets.clone()));
    let padding = dense(&batch.inputs.1);
    let cases = model.features(&batch.inputs.0).into_iter().enumerate();
    let of_case = |(case, features): (usize, Vec<Vec<f64>>)| {
        let positions = features.into_iter().enumerate();
        let residual = |r: usize| {
            (0..WIDTH)
                .map(|j| residuals[(case, r * WIDTH + j)])
                .collect()
        };
        positions
            .filter(|(r, _)| padding[(case, *r)] < 0.5)
            .map(|(r, a)| (a, residual(r)))
            .collect()
    };
    cases.map(of_case).collect()
}

#[test]
fn factors_are_the_definitions_sums_over_positions_that_count() {
    // Three, one, none and four of four positions; then all.
    let some = |case: usize, r: usize| [r == 1, r != 2, true, false][case];
    for all_count in [false, true] {
        let padding = Mat::from_fn(4, 4, |i, r| f64::from(u8::from(!all_count && some(i, r))));
        let inputs = normal([16, WIDTH], 6).reshape([4, 4, WIDTH]) * 2.0;
        let batch = Batch::new((inputs, tensor(&padding)), normal([4, 4 * WIDTH], 7));
        for model in OneLayer::all() {
            let positions = valid_positions(&model, &batch);
            for sharing in SHARINGS {
                let estimate = Estimate::new(FisherEstimate::Empirical, sharing);
                let full = estimate.with_full_scale_shift();
                let found = pairs(&full.factors(&model, &Gaussian, &batch)[0]).remove(0);
                let what = format!("{model:?}, {sharing:?}");
                if matches!(model, OneLayer::Norm(_)) {
                    let block = slow_scale_shift(&positions);
                    assert_close(&what, &found[1], &block, ROUNDING);
                    let diagonal = pairs(&estimate.factors(&model, &Gaussian, &batch)[0]);
                    let expected =
                        Mat::from_fn(2, WIDTH, |i, j| block[(i * WIDTH + j, i * WIDTH + j)]);
                    assert_close(&what, &diagonal[0][1], &expected, ROUNDING);
                    continue;
                }
                let [mut a, g] = slow_factors(&positions, sharing);
                if matches!(model, OneLayer::Embedding(_)) {
                    a = Mat::from_fn(TOKENS, 1, |t, _| a[(t, t)]);
                }
                assert_close(&format!("Ā, {what}"), &found[0], &a, ROUNDING);
                assert_close(&format!("G, {what}"), &found[1], &g, ROUNDING);
            }
        }
    }
}

#[test]
fn a_convolution_reduces_the_positions_of_a_case() {
    let axis = AxisShape {
        length: 4,
        kernel: 3,
        stride: 2,
        dilation: 1,
        padding: [1, 0],
        padding_out: 0,
    };
    for groups in [1, 2] {
        let convolution = Convolution {
            axes: vec![axis; 2],
            padding: Padding::Explicit,
            groups,
            channels: [2, 3],
            bias: true,
        };
        let (n, positions) = (5, convolution.positions());
        let model = convolution.model(1);
        let targets = normal([n, positions * 3 * groups], 2);
        let batch = Batch::new(normal([n, convolution.inputs()], 3), targets);
        let outputs = model
            .forward(batch.inputs.clone(), &mut Tape::off())
            .inner();
        let residuals = by_position(&dense(&(outputs - batch.targets.clone())), 3 * groups);
        for sharing in SHARINGS {
            let estimate = Estimate::new(FisherEstimate::Empirical, sharing);
            let found = pairs(&estimate.factors(&model, &Gaussian, &batch)[0]);
            for (group, found) in found.iter().enumerate() {
                let patches = convolution.patches(&dense(&batch.inputs), group);
                let row = |m: &Mat<f64>, i: usize, columns: std::ops::Range<usize>| -> Vec<f64> {
                    columns.map(|j| m[(i, j)]).collect()
                };
                let position = |i: usize| {
                    let own = 3 * group..3 * (group + 1);
                    (
                        row(&patches, i, 0..patches.ncols()),
                        row(&residuals, i, own),
                    )
                };
                let case = |case: usize| {
                    (case * positions..(case + 1) * positions)
                        .map(position)
                        .collect()
                };
                let expected = slow_factors(&(0..n).map(case).collect(), sharing);
                for i in 0..2 {
                    let what = format!("group {group}, factor {i}, {sharing:?}");
                    assert_close(&what, &found[i], &expected[i], ROUNDING);
                }
            }
        }
    }
}

/// A dense layer called at each of some positions, and again with their mean.
#[derive(Module, Debug)]
struct Tied {
    layer: Linear,
}

impl Network for Tied {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let hidden: Tensor<2> = tape
            .linear(&self.layer, x)
            .tanh()
            .mean_dim(1)
            .squeeze_dim(1);
        tape.linear(&self.layer, hidden)
    }
}

#[test]
fn all_uses_of_a_tied_layer_are_its_positions() {
    let (n, positions) = (4, 3);
    let layer = support::linear([WIDTH, WIDTH], true, (DType::F64, 1));
    let model = Tied { layer };
    let inputs = normal([n * positions, WIDTH], 2);
    let targets = normal([n, WIDTH], 3);
    // By the chain rule: first the uses at positions, then the one of their mean.
    let layer = model.layer.clone().no_grad();
    let hidden = layer.forward(inputs.clone()).tanh().inner();
    let mean: Tensor<3> = hidden.clone().reshape([n, positions, WIDTH]).mean_dim(1);
    let mean: Tensor<2> = mean.squeeze_dim(1);
    let last = layer.forward(mean.clone()).inner() - targets.clone();
    let back = last.clone().matmul(layer.weight.val().inner().transpose()) / positions as f64;
    let (hidden, back, mean, last) = (dense(&hidden), dense(&back), dense(&mean), dense(&last));
    let rows = dense(&inputs);
    let with_one = |m: &Mat<f64>, i: usize| -> Vec<f64> {
        (0..WIDTH).map(|j| m[(i, j)]).chain([1.0]).collect()
    };
    let case = |case: usize| {
        let first = (case * positions..(case + 1) * positions).map(|i| {
            let g = (0..WIDTH).map(|j| back[(case, j)] * (1.0 - hidden[(i, j)].powi(2)));
            (with_one(&rows, i), g.collect())
        });
        let again = (
            with_one(&mean, case),
            (0..WIDTH).map(|j| last[(case, j)]).collect(),
        );
        first.chain([again]).collect()
    };
    let uses: Positions = (0..n).map(case).collect();
    let batch = Batch::new(inputs.reshape([n, positions, WIDTH]), targets);
    for sharing in SHARINGS {
        let estimate = Estimate::new(FisherEstimate::Empirical, sharing);
        let found = pairs(&estimate.factors(&model, &Gaussian, &batch)[0]).remove(0);
        let expected = slow_factors(&uses, sharing);
        for i in 0..2 {
            let what = format!("factor {i}, {sharing:?}");
            assert_close(&what, &found[i], &expected[i], ROUNDING);
        }
    }
}

#[test]
fn positions_folded_into_cases_count_alike() {
    let n = 5;
    let inputs = sequences([n, 3], 4, |_, _| false);
    let batch = Batch::new(inputs, class_targets(n, 4));
    let of = |call| SequenceNetwork::new(call, 1);
    for estimate in Estimate::all() {
        let expected = estimate.factors(&of(Call::Positions), &Categorical, &batch);
        let found = estimate.factors(&of(Call::Folded), &Categorical, &batch);
        let what = format!("{estimate:?}");
        assert_same_factors(&what, &found, &expected, ROUNDING);
    }
}

/// A convolution of two images of a case: one after the other, or folded into the cases.
#[derive(Module, Debug)]
struct TwoImages {
    layer: Conv2d,
    #[module(skip)]
    folded: bool,
}

impl Network for TwoImages {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>, tape: &mut Tape) -> Tensor<2> {
        let [n, _, h, w] = x.dims();
        if self.folded {
            let outputs = tape.conv2d(&self.layer, x.reshape([2 * n, 2, h, w])).tanh();
            let outputs: Tensor<2> = outputs.flatten(1, 3);
            let width = outputs.dims()[1];
            return outputs.reshape([n, 2 * width]);
        }
        let one = x.clone().slice_dim(1, 0..2);
        let other = x.slice_dim(1, 2..4);
        let outputs = [one, other].map(|x| tape.conv2d(&self.layer, x).tanh().flatten::<2>(1, 3));
        Tensor::cat(outputs.to_vec(), 1)
    }
}

#[test]
fn images_folded_into_cases_count_as_uses() {
    let n = 4;
    let config = Conv2dConfig::new([2, 4], [2, 2]).with_groups(2);
    let layer = randomised(config.init(&Device::default().autodiff()), DType::F64, 1);
    let inputs = normal([n, 4 * 3 * 3], 2).reshape([n, 4, 3, 3]);
    let batch = Batch::new(inputs, normal([n, 2 * 4 * 4], 3));
    for estimate in Estimate::all() {
        let of = |folded| {
            let layer = layer.clone();
            estimate.factors(&TwoImages { layer, folded }, &Gaussian, &batch)
        };
        let what = format!("{estimate:?}");
        assert_same_factors(&what, &of(true), &of(false), ROUNDING);
    }
}

/// A dense layer called with positions in their own axis, and again with the positions folded.
#[derive(Module, Debug)]
struct FoldedOnce {
    layer: Linear,
    #[module(skip)]
    folded: bool,
}

impl Network for FoldedOnce {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let [n, positions, d] = x.dims();
        let hidden = tape.linear(&self.layer, x).tanh();
        let outputs = if self.folded {
            let rows: Tensor<2> = hidden.reshape([n * positions, d]);
            tape.linear(&self.layer, rows).reshape([n, positions, d])
        } else {
            tape.linear(&self.layer, hidden)
        };
        outputs.flatten(1, 2)
    }
}

#[test]
fn a_tied_layer_may_be_folded_in_one_use_and_not_in_another() {
    let layer = support::linear([WIDTH, WIDTH], true, (DType::F64, 1));
    let inputs = normal([6, WIDTH], 2).reshape([2, 3, WIDTH]);
    let batch = Batch::new(inputs, normal([2, 3 * WIDTH], 3));
    for estimate in Estimate::all() {
        let of = |folded| {
            let layer = layer.clone();
            estimate.factors(&FoldedOnce { layer, folded }, &Gaussian, &batch)
        };
        let what = format!("{estimate:?}");
        assert_same_factors(&what, &of(true), &of(false), ROUNDING);
    }
}
