//! Does a call through the tape compute what the layer itself does, and batch normalisation what it should?

use burn::{
    module::{Module, RunningState},
    nn::attention::MhaInput,
    tensor::{Bool, DType, Device, Tensor, TensorData},
};
use kfac::{AttentionMasks, KfacConfig, Network, StepError, Tape};

use crate::support::host;
use crate::support::{FEATURES, Kind, KindLayer, KindNetwork, exact_config, normal};

/// A mean and a variance of some dozen numbers.
const ROUNDING: f64 = 1e-13;

/// What the layer of a network makes of its input without a tape.
fn plain(network: &KindNetwork, x: Tensor<2>) -> Tensor<2> {
    let n = x.dims()[0];
    let sequence = x.clone().reshape([n, 3, 4]);
    let channels = x.clone().reshape([n, 4, 3]);
    let image = x.clone().reshape([n, 2, 2, 3]);
    match &network.first {
        KindLayer::Dense(layer) => layer.forward(sequence).flatten(1, 2),
        KindLayer::Conv1d(layer) => layer.forward(x.reshape([n, 2, 6])).flatten(1, 2),
        KindLayer::Conv2d(layer) => layer.forward(image).flatten(1, 3),
        KindLayer::Conv3d(layer) => layer.forward(x.reshape([n, 1, 2, 3, 2])).flatten(1, 4),
        KindLayer::Transposed(layer) => layer.forward(image).flatten(1, 3),
        KindLayer::Embedding(layer) => {
            let tokens = x.abs().clamp_max(3.5).int();
            layer.forward(tokens).flatten(1, 2)
        }
        KindLayer::LayerNorm(layer) => layer.forward(sequence).flatten(1, 2),
        KindLayer::RmsNorm(layer) => layer.forward(sequence).flatten(1, 2),
        KindLayer::GroupNorm(layer) => layer.forward(channels).flatten(1, 2),
        KindLayer::InstanceNorm(layer) => layer.forward(channels).flatten(1, 2),
        KindLayer::BatchNorm(layer) => layer.forward(channels).flatten(1, 2),
        KindLayer::Parameter(factor) => x * factor.val(),
        KindLayer::Attention(layer) => {
            let output = layer.forward(MhaInput::self_attn(sequence));
            output.context.flatten(1, 2)
        }
        KindLayer::Encoder(layer) => layer.forward(sequence, None, None).flatten(1, 2),
    }
}

fn bits<const D: usize>(tensor: &Tensor<D>) -> Vec<u64> {
    let values: Vec<f64> = host::to_vec(&tensor.clone().inner());
    values.into_iter().map(f64::to_bits).collect()
}

#[test]
fn with_the_tape_off_a_call_has_the_bits_of_the_layers_own_forward() {
    for kind in Kind::ALL {
        // Without autodiff no dropout draws random numbers.
        let network = kind.model(3).valid();
        let inputs = normal([5, FEATURES], 4);
        let expected = network.last.forward(plain(&network, inputs.clone()).tanh());
        let found = network.forward(inputs, &mut Tape::off());
        assert_eq!(bits(&found), bits(&expected), "{kind:?}");
    }
}

