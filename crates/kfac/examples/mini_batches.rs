//! K-FAC in front of SGD with momentum, on mini-batches and with a schedule of the learning rate.

use std::error::Error;

use burn::{
    lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig,
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
        loss::CrossEntropyLossConfig,
    },
    optim::{GradientsParams, SgdConfig, momentum::MomentumConfig},
    tensor::{Device, Distribution, Int, Tensor, activation::relu},
};
use kfac::{Categorical, Network, PreconditionerConfig, Tape};

/// Trains for an epoch of batches.
pub(crate) fn train<M: Network<Input = Tensor<2>, Output = Tensor<2>>>(
    mut model: M,
    batches: &[(Tensor<2>, Tensor<1, Int>)],
) -> Result<M, Box<dyn Error>> {
    let loss = CrossEntropyLossConfig::new().init(&batches[0].0.device());
    let momentum = MomentumConfig::new()
        .with_dampening(0.0)
        .with_nesterov(true); // 0.9
    let mut sgd = SgdConfig::new().with_momentum(Some(momentum)).init();
    let mut rates = CosineAnnealingLrSchedulerConfig::new(0.1, batches.len()).init()?;
    let mut kfac = PreconditionerConfig::new().init(&model, Categorical, &batches[0].0)?;
    for (inputs, classes) in batches {
        let outputs = model.forward(inputs.clone(), &mut Tape::off());
        let gradients = loss.forward(outputs, classes.clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        let rate = rates.step();
        kfac.observe_inputs(&model, inputs)?;
        let step = kfac.precondition(&model, gradients, rate.base())?;
        model = sgd.step(rate, model, step.gradients);
    }
    Ok(model)
}

/// Pixels of a side.
const SIDE: usize = 8;

/// A convolution with batch normalisation, and a dense layer.
#[derive(Module, Debug)]
pub(crate) struct Classifier {
    conv: Conv2d,
    norm: BatchNorm,
    logits: Linear,
}

impl Classifier {
    /// A network with Burn's initialisation.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, 4], [3, 3]).init(device),
            norm: BatchNormConfig::new(4).init(device),
            logits: LinearConfig::new(4 * (SIDE - 2) * (SIDE - 2), 2).init(device),
        }
    }
}

impl Network for Classifier {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, pixels: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let images = pixels.clone().reshape([pixels.dims()[0], 1, SIDE, SIDE]);
        let features = tape.batch_norm(&self.norm, tape.conv2d(&self.conv, images));
        tape.linear(&self.logits, relu(features).flatten(1, 3))
    }
}

/// Images of noise, of which the second class has a brighter upper half.
fn batch(cases: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let cases_of = i64::try_from(cases).unwrap_or(i64::MAX);
    let classes = Tensor::<1, Int>::arange(0..cases_of, device) % 2;
    let noise = Tensor::random([cases, SIDE * SIDE], Distribution::Normal(0.0, 1.0), device);
    let half = SIDE * SIDE / 2;
    let bright: Tensor<2> = classes.clone().float().unsqueeze_dim(1);
    let upper = noise.clone().slice_dim(1, 0..half) + bright;
    (
        Tensor::cat(vec![upper, noise.slice_dim(1, half..2 * half)], 1),
        classes,
    )
}

/// The part of new cases that is classified correctly after an epoch.
pub(crate) fn accuracy() -> Result<f64, Box<dyn Error>> {
    let device = Device::default().autodiff();
    device.seed(1);
    let batches: Vec<_> = (0..40).map(|_| batch(64, &device)).collect();
    let model = train(Classifier::new(&device), &batches)?;
    let (inputs, classes) = batch(1000, &device.inner());
    let outputs = model.valid().forward(inputs, &mut Tape::off());
    let found: Tensor<1, Int> = outputs.argmax(1).squeeze_dim(1);
    let correct = found.equal(classes).int().sum().into_scalar::<i64>();
    Ok(correct as f64 / 1000.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:.1} % of new cases are classified correctly",
        100.0 * accuracy()?
    );
    Ok(())
}
