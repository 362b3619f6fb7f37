//! Does the tape see what the layers do, and leave what they compute alone?

use std::sync::{Arc, Mutex};

use burn::{
    module::{Module, ParamId},
    nn::{Linear, LinearConfig, LinearLayout},
    tensor::{DType, Device, Tensor},
};
use faer::Mat;
use kfac::{Batch, Gaussian, InitError, KfacConfig, Network, StepError, Tape};

use crate::support::{
    self, Activation, Mlp, Spec, assert_close, assert_near, bits, column, exact_config, normal, run,
};
use crate::support::{discover, host, layers_of};

/// One step in single precision: 1e-7 times the condition number of the damped factors.
const SINGLE: f64 = 1e-5;

const SPEC: Spec<'static> = Spec::new(&[3, 4, 2], Activation::Tanh);

/// Remembers the bits of the outputs of every forward pass.
#[derive(Module, Debug)]
struct Spy {
    network: Mlp,
    #[module(skip)]
    outputs: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Network for Spy {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let outputs = self.network.forward(inputs, tape);
        let values: Vec<f64> = host::to_vec(&outputs.clone().inner());
        self.outputs
            .lock()
            .unwrap()
            .push(values.into_iter().map(f64::to_bits).collect());
        outputs
    }
}

#[test]
fn a_tape_that_is_off_is_the_layers_own_forward() {
    let layer = LinearConfig::new(5, 3).init(&Device::default().autodiff());
    let inputs: Tensor<2> = normal([7, 5], 1).cast(DType::F32);
    let values = |t: Tensor<2>| host::to_vec(&t.inner()).into_iter().map(f64::to_bits);
    let own = layer.forward(inputs.clone());
    assert!(values(Tape::off().linear(&layer, inputs)).eq(values(own)));
}

#[test]
fn recording_does_not_change_the_outputs() {
    let mut spy = Spy {
        network: SPEC.model(1),
        outputs: Arc::default(),
    };
    let batch = SPEC.batch(&Gaussian, 6, 2);
    let mut optimizer = exact_config().init(&spy, Gaussian, &batch.inputs).unwrap();
    spy.outputs.lock().unwrap().clear();
    let _ = spy.forward(batch.inputs.clone(), &mut Tape::off());
    optimizer.step(&mut spy, &batch).unwrap();
    // Off, then the gradient (off) and one recorded pass an output; the model's passes come later.
    let mut seen = spy.outputs.lock().unwrap();
    // The first step also looks at one and at two cases alone.
    let all = seen[0].len();
    seen.retain(|outputs| outputs.len() == all);
    assert!(seen.len() >= 4);
    assert!(seen[1..4].iter().all(|outputs| *outputs == seen[0]));
}

#[test]
fn a_frozen_layer_is_left_alone_and_the_others_train() {
    let mut model = SPEC.model(1);
    model.layers[0] = model.layers[0].clone().no_grad();
    let before = (bits(&model.layers[0]), bits(&model.layers[1]));
    let batch = SPEC.batch(&Gaussian, 6, 2);
    let (optimizer, reports) = run(&exact_config(), Gaussian, &mut model, &batch, 3);
    assert_eq!(optimizer.layers().len(), 1);
    assert_eq!(before.0, bits(&model.layers[0]));
    assert_ne!(before.1, bits(&model.layers[1]));
    assert!(reports[2].objective < reports[0].objective);
    let frozen = discover(&model.clone().no_grad(), &batch.inputs).0;
    assert!(frozen.is_empty());
    let error = exact_config()
        .init(&model.no_grad(), Gaussian, &batch.inputs)
        .unwrap_err();
    assert_eq!(error, InitError::NoLayers);
}

#[test]
fn layers_keep_their_paths_and_identities() {
    let mut model = SPEC.model(1);
    let (optimizer, _) = run(
        &exact_config(),
        Gaussian,
        &mut model,
        &SPEC.batch(&Gaussian, 6, 2),
        3,
    );
    let ids: Vec<(ParamId, Option<ParamId>)> = model
        .layers
        .iter()
        .map(|layer| (layer.weight.id, layer.bias.as_ref().map(|b| b.id)))
        .collect();
    let found = optimizer
        .layers()
        .iter()
        .map(|layer| (layer.weight, layer.bias));
    assert_eq!(found.collect::<Vec<_>>(), ids);
    let paths: Vec<&str> = optimizer
        .layers()
        .iter()
        .map(|layer| layer.path.as_str())
        .collect();
    assert_eq!(paths, ["layers.0", "layers.1"]);
    let dimensions = optimizer
        .layers()
        .iter()
        .map(|l| (l.activation_dimension(), l.d_out));
    assert_eq!(dimensions.collect::<Vec<_>>(), [(4, 4), (5, 2)]);
    assert!(
        model
            .layers
            .iter()
            .all(|layer| layer.weight.val().is_require_grad())
    );
    let again = layers_of(&model, &normal([1, 3], 1));
    assert_eq!(&again, optimizer.layers());
}

