//! A damping rule of your own: factored Tikhonov damping whose balance between the two factors of a block
//! is bounded.
//!
//! The paper's rule adds `πγ` to the input factor and `γ/π` to the output factor. Where the two differ by
//! orders of magnitude, one of them is hardly damped at all; this rule keeps π within bounds.

use std::{error::Error, sync::Arc};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Distribution, Tensor, activation::tanh},
};
use kfac::{
    Batch, Bernoulli, Extensions, KfacConfig, Network, PiNorm, Tape,
    damping::{DampingRule, FactorNorms, FactoredTikhonov, ProductDamping},
};

/// Factored Tikhonov damping with `1 / largest ≤ π ≤ largest`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundedBalance {
    /// At least one.
    pub(crate) largest: f64,
}

impl BoundedBalance {
    /// The rule that is bounded.
    const FREE: FactoredTikhonov = FactoredTikhonov { pi: PiNorm::Trace };
}

impl DampingRule for BoundedBalance {
    fn balance(&self, activation: &dyn FactorNorms, gradient: &dyn FactorNorms) -> f64 {
        let pi = Self::FREE.balance(activation, gradient);
        pi.clamp(self.largest.recip(), self.largest)
    }

    fn product(&self, gamma: f64, pi: f64) -> ProductDamping {
        Self::FREE.product(gamma, pi)
    }

    fn block(&self, gamma: f64) -> f64 {
        Self::FREE.block(gamma)
    }
}

#[derive(Module, Debug)]
struct Classifier {
    hidden: Linear,
    last: Linear,
}

impl Network for Classifier {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tanh(tape.linear(&self.hidden, x));
        tape.linear(&self.last, hidden)
    }
}

/// What came of the training.
pub(crate) struct Outcome {
    /// `π` of the two layers in the first step.
    pub(crate) pi: Vec<f64>,
    /// The objective at the start and at the end.
    pub(crate) objectives: [f64; 2],
}

/// Trains a classifier whose inputs are a hundred times too large.
pub(crate) fn train(rule: Arc<dyn DampingRule>) -> Result<Outcome, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut model = Classifier {
        hidden: LinearConfig::new(4, 8).init(&device),
        last: LinearConfig::new(8, 1).init(&device),
    };
    let plain = device.clone().inner();
    let inputs = Tensor::random([200, 4], Distribution::Normal(0.0, 100.0), &plain);
    let sums: Tensor<2> = inputs.clone().sum_dim(1);
    let batch = Batch::new(inputs, sums.greater_elem(0.0).float());

    let extensions = Extensions::new().with_damping(rule);
    let mut optimizer =
        KfacConfig::new().init_with(extensions, &model, Bernoulli, &batch.inputs)?;
    let first = optimizer.objective(&model, &batch)?;
    let pi = optimizer.step(&mut model, &batch)?.pi.unwrap_or_default();
    for _ in 1..30 {
        optimizer.step(&mut model, &batch)?;
    }
    Ok(Outcome {
        pi,
        objectives: [first, optimizer.objective(&model, &batch)?],
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    for largest in [f64::INFINITY, 8.0] {
        let Outcome { pi, objectives } = train(Arc::new(BoundedBalance { largest }))?;
        let [before, after] = objectives;
        println!("π at most {largest}: {pi:.1?}, objective {before:.3} -> {after:.3}");
    }
    Ok(())
}
