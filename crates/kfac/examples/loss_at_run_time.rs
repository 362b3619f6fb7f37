//! A loss that is chosen at run time: `cargo run --example loss_at_run_time -- gaussian`.
//!
//! `Box<dyn PredictiveDistribution>` is a loss like any other, so that the optimizer has one type whatever
//! the choice.

use std::{env, error::Error};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Distribution, Tensor, activation::tanh},
};
use kfac::{
    Batch, Bernoulli, Categorical, Gaussian, Kfac, KfacConfig, Network, PredictiveDistribution,
    Tape,
};

#[derive(Module, Debug)]
struct Model {
    hidden: Linear,
    last: Linear,
}

impl Network for Model {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tanh(tape.linear(&self.hidden, x));
        tape.linear(&self.last, hidden)
    }
}

/// The loss of a name.
fn loss(name: &str) -> Result<Box<dyn PredictiveDistribution>, Box<dyn Error>> {
    match name {
        "bernoulli" => Ok(Box::new(Bernoulli)),
        "categorical" => Ok(Box::new(Categorical)),
        "gaussian" => Ok(Box::new(Gaussian)),
        _ => {
            Err(format!("the loss is `{name}`, expected bernoulli, categorical or gaussian").into())
        }
    }
}

/// Trains with the loss of a name to tell which of three numbers is the largest; returns the objective
/// at the start and at the end.
pub(crate) fn train(name: &str) -> Result<[f64; 2], Box<dyn Error>> {
    let loss = loss(name)?;
    let device = Device::default().autodiff();
    let mut model = Model {
        hidden: LinearConfig::new(3, 12).init(&device),
        last: LinearConfig::new(12, 3).init(&device),
    };
    let inputs = Tensor::random([200, 3], Distribution::Normal(0.0, 1.0), &device.inner());
    let largest = inputs
        .clone()
        .equal(inputs.clone().max_dim(1).repeat_dim(1, 3));
    // One-hot rows are targets of all three losses.
    let batch = Batch::new(inputs, largest.float());

    let mut optimizer: Kfac<Box<dyn PredictiveDistribution>> =
        KfacConfig::new().init(&model, loss, &batch.inputs)?;
    let first = optimizer.objective(&model, &batch)?;
    for _ in 0..30 {
        optimizer.step(&mut model, &batch)?;
    }
    Ok([first, optimizer.objective(&model, &batch)?])
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args()
        .nth(1)
        .unwrap_or_else(|| "categorical".to_owned());
    let [first, last] = train(&name)?;
    println!("{name}: objective {first:.4} -> {last:.4}");
    Ok(())
}