/// One step of a network of Burn's own initialisation, stored either way.
fn step_of_layout(layout: LinearLayout, start: &Mlp, batch: &Batch<Tensor<2>>) -> Mat<f64> {
    let device = Device::default().autodiff();
    let layer = |pair: &[usize]| {
        LinearConfig::new(pair[0], pair[1])
            .with_layout(layout)
            .init(&device)
    };
    let model = Mlp {
        layers: SPEC.widths.windows(2).map(layer).collect(),
        ..start.clone()
    };
    let values = discover(start, &batch.inputs).0.parameters(start);
    let mut model = discover(&model, &batch.inputs)
        .0
        .with_parameters(model, &values);
    let (optimizer, _) = run(&exact_config(), Gaussian, &mut model, batch, 2);
    column(&optimizer.layers().parameters(&model))
}

#[test]
fn layouts_of_the_weight_and_precisions_take_the_same_steps() {
    let start = SPEC.model_in(DType::F32, 1);
    let double = SPEC.batch(&Gaussian, 8, 2);
    let batch = Batch::new(
        double.inputs.clone().cast(DType::F32),
        double.targets.clone().cast(DType::F32),
    );
    let row = step_of_layout(LinearLayout::Row, &start, &batch);
    let col = step_of_layout(LinearLayout::Col, &start, &batch);
    assert_close("layouts", &col, &row, SINGLE);
    let mut model = SPEC.model(1);
    let (optimizer, _) = run(&exact_config(), Gaussian, &mut model, &double, 2);
    let before = column(&discover(&start, &batch.inputs).0.parameters(&start));
    let exact = column(&optimizer.layers().parameters(&model)) - &before;
    assert_close(
        "precisions, of the steps",
        &(row - before),
        &exact,
        10.0 * SINGLE,
    );
}

/// A layer that a switch takes out of the pass.
#[derive(Module, Debug)]
struct Switched {
    network: Mlp,
    extra: Linear,
    #[module(skip)]
    on: bool,
}

impl Network for Switched {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let inputs = if self.on {
            tape.linear(&self.extra, inputs)
        } else {
            inputs
        };
        self.network.forward(inputs, tape)
    }
}

#[test]
fn a_layer_that_is_not_reached_later_is_named() {
    let extra = support::linear([3, 3], true, (DType::F64, 9));
    let mut model = Switched {
        network: SPEC.model(1),
        extra,
        on: true,
    };
    let batch = SPEC.batch(&Gaussian, 6, 2);
    let config: KfacConfig = exact_config();
    let (mut optimizer, _) = run(&config, Gaussian, &mut model, &batch, 2);
    model.on = false;
    let before = (bits(&model), optimizer.iteration());
    let error = optimizer.step(&mut model, &batch).unwrap_err();
    assert_eq!(
        error,
        StepError::LayerNotReached {
            layer: "extra".to_owned()
        }
    );
    assert_eq!(before, (bits(&model), optimizer.iteration()));
    model.on = true;
    let report = optimizer.step(&mut model, &batch).unwrap();
    assert_near("the third step", report.iteration as f64, 3.0, f64::EPSILON);
}

#[test]
fn a_plain_frozen_layer_does_not_hide_the_autodiff_of_the_others() {
    // A layer taken over from a model that was made for inference, before one that trains.
    let mut model = SPEC.model(1);
    model.layers[0] = model.layers[0].valid().no_grad();
    let before = (bits(&model.layers[0]), bits(&model.layers[1]));
    let batch = SPEC.batch(&Gaussian, 6, 2);
    run(&exact_config(), Gaussian, &mut model, &batch, 2);
    assert_eq!(before.0, bits(&model.layers[0]));
    assert_ne!(before.1, bits(&model.layers[1]));
    assert!(!model.layers[0].weight.val().is_autodiff());
}
