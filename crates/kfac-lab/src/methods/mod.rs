//! The optimizers that a task can be trained with, behind one interface.

mod first_order;
mod gradients;
mod nesterov;

use anyhow::Result;
use burn::tensor::Tensor;
use kfac::{Batch, BatchSchedule, InverseStructure, Kfac, KfacConfig, StepError, StepReport};
use serde::{Deserialize, Serialize};

use crate::{
    loss::{Distribution, Loss},
    network::Model,
    task::Task,
};
use first_order::FirstOrder;
use gradients::MeanGradients;
use nesterov::Nesterov;

/// A method and its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodConfig {
    /// K-FAC.
    Kfac(Box<KfacConfig>),
    /// Stochastic gradient descent with momentum: Burn's.
    Sgd {
        /// Learning rate.
        rate: f64,
        /// Momentum.
        momentum: f64,
        /// Weight of the penalty.
        l2: f64,
    },
    /// Nesterov's accelerated gradient with the schedule of Sutskever et al. (2013).
    Nag {
        /// Learning rate.
        rate: f64,
        /// Largest momentum.
        max_momentum: f64,
        /// Weight of the penalty.
        l2: f64,
    },
    /// Adam: Burn's.
    Adam {
        /// Learning rate.
        rate: f64,
        /// Weight of the penalty.
        l2: f64,
    },
}

impl MethodConfig {
    /// The name as it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kfac(_) => "kfac",
            Self::Sgd { .. } => "sgd",
            Self::Nag { .. } => "nag",
            Self::Adam { .. } => "adam",
        }
    }

    /// The name and the settings that tell it from others in a comparison.
    pub fn label(&self) -> String {
        match self {
            Self::Kfac(config) => match config.curvature.structure {
                InverseStructure::BlockDiagonal => "K-FAC".to_owned(),
                InverseStructure::BlockTridiagonal => "K-FAC, block-tridiagonal".to_owned(),
            },
            Self::Sgd { rate, momentum, .. } => format!("SGD {rate}, momentum {momentum}"),
            Self::Nag {
                rate, max_momentum, ..
            } => format!("NAG {rate}, momentum {max_momentum}"),
            Self::Adam { rate, .. } => format!("Adam {rate}"),
        }
    }

    /// The sizes of the batches that a task suggests for the method.
    pub fn schedule(&self, task: &Task) -> BatchSchedule {
        match self {
            Self::Kfac(_) => task.schedule,
            Self::Sgd { .. } | Self::Nag { .. } | Self::Adam { .. } => {
                let cases = task.first_order_batch;
                BatchSchedule::Fixed { cases }
            }
        }
    }

    /// The weight of the penalty.
    pub fn l2(&self) -> f64 {
        match self {
            Self::Kfac(config) => config.l2,
            Self::Sgd { l2, .. } | Self::Nag { l2, .. } | Self::Adam { l2, .. } => *l2,
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
            Self::Sgd { rate, momentum, l2 } => {
                Method::FirstOrder(FirstOrder::sgd((*rate, *momentum), *l2, gradients()))
            }
            Self::Adam { rate, l2 } => {
                Method::FirstOrder(FirstOrder::adam(*rate, *l2, gradients()))
            }
            Self::Nag {
                rate,
                max_momentum,
                l2,
            } => Method::Nesterov(Nesterov::new((*rate, *max_momentum), *l2, gradients())),
        })
    }
}

/// A running method.
pub enum Method {
    /// K-FAC.
    Kfac(Box<Kfac<Distribution>>),
    /// Burn's SGD or Adam.
    FirstOrder(FirstOrder),
    /// Nesterov's accelerated gradient.
    Nesterov(Nesterov),
}

/// What a step tells.
pub struct StepSummary {
    /// The objective on the batch before the step; first-order methods leave the penalty out.
    pub objective: f64,
    /// The report of a K-FAC step.
    pub kfac: Option<StepReport>,
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
                })
            }
            Self::FirstOrder(method) => method.step(model, batch),
            Self::Nesterov(method) => method.step(model, batch),
        }
    }

    /// The iterate that is to be evaluated: the model itself for all methods but Nesterov's, whose
    /// model is at the point where the next gradient is taken.
    pub fn iterate(&self, model: &Model) -> Model {
        match self {
            Self::Kfac(_) | Self::FirstOrder(_) => model.clone(),
            Self::Nesterov(method) => method.iterate(model),
        }
    }

    /// The average of the iterates, where there is one.
    pub fn average(&self, model: &Model) -> Option<Model> {
        match self {
            Self::Kfac(kfac) => kfac.averaged_model(model),
            Self::FirstOrder(_) | Self::Nesterov(_) => None,
        }
    }
}
