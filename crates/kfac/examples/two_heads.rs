//! A network with two heads: a policy over classes and a value, each with a loss of its own.
//!
//! The outputs are a tuple, and so are the losses and the targets. The classes are given by their indices.

use std::error::Error;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Int, Tensor, activation::tanh},
};
use kfac::{
    Batch, Categorical, Gaussian, Head, KfacConfig, Network, PredictiveDistribution, RandomStream,
    Tape,
};

const CASES: usize = 300;
const INPUTS: usize = 4;

#[derive(Module, Debug)]
struct TwoHeads {
    trunk: Linear,
    policy: Linear,
    value: Linear,
}

impl Network for TwoHeads {
    type Input = Tensor<2>;
    type Output = (Tensor<2>, Tensor<2>);

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> (Tensor<2>, Tensor<2>) {
        let features = tanh(tape.linear(&self.trunk, x));
        let policy = tape.linear(&self.policy, features.clone()); // [n, classes]
        let value = tape.linear(&self.value, features); // [n, 1]
        (policy, value)
    }
}

/// What each head has learned.
pub(crate) struct Outcome {
    /// The part of the cases whose class the policy knows.
    pub(crate) accuracy: f64,
    /// The mean squared error of the value.
    pub(crate) squared_error: f64,
}

/// Trains both heads; returns what they know before and after it.
pub(crate) fn train() -> Result<[Outcome; 2], Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut model = TwoHeads {
        trunk: LinearConfig::new(INPUTS, 16).init(&device),
        policy: LinearConfig::new(16, INPUTS).init(&device),
        value: LinearConfig::new(16, 1).init(&device),
    };
    let like = Tensor::<2>::zeros([CASES, INPUTS], &device.inner());
    let inputs = RandomStream::from_seed(1).normal_like(&like);
    // Which input is the largest, and how large it is.
    let classes: Tensor<1, Int> = inputs.clone().argmax(1).squeeze_dim(1); // [n]
    let values = inputs.clone().max_dim(1); // [n, 1]
    let batch = Batch::new(inputs, (classes, values));

    let loss = (
        Head::new("policy", Categorical),
        Head::new("value", Gaussian).with_weight(0.5),
    );
    let mut optimizer = KfacConfig::new().init(&model, loss, &batch.inputs)?;
    let before = judge(&model, &batch);
    for _ in 0..50 {
        optimizer.step(&mut model, &batch)?;
    }
    Ok([before, judge(&model, &batch)])
}

fn judge(model: &TwoHeads, batch: &Batch<Tensor<2>, (Tensor<1, Int>, Tensor<2>)>) -> Outcome {
    let (classes, values) = batch.targets.clone();
    let (policy, value) = model
        .valid()
        .forward(batch.inputs.clone(), &mut Tape::off());
    let right = policy.argmax(1).squeeze_dim(1).equal(classes);
    let losses = Gaussian.negative_log_likelihood(value, values);
    Outcome {
        accuracy: right.float().mean().into_scalar::<f64>(),
        squared_error: 2.0 * losses.mean().into_scalar::<f64>(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let [before, after] = train()?;
    for (when, outcome) in [("before", before), ("after", after)] {
        let Outcome {
            accuracy,
            squared_error,
        } = outcome;
        println!(
            "{when:6}: policy right in {accuracy:.3}, squared error of the value {squared_error:.4}"
        );
    }
    Ok(())
}
