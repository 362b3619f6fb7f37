//! A rule for λ of your own, and λ as a function of the iteration.
//!
//! λ damps the quadratic model that a step is made by. The paper multiplies or divides it by a constant
//! every few iterations; here it moves in each iteration, by a smooth function of how well the model
//! predicted the decrease (H. B. Nielsen, *Damping parameter in Marquardt's method*, 1999).

use std::{error::Error, sync::Arc};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Distribution, Tensor, activation::tanh},
};
use kfac::{
    Batch, Gaussian, KfacConfig, Network, Tape,
    damping::{Evidence, LambdaAction, LambdaRule, LambdaState, LambdaUpdate, ScheduledLambda},
};

/// `λ ← λ max(⅓, 1 − (2ρ − 1)³)`, at most twice λ, with the reduction ratio ρ of each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nielsen {
    pub(crate) initial: f64,
}

impl LambdaRule for Nielsen {
    fn start(&self) -> LambdaState {
        LambdaState {
            lambda: self.initial,
            starting: false,
        }
    }

    /// In every iteration: the objective is then evaluated once more, after the step.
    fn wants_evidence(&self, _state: LambdaState, _iteration: u64) -> bool {
        true
    }

    fn update(
        &self,
        state: LambdaState,
        _iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        let ratio = evidence.map_or(0.0, |evidence| evidence.reduction_ratio());
        // A ratio that is not finite tells that the step went much too far.
        let ratio = if ratio.is_finite() { ratio } else { 0.0 };
        let factor = (1.0 - (2.0 * ratio - 1.0).powi(3)).clamp(1.0 / 3.0, 2.0);
        let lambda = state.lambda * factor;
        LambdaUpdate {
            state: LambdaState { lambda, ..state },
            action: Some(if factor < 1.0 {
                LambdaAction::Decrease
            } else {
                LambdaAction::Increase
            }),
        }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        let lambda = state.lambda * 2.0;
        LambdaState { lambda, ..state }
    }
}

/// λ halves every five iterations, whatever comes.
pub(crate) fn schedule() -> impl LambdaRule {
    ScheduledLambda(|iteration| 0.5f64.powf((iteration - 1) as f64 / 5.0))
}

#[derive(Module, Debug)]
struct Regression {
    hidden: Linear,
    last: Linear,
}

impl Network for Regression {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tanh(tape.linear(&self.hidden, x));
        tape.linear(&self.last, hidden)
    }
}

/// Trains with a rule; returns λ of each step, and the objective before it.
pub(crate) fn train(rule: Arc<dyn LambdaRule>) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut model = Regression {
        hidden: LinearConfig::new(2, 10).init(&device),
        last: LinearConfig::new(10, 1).init(&device),
    };
    let plain = device.clone().inner();
    let inputs = Tensor::<2>::random([200, 2], Distribution::Normal(0.0, 1.0), &plain);
    let targets = inputs.clone().square().sum_dim(1);
    let batch = Batch::new(inputs, targets);

    let optimizer = KfacConfig::new().init(&model, Gaussian, &batch.inputs)?;
    let mut optimizer = optimizer.with_lambda_rule(rule);
    let mut steps = Vec::new();
    for _ in 0..40 {
        let report = optimizer.step(&mut model, &batch)?;
        steps.push((report.lambda.used, report.objective));
    }
    Ok(steps)
}

fn main() -> Result<(), Box<dyn Error>> {
    let rules: [(&str, Arc<dyn LambdaRule>); 2] = [
        ("Nielsen's rule", Arc::new(Nielsen { initial: 1.0 })),
        ("a schedule", Arc::new(schedule())),
    ];
    for (name, rule) in rules {
        println!("{name}");
        for (step, (lambda, objective)) in train(rule)?.iter().enumerate().step_by(10) {
            println!(
                "  step {:2}: λ {lambda:.2e}, objective {objective:.4}",
                step + 1
            );
        }
    }
    Ok(())
}