fn mask<const D: usize>(shape: [usize; D], masked: impl Fn(usize) -> bool) -> Tensor<D, Bool> {
    let values: Vec<bool> = (0..shape.iter().product()).map(masked).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

#[test]
fn masks_of_attention_are_those_of_the_layers() {
    let masks = AttentionMasks {
        padding: Some(mask([5, 3], |at| at % 3 == 2 && at < 9)),
        attention: Some(mask([5, 3, 3], |at| at % 3 > at / 3 % 3)),
    };
    let x = normal([5, FEATURES], 4).reshape([5, 3, 4]);
    let network = Kind::Attention.model(3).valid();
    let KindLayer::Attention(layer) = &network.first else {
        panic!("the layer of its kind")
    };
    let input = MhaInput::self_attn(x.clone())
        .mask_pad(masks.padding.clone().unwrap())
        .mask_attn(masks.attention.clone().unwrap());
    let expected = layer.forward(input).context;
    let of = [x.clone(), x.clone(), x.clone()];
    let found = Tape::off().attention(layer, of, &masks);
    assert_eq!(bits(&found), bits(&expected));

    let network = Kind::Encoder.model(3).valid();
    let KindLayer::Encoder(layer) = &network.first else {
        panic!("the layer of its kind")
    };
    let expected = layer.forward(x.clone(), masks.padding.clone(), masks.attention.clone());
    let found = Tape::off().transformer_encoder_layer(layer, x, &masks);
    assert_eq!(bits(&found), bits(&expected));
}

/// Mean and variance that a network's batch normalisation goes by.
fn statistics(network: &KindNetwork) -> [Vec<f64>; 2] {
    let KindLayer::BatchNorm(layer) = &network.first else {
        panic!("the layer of its kind")
    };
    [&layer.running_mean, &layer.running_var]
        .map(|state: &RunningState<Tensor<1>>| host::to_vec(&state.value().inner()))
}

/// Mean and biased variance of each channel of a batch.
fn moments(inputs: &Tensor<2>) -> [Vec<f64>; 2] {
    let n = inputs.dims()[0];
    let values: Vec<f64> = host::to_vec(inputs);
    let of_channel = |channel: usize| {
        let rows = values.chunks(FEATURES);
        rows.flat_map(|row| row[3 * channel..3 * (channel + 1)].to_vec())
            .collect::<Vec<f64>>()
    };
    let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / (3 * n) as f64;
    let channels = (0..4).map(of_channel);
    let both = channels.map(|numbers| {
        let centre = mean(&numbers);
        let squares: Vec<f64> = numbers.iter().map(|x| (x - centre).powi(2)).collect();
        (centre, mean(&squares))
    });
    let (means, variances) = both.unzip();
    [means, variances]
}

fn assert_statistics(found: &[Vec<f64>; 2], expected: &[Vec<f64>; 2]) {
    for (found, expected) in found.concat().iter().zip(expected.concat()) {
        assert!(
            (found - expected).abs() < ROUNDING,
            "{found} is not {expected}"
        );
    }
}

fn mixed(old: &[Vec<f64>; 2], new: &[Vec<f64>; 2], kept: f64) -> [Vec<f64>; 2] {
    [0, 1].map(|which| {
        let pairs = old[which].iter().zip(&new[which]);
        pairs
            .map(|(old, new)| kept * old + (1.0 - kept) * new)
            .collect()
    })
}

fn small_steps() -> KfacConfig {
    exact_config().with_initial_lambda(10.0)
}

#[test]
fn running_statistics_move_once_a_step_by_those_of_its_cases() {
    let mut model = Kind::BatchNorm.model(1);
    let batches = [1, 2, 3].map(|seed| Kind::batch(7, seed));
    let mut optimizer = small_steps()
        .init(&model, kfac::Gaussian, &batches[0].inputs)
        .unwrap();
    let mut expected = statistics(&model);
    for (step, batch) in batches.iter().enumerate() {
        optimizer.step(&mut model, batch).unwrap();
        // The plain mean of all batches, until the layer's momentum of a tenth is reached.
        let kept = 1.0 - 1.0 / (step + 1) as f64;
        expected = mixed(&expected, &moments(&batch.inputs), kept);
        assert_statistics(&statistics(&model), &expected);
    }
    // By them, and not by the batch's own, the objective is told.
    let objective = optimizer.objective(&model, &batches[0]).unwrap();
    let halves = [0..3, 3..7].map(|range| {
        let part = batches[0].slice(range);
        part.len() as f64 * optimizer.objective(&model, &part).unwrap()
    });
    assert!((halves.iter().sum::<f64>() / 7.0 - objective).abs() < 1e-12 * objective);
}

#[test]
fn a_refused_step_gives_the_statistics_back_and_a_frozen_layer_keeps_them() {
    let mut model = Kind::BatchNorm.model(1);
    let batch = Kind::batch(7, 1);
    let mut optimizer = small_steps()
        .init(&model, kfac::Gaussian, &batch.inputs)
        .unwrap();
    optimizer.step(&mut model, &batch).unwrap();
    let before = statistics(&model);
    let mut bad = Kind::batch(7, 2);
    bad.inputs = bad.inputs.slice_fill([2..3, 4..5], f64::NAN);
    let error = optimizer.step(&mut model, &bad).unwrap_err();
    assert!(matches!(error, StepError::NonFinite { .. }), "{error}");
    assert_eq!(statistics(&model), before);

    let KindLayer::BatchNorm(layer) = &mut model.first else {
        panic!("the layer of its kind")
    };
    layer.training = burn::module::Param::from_bool(false);
    let mut optimizer = small_steps()
        .init(&model, kfac::Gaussian, &batch.inputs)
        .unwrap();
    optimizer.step(&mut model, &Kind::batch(7, 3)).unwrap();
    assert_eq!(statistics(&model), before);
}

#[test]
fn dropout_does_not_disturb_the_optimizer() {
    // Attention and encoder have a dropout of a tenth.
    for kind in [Kind::Attention, Kind::Encoder] {
        let model = kind.model(1);
        let batch = Kind::batch(7, 1);
        let optimizer = small_steps()
            .init(&model, kfac::Gaussian, &batch.inputs)
            .unwrap();
        let objective = optimizer.objective(&model, &batch).unwrap();
        let step = || {
            let mut model = model.clone();
            let report = optimizer.clone().step(&mut model, &batch).unwrap();
            report.objective
        };
        let first = step();
        assert_eq!(first.to_bits(), step().to_bits(), "{kind:?}");
        // The pass that has a gradient computes a normalisation in other words.
        assert!((first - objective).abs() < ROUNDING * objective, "{kind:?}");
    }
    let dropped = normal([1, 200], 1).cast(DType::F64).autodiff();
    let layer = burn::nn::DropoutConfig::new(0.5).init();
    let output = Tape::off().dropout(&layer, dropped.clone());
    assert_ne!(bits(&output), bits(&dropped), "with the tape off it drops");
}
