//! The optimizers that a task can be trained with, behind one interface.

mod first_order;
mod gradients;
mod lbfgs;
mod nesterov;
mod rate;
mod record;

use anyhow::Result;
use burn::tensor::Tensor;
use kfac::{
    Batch, BatchSchedule, Eigenvalues, InitError, InverseStructure, Kfac, KfacConfig,
    ObserveReport, PreconditionReport, PreconditionerConfig, StepError, StepReport,
};
use serde::{Deserialize, Serialize};

use crate::{
    loss::{Distribution, Loss},
    network::Model,
    task::Task,
};
use first_order::FirstOrder;
pub use first_order::{FirstOrderConfig, FirstOrderOptimizer};
use gradients::MeanGradients;
pub(crate) use gradients::mean_gradients;
use lbfgs::Lbfgs;
pub use lbfgs::LbfgsConfig;
use nesterov::Nesterov;
pub use rate::{RateForm, RateSchedule};
pub(crate) use record::KFAC;
pub use record::model_file;

/// A method and its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodConfig {
    /// K-FAC.
    Kfac(Box<KfacConfig>),
    /// One of Burn's optimizers.
    FirstOrder(FirstOrderConfig),
    /// One of Burn's optimizers with K-FAC in front.
    Preconditioned {
        /// K-FAC's settings.
        kfac: Box<PreconditionerConfig>,
        /// The optimizer behind it.
        behind: FirstOrderConfig,
    },
    /// Burn's L-BFGS.
    Lbfgs(LbfgsConfig),
    /// Nesterov's accelerated gradient with the schedule of Sutskever et al. (2013).
    Nag {
        /// Learning rate.
        rate: f64,
        /// Largest momentum.
        max_momentum: f64,
        /// Weight of the penalty.
        l2: f64,
    },
}

impl MethodConfig {
    /// The name as it is typed.
    pub fn name(&self) -> String {
        match self {
            Self::Kfac(config) => match config.curvature.eigenvalues {
                Eigenvalues::Kronecker => "kfac".to_owned(),
                Eigenvalues::PerCase | Eigenvalues::BatchMean => "ekfac".to_owned(),
            },
            Self::FirstOrder(config) => config.optimizer.name().to_owned(),
            Self::Preconditioned { behind, .. } => {
                format!("preconditioned-{}", behind.optimizer.name())
            }
            Self::Lbfgs(_) => "lbfgs".to_owned(),
            Self::Nag { .. } => "nag".to_owned(),
        }
    }

    /// The name and the settings that tell it from others in a comparison.
    pub fn label(&self) -> String {
        match self {
            Self::Kfac(config) => match config.curvature.structure {
                InverseStructure::BlockDiagonal => {
                    estimate(config.curvature.eigenvalues).to_owned()
                }
                InverseStructure::BlockTridiagonal => "K-FAC, block-tridiagonal".to_owned(),
            },
            Self::FirstOrder(config) => config.label(),
            Self::Lbfgs(config) => format!("L-BFGS {}", config.rate),
            Self::Preconditioned { kfac, behind } => {
                let name = estimate(kfac.curvature.eigenvalues);
                format!("{name}, {}", behind.label())
            }
            Self::Nag {
                rate, max_momentum, ..
            } => format!("NAG {rate}, momentum {max_momentum}"),
        }
    }

    /// The sizes of the batches that a task suggests for the method.
    pub fn schedule(&self, task: &Task) -> BatchSchedule {
        match self {
            Self::Kfac(_) => task.schedule,
            Self::FirstOrder(_)
            | Self::Preconditioned { .. }
            | Self::Lbfgs(_)
            | Self::Nag { .. } => {
                let cases = task.first_order_batch;
                BatchSchedule::Fixed { cases }
            }
        }
    }

    /// The method with batches of such sizes.
    #[must_use]
    pub fn with_batches(self, schedule: BatchSchedule) -> Self {
        match self {
            Self::Kfac(config) => Self::Kfac(Box::new(config.with_batches(schedule))),
            other => other,
        }
    }

    /// The weight of the penalty.
    pub fn l2(&self) -> f64 {
        match self {
            Self::Kfac(config) => config.l2,
            Self::FirstOrder(config) | Self::Preconditioned { behind: config, .. } => config.l2(),
            Self::Lbfgs(_) => 0.0,
            Self::Nag { l2, .. } => *l2,
        }
    }

    /// The schedule of its learning rate with the first rate, where it has one.
    fn rates(&self) -> Option<(RateSchedule, f64)> {
        match self {
            Self::FirstOrder(config) | Self::Preconditioned { behind: config, .. } => {
                Some((config.schedule, config.rate))
            }
            Self::Lbfgs(config) => Some((config.schedule, config.rate)),
            Self::Kfac(_) | Self::Nag { .. } => None,
        }
    }

