//! An objective of your own: a policy gradient.
//!
//! A policy chooses one of four actions in each state; nobody tells which one is right, only what the
//! chosen one was worth. The surrogate `−E[A log π(a | s)]` with the advantages `A` has the policy
//! gradient; it is no negative log-likelihood, so its value and gradient are given by hand. The curvature
//! is the Fisher matrix of the policy: K-FAC's step is an approximate natural policy gradient.

use std::error::Error;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    optim::GradientsParams,
    tensor::{
        Device, Int, Tensor,
        activation::{log_softmax, tanh},
    },
};
use kfac::{
    Batch, Categorical, KfacConfig, Network, Objective, ObjectiveError, PredictiveDistribution,
    RandomStream, Tape,
};

const STATES: usize = 256;
const ACTIONS: usize = 4;

#[derive(Module, Debug)]
struct Policy {
    hidden: Linear,
    logits: Linear,
}

impl Network for Policy {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, states: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tanh(tape.linear(&self.hidden, states));
        tape.linear(&self.logits, hidden)
    }
}

/// The actions that were taken, `[n]`, and their advantages, `[n, 1]`.
type Taken = (Tensor<1, Int>, Tensor<2>);

/// `−mean A log π(a | s)`.
struct PolicyGradient;

impl PolicyGradient {
    fn of(model: &Policy, batch: &Batch<Tensor<2>, Taken>) -> Tensor<1> {
        let (actions, advantages) = batch.targets.clone();
        let logits = model.forward(batch.inputs.clone(), &mut Tape::evaluating());
        let of_actions = log_softmax(logits, 1).gather(1, actions.unsqueeze_dim(1)); // [n, 1]
        (of_actions * advantages).mean().neg()
    }
}

impl Objective<Policy, Taken> for PolicyGradient {
    fn value(
        &self,
        model: &Policy,
        batch: &Batch<Tensor<2>, Taken>,
    ) -> Result<f64, ObjectiveError> {
        Ok(Self::of(model, batch).into_scalar::<f64>())
    }

    fn value_and_gradients(
        &self,
        model: &Policy,
        batch: &Batch<Tensor<2>, Taken>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        let value = Self::of(model, batch);
        let gradients = GradientsParams::from_grads(value.backward(), model);
        Ok((value.into_scalar::<f64>(), gradients))
    }
}

/// A game of one move: the right action is that of the largest of four numbers.
fn rewards(states: &Tensor<2>, actions: &Tensor<2, Int>) -> Tensor<2> {
    states.clone().argmax(1).equal(actions.clone()).float() // [n, 1]
}

/// Plays and learns; returns the mean reward of each round.
pub(crate) fn learn() -> Result<Vec<f64>, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut policy = Policy {
        hidden: LinearConfig::new(ACTIONS, 16).init(&device),
        logits: LinearConfig::new(16, ACTIONS).init(&device),
    };
    let mut random = RandomStream::from_seed(1);
    let shape = Tensor::<2>::zeros([STATES, ACTIONS], &device.inner());
    let config = KfacConfig::new().with_initial_lambda(1.0);
    let mut optimizer = config.init(&policy, Categorical, &shape)?;

    let mut mean_rewards = Vec::new();
    for _ in 0..60 {
        let states = random.normal_like(&shape);
        let logits = policy.valid().forward(states.clone(), &mut Tape::off());
        let actions = Categorical.sample(logits, &mut random).argmax(1); // [n, 1]
        let rewards = rewards(&states, &actions);
        let baseline = rewards.clone().mean();
        mean_rewards.push(baseline.clone().into_scalar::<f64>());

        let advantages = rewards - baseline.unsqueeze();
        let batch = Batch::new(states, (actions.squeeze_dim(1), advantages));
        optimizer.step_with(&mut policy, &batch, &PolicyGradient)?;
    }
    Ok(mean_rewards)
}

fn main() -> Result<(), Box<dyn Error>> {
    for (round, reward) in learn()?.iter().enumerate().step_by(10) {
        println!("round {round:2}: mean reward {reward:.2}");
    }
    Ok(())
}
