//! The optimizers as they are typed.

use clap::ValueEnum;

use super::options::KfacArguments;
use crate::{
    methods::{FirstOrderConfig, FirstOrderOptimizer, LbfgsConfig, MethodConfig, RateSchedule},
    task::Task,
};

/// An optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Optimizer {
    /// K-FAC
    Kfac,
    /// K-FAC with corrected eigenvalues
    Ekfac,
    /// Stochastic gradient descent with Nesterov's momentum
    Sgd,
    /// Nesterov's accelerated gradient with Sutskever's schedule, the paper's baseline
    Nag,
    /// Adam
    Adam,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
    /// Muon for the matrices, AdamW for all else
    Muon,
    /// L-BFGS, 20 iterations on each batch: for large ones
    Lbfgs,
    /// K-FAC in front of SGD with Nesterov's momentum
    PreconditionedSgd,
    /// K-FAC in front of AdamW
    #[value(name = "preconditioned-adamw")]
    PreconditionedAdamW,
}

/// What the settings of an optimizer come from.
pub(super) struct Circumstances<'a> {
    pub(super) kfac: &'a KfacArguments,
    pub(super) task: &'a Task,
    pub(super) schedule: RateSchedule,
    /// Weight decay; `None` is the task's.
    pub(super) decay: Option<f64>,
    /// Momentum of SGD, and the largest of NAG; `None` is the optimizer's own.
    pub(super) momentum: Option<f64>,
    pub(super) seed: u64,
}

impl Optimizer {
    /// Whether it chooses its own steps.
    pub(super) fn is_second_order(self) -> bool {
        matches!(self, Self::Kfac | Self::Ekfac)
    }

    /// Whether K-FAC has a part in it.
    pub(super) fn is_own(self) -> bool {
        self.is_second_order()
            || matches!(self, Self::PreconditionedSgd | Self::PreconditionedAdamW)
    }

    /// Learning rates that are tried, the likeliest first; those of K-FAC and EKFAC choose themselves.
    pub(super) fn rates(self) -> &'static [f64] {
        match self {
            Self::Kfac | Self::Ekfac => &[],
            Self::Sgd => &[0.05, 0.1, 0.02, 0.2],
            Self::Nag => &[0.01, 0.02, 0.005, 0.05],
            Self::Adam | Self::AdamW | Self::PreconditionedAdamW => &[0.001, 0.003, 0.01, 0.0003],
            Self::Muon => &[0.02, 0.01, 0.05, 0.005],
            Self::Lbfgs => &[1.0, 0.5, 0.2, 0.1],
            Self::PreconditionedSgd => &[0.1, 0.03, 0.3, 0.01],
        }
    }

    /// The method with a learning rate, or with the likeliest one.
    pub(super) fn method(self, rate: Option<f64>, of: &Circumstances<'_>) -> MethodConfig {
        let decay = of.decay.unwrap_or(of.task.l2);
        let rate = rate.or_else(|| self.rates().first().copied());
        let rate = rate.unwrap_or_default();
        let first_order = |optimizer| FirstOrderConfig {
            optimizer,
            rate,
            schedule: of.schedule,
            decay,
        };
        let sgd = FirstOrderOptimizer::Sgd {
            momentum: of.momentum.unwrap_or(0.9),
        };
        let front = |optimizer| MethodConfig::Preconditioned {
            kfac: Box::new(of.kfac.preconditioner(of.seed)),
            behind: first_order(optimizer),
        };
        match self {
            Self::Kfac => MethodConfig::Kfac(Box::new(of.kfac.config(of.task, of.seed))),
            Self::Ekfac => {
                MethodConfig::Kfac(Box::new(of.kfac.corrected().config(of.task, of.seed)))
            }
            Self::Nag => MethodConfig::Nag {
                rate,
                max_momentum: of.momentum.unwrap_or(0.99),
                l2: decay,
            },
            Self::Sgd => MethodConfig::FirstOrder(first_order(sgd)),
            Self::Adam => MethodConfig::FirstOrder(first_order(FirstOrderOptimizer::Adam)),
            Self::AdamW => MethodConfig::FirstOrder(first_order(FirstOrderOptimizer::AdamW)),
            Self::Muon => MethodConfig::FirstOrder(first_order(FirstOrderOptimizer::Muon)),
            Self::Lbfgs => MethodConfig::Lbfgs(LbfgsConfig {
                rate,
                schedule: of.schedule,
                iterations: 20,
            }),
            Self::PreconditionedSgd => front(sgd),
            Self::PreconditionedAdamW => front(FirstOrderOptimizer::AdamW),
        }
    }
}