    /// Whether its learning rate depends on how long the run is.
    pub fn is_scheduled(&self) -> bool {
        let rates = self.rates();
        rates.is_some_and(|(schedule, _)| schedule.form != RateForm::Constant)
    }

    /// Refuses settings that it cannot start with.
    ///
    /// # Errors
    /// The faults of K-FAC's settings, all at once, or where Burn refuses the learning rate.
    pub fn check(&self) -> Result<()> {
        let faults = match self {
            Self::Kfac(config) => config.validate(),
            Self::Preconditioned { kfac, .. } => kfac.validate(),
            Self::FirstOrder(_) | Self::Lbfgs(_) | Self::Nag { .. } => Vec::new(),
        };
        if !faults.is_empty() {
            return Err(InitError::Configuration(faults).into());
        }
        match self.rates() {
            Some((schedule, rate)) => schedule.rates(rate).map(drop),
            None => Ok(()),
        }
    }

    /// Starts the method on a model.
    ///
    /// # Errors
    /// Where K-FAC refuses its configuration.
    pub fn start(&self, model: &Model, loss: Loss, example: &Tensor<2>) -> Result<Method> {
        let gradients = || MeanGradients::new(model, loss, example);
        Ok(match self {
            Self::Kfac(config) => Method::Kfac(Box::new(config.init(
                model,
                loss.distribution(),
                example,
            )?)),
            Self::FirstOrder(config) => {
                Method::FirstOrder(Box::new(config.start(model, gradients(), None)?))
            }
            Self::Preconditioned { kfac, behind } => {
                let kfac = kfac.init(model, loss.distribution(), example)?;
                let kfac = Some(Box::new(kfac));
                Method::FirstOrder(Box::new(behind.start(model, gradients(), kfac)?))
            }
            Self::Lbfgs(config) => Method::Lbfgs(Box::new(config.start(gradients())?)),
            Self::Nag {
                rate,
                max_momentum,
                l2,
            } => Method::Nesterov(Nesterov::new((*rate, *max_momentum), *l2, gradients())),
        })
    }
}

/// What K-FAC is called with its eigenvalues.
fn estimate(eigenvalues: Eigenvalues) -> &'static str {
    match eigenvalues {
        Eigenvalues::Kronecker => "K-FAC",
        Eigenvalues::PerCase | Eigenvalues::BatchMean => "EKFAC",
    }
}

/// A running method.
pub enum Method {
    /// K-FAC.
    Kfac(Box<Kfac<Distribution>>),
    /// One of Burn's optimizers, with K-FAC in front or without.
    FirstOrder(Box<FirstOrder>),
    /// Burn's L-BFGS.
    Lbfgs(Box<Lbfgs>),
    /// Nesterov's accelerated gradient.
    Nesterov(Nesterov),
}

/// What a step tells.
pub struct StepSummary {
    /// The objective on the batch before the step; first-order methods leave the penalty out.
    pub objective: f64,
    /// The report of a K-FAC step.
    pub kfac: Option<StepReport>,
    /// The reports of K-FAC in front of another optimizer.
    pub preconditioned: Option<(ObserveReport, PreconditionReport)>,
}

impl Method {
    /// Takes one step.
    ///
    /// # Errors
    /// Where the step is refused; model and method are then as before.
    pub fn step(
        &mut self,
        model: &mut Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        match self {
            Self::Kfac(kfac) => {
                let report = kfac.step(model, batch)?;
                Ok(StepSummary {
                    objective: report.objective,
                    kfac: Some(report),
                    preconditioned: None,
                })
            }
            Self::FirstOrder(method) => method.step(model, batch),
            Self::Lbfgs(method) => method.step(model, batch),
            Self::Nesterov(method) => method.step(model, batch),
        }
    }

    /// The cases that the next batch should have, where the method tells: all where it does not.
    pub fn batch_size(&self, total: usize) -> usize {
        match self {
            Self::Kfac(kfac) => kfac.batch_size(total),
            Self::FirstOrder(_) | Self::Lbfgs(_) | Self::Nesterov(_) => total,
        }
    }

    /// The iterate that is to be evaluated: the model itself for all methods but Nesterov's, whose
    /// model is at the point where the next gradient is taken.
    pub fn iterate(&self, model: &Model) -> Model {
        match self {
            Self::Kfac(_) | Self::FirstOrder(_) | Self::Lbfgs(_) => model.clone(),
            Self::Nesterov(method) => method.iterate(model),
        }
    }

    /// The average of the iterates, where there is one.
    pub fn average(&self, model: &Model) -> Option<Model> {
        match self {
            Self::Kfac(kfac) => kfac.averaged_model(model),
            Self::FirstOrder(_) | Self::Lbfgs(_) | Self::Nesterov(_) => None,
        }
    }
}
