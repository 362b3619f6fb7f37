//! A layer of your own: a low-rank adapter beside a frozen dense layer, `x W + x A B + b`.
//!
//! A network that was trained before is adapted to another task by few parameters. `Tape::layer` takes
//! any layer whose weight multiplies rows that are made of its input; each of the two products of the
//! adapter is one, and has a Kronecker block of its own.

use std::error::Error;

use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use kfac::{
    Batch, Gaussian, KfacConfig, LayerParameters, Network, RandomStream, Tape, WeightLayout,
};

const INPUTS: usize = 12;
const OUTPUTS: usize = 8;
const RANK: usize = 2;
const CASES: usize = 256;

/// A frozen layer with an adapter.
#[derive(Module, Debug)]
pub(crate) struct Adapted {
    frozen: Linear,
    down: Param<Tensor<2>>,
    up: Param<Tensor<2>>,
}

impl Adapted {
    /// An adapter that changes nothing yet: the second of its two matrices is zero.
    fn of(layer: Linear, device: &Device) -> Self {
        let [d_in, d_out] = layer.weight.dims();
        let random = normal([d_in, RANK], 1).autodiff() / (d_in as f64).sqrt();
        Self {
            // Burn's way to freeze: the parameters ask for no gradient, and K-FAC leaves them alone.
            frozen: layer.no_grad(),
            down: Param::from_tensor(random),
            up: Param::from_tensor(Tensor::zeros([RANK, d_out], device)),
        }
    }
}

impl Network for Adapted {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let low = product(tape, &self.down, x.clone()); // [n, rank]
        self.frozen.forward(x) + product(tape, &self.up, low) // [n, d_out]
    }
}

/// `x W`, seen by the tape.
fn product(tape: &mut Tape, weight: &Param<Tensor<2>>, x: Tensor<2>) -> Tensor<2> {
    let parameters = LayerParameters {
        name: "adapter",
        weight,
        bias: None,
        layout: WeightLayout::InputsFirst,
        shape: weight.dims(),
    };
    let forward = |x: Tensor<2>| x.matmul(weight.val());
    let rows = |x: Tensor<2>| x.inner().unsqueeze_dim(1); // [n, 1, d_in]
    tape.layer(parameters, x, forward, rows)
}

/// What came of the training.
pub(crate) struct Outcome {
    /// The objective at the start, and after each step.
    pub(crate) objectives: Vec<f64>,
    /// What covers each parameter, as the optimizer prints it.
    pub(crate) table: String,
    /// The largest change of an element of the frozen weight.
    pub(crate) frozen_change: f64,
}

/// Trains the adapter to what a difference of rank two makes of a random layer.
pub(crate) fn adapt() -> Result<Outcome, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let layer = LinearConfig::new(INPUTS, OUTPUTS).init(&device);
    let mut model = Adapted::of(layer.clone(), &device);

    let inputs = normal([CASES, INPUTS], 2);
    let difference = normal([INPUTS, RANK], 3).matmul(normal([RANK, OUTPUTS], 4));
    let targets = layer.valid().forward(inputs.clone()) + inputs.clone().matmul(difference);
    let batch = Batch::new(inputs, targets);

    let mut optimizer = KfacConfig::new().init(&model, Gaussian, &batch.inputs)?;
    let mut objectives = vec![optimizer.objective(&model, &batch)?];
    for _ in 0..40 {
        optimizer.step(&mut model, &batch)?;
        objectives.push(optimizer.objective(&model, &batch)?);
    }
    let change = model.frozen.weight.val() - layer.weight.val();
    Ok(Outcome {
        objectives,
        table: optimizer.parameter_table().to_string(),
        frozen_change: change.abs().max().into_scalar::<f64>(),
    })
}

fn normal(shape: [usize; 2], seed: u64) -> Tensor<2> {
    let like = Tensor::zeros(shape, &Device::default());
    RandomStream::from_seed(seed).normal_like(&like)
}

fn main() -> Result<(), Box<dyn Error>> {
    let outcome = adapt()?;
    println!("{}", outcome.table);
    for (step, objective) in outcome.objectives.iter().enumerate().step_by(10) {
        println!("step {step:2}: objective {objective:.6}");
    }
    println!(
        "largest change of the frozen weight: {}",
        outcome.frozen_change
    );
    Ok(())
}
