//! Burn's own first-order optimizers, alone or with K-FAC in front.

use anyhow::Result;
use burn::{
    lr_scheduler::module_lr_scheduler::ModuleLrScheduler,
    module::ParamGroup,
    optim::{
        AdamConfig, AdamWConfig, ModuleOptimizer, MuonConfig, SgdConfig, decay::WeightDecayConfig,
        momentum::MomentumConfig,
    },
    tensor::Tensor,
};
use kfac::{Batch, Preconditioner, StepError, record::OptimizerRecord};
use serde::{Deserialize, Serialize};

use super::{
    StepSummary,
    gradients::MeanGradients,
    rate::RateSchedule,
    record::{KFAC, OPTIMIZER, burns, loaded_rates, optimizer_files},
};
use crate::{
    checkpoint::{CheckpointFiles, Part},
    loss::Distribution,
    network::Model,
};

/// A first-order optimizer with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstOrderConfig {
    /// The optimizer.
    pub optimizer: FirstOrderOptimizer,
    /// The learning rate, the first of a schedule.
    pub rate: f64,
    /// How the rate goes on.
    pub schedule: RateSchedule,
    /// Weight decay: of AdamW and Muon beside the gradient, of the others added to it.
    pub decay: f64,
}

/// One of Burn's optimizers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstOrderOptimizer {
    /// Stochastic gradient descent with Nesterov's momentum.
    Sgd {
        /// Momentum.
        momentum: f64,
    },
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Muon for the matrices, and AdamW for all else: Burn's Muon takes no convolutions.
    Muon,
}

/// A running first-order optimizer.
pub struct FirstOrder {
    optimizer: ModuleOptimizer,
    rates: ModuleLrScheduler,
    gradients: MeanGradients,
    kfac: Option<Box<Preconditioner<Distribution>>>,
}

impl FirstOrderOptimizer {
    /// The name as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam => "adam",
            Self::AdamW => "adamw",
            Self::Muon => "muon",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Sgd { .. } => "SGD",
            Self::Adam => "Adam",
            Self::AdamW => "AdamW",
            Self::Muon => "Muon",
        }
    }
}

impl FirstOrderConfig {
    /// The weight of the penalty that the optimizer adds to the objective: decoupled weight decay is none.
    pub fn l2(&self) -> f64 {
        match self.optimizer {
            FirstOrderOptimizer::Sgd { .. } | FirstOrderOptimizer::Adam => self.decay,
            FirstOrderOptimizer::AdamW | FirstOrderOptimizer::Muon => 0.0,
        }
    }

    /// The name with the settings that tell it from others in a comparison.
    pub fn label(&self) -> String {
        let title = self.optimizer.title();
        match self.optimizer {
            FirstOrderOptimizer::Sgd { momentum } => {
                format!("{title} {}, momentum {momentum}", self.rate)
            }
            _ => format!("{title} {}", self.rate),
        }
    }

    fn optimizer(&self, model: &Model) -> ModuleOptimizer {
        let penalty = Some(WeightDecayConfig::new(self.decay as f32));
        let adamw = AdamWConfig::new().with_weight_decay(self.decay as f32);
        match self.optimizer {
            FirstOrderOptimizer::Sgd { momentum } => {
                let momentum = MomentumConfig::new()
                    .with_momentum(momentum)
                    .with_dampening(0.0)
                    .with_nesterov(true);
                SgdConfig::new()
                    .with_momentum(Some(momentum))
                    .with_weight_decay(penalty)
                    .init()
            }
            FirstOrderOptimizer::Adam => AdamConfig::new().with_weight_decay(penalty).init(),
            FirstOrderOptimizer::AdamW => adamw.init(),
            FirstOrderOptimizer::Muon => {
                let matrices = ParamGroup::from_ids(model.matrices());
                let muon = MuonConfig::new().with_weight_decay(penalty).build();
                adamw.init().with_group(matrices, muon, None)
            }
        }
    }

    /// Starts the optimizer on a model, with K-FAC in front or without.
    ///
    /// # Errors
    /// Where Burn has no such schedule.
    pub(super) fn start(
        &self,
        model: &Model,
        gradients: MeanGradients,
        kfac: Option<Box<Preconditioner<Distribution>>>,
    ) -> Result<FirstOrder> {
        Ok(FirstOrder {
            optimizer: self.optimizer(model),
            rates: self.schedule.rates(self.rate)?,
            gradients,
            kfac,
        })
    }
}

impl FirstOrder {
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        let (objective, mut gradients) = self.gradients.of(model, batch)?;
        let mut schedule = self.rates.clone();
        let rates = schedule.step();
        let mut preconditioned = None;
        if let Some(kfac) = &mut self.kfac {
            let observed = kfac.observe_inputs(model, &batch.inputs)?;
            let step = kfac.precondition(model, gradients, rates.base())?;
            gradients = step.gradients;
            preconditioned = Some((observed, step.report));
        }
        *model = self.optimizer.step(rates, model.clone(), gradients);
        self.rates = schedule;
        Ok(StepSummary {
            objective,
            kfac: None,
            preconditioned,
        })
    }

    pub(super) fn record(&self) -> Result<Vec<(&'static str, Part)>> {
        let own = optimizer_files(self.optimizer.into_bytes(), &self.rates)?;
        let kfac = self.kfac.iter();
        let kfac = kfac.map(|kfac| (KFAC, Part::Kfac(Box::new(kfac.record()))));
        Ok(own.into_iter().chain(kfac).collect())
    }

    pub(super) fn load(&mut self, model: &Model, files: &CheckpointFiles) -> Result<()> {
        if let Some(kfac) = &mut self.kfac {
            let record = OptimizerRecord::from_bytes(files.get(KFAC)?.clone())?;
            kfac.load_record(model, &record)?;
        }
        let optimizer = self.optimizer.clone();
        self.optimizer = burns(optimizer.from_bytes(files.get(OPTIMIZER)?.clone()))?;
        self.rates = loaded_rates(&self.rates, files)?;
        Ok(())
    }
}
