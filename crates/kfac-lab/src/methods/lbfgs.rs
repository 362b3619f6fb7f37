//! Burn's L-BFGS, on each batch as on an objective of its own.

use anyhow::Result;
use burn::{
    lr_scheduler::module_lr_scheduler::ModuleLrScheduler,
    optim::{GradientsParams, LBFGS, LBFGSConfig, LineSearchFn},
    tensor::Tensor,
};
use kfac::{Batch, StepError};
use serde::{Deserialize, Serialize};

use super::{
    StepSummary,
    gradients::MeanGradients,
    rate::RateSchedule,
    record::{OPTIMIZER, burns, loaded_rates, optimizer_files},
};
use crate::{
    checkpoint::{CheckpointFiles, Part},
    network::Model,
};

/// L-BFGS with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LbfgsConfig {
    /// The length of a step that the line search starts from.
    pub rate: f64,
    /// How it goes on.
    pub schedule: RateSchedule,
    /// Iterations on each batch.
    pub iterations: usize,
}

/// Running L-BFGS.
pub struct Lbfgs {
    optimizer: LBFGS,
    rates: ModuleLrScheduler,
    gradients: MeanGradients,
}

impl LbfgsConfig {
    /// Starts it.
    ///
    /// # Errors
    /// Where Burn has no such schedule.
    pub(super) fn start(&self, gradients: MeanGradients) -> Result<Lbfgs> {
        Ok(Lbfgs {
            optimizer: LBFGSConfig::new()
                .with_max_iter(self.iterations)
                .with_line_search_fn(LineSearchFn::StrongWolfe)
                .init(),
            rates: self.schedule.rates(self.rate)?,
            gradients,
        })
    }
}

impl Lbfgs {
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        let mut refused = None;
        let evaluate = |model: Model| match self.gradients.of(&model, batch) {
            Ok(evaluated) => evaluated,
            Err(error) => {
                // The line search goes back from what is not finite.
                refused = Some(error);
                (f64::INFINITY, GradientsParams::new())
            }
        };
        let mut schedule = self.rates.clone();
        let rate = schedule.step().base();
        let (moved, objective) = self.optimizer.step(rate, model.clone(), evaluate);
        if let Some(error) = refused {
            return Err(error);
        }
        *model = moved;
        self.rates = schedule;
        Ok(StepSummary {
            objective,
            kfac: None,
            preconditioned: None,
        })
    }

    pub(super) fn record(&self) -> Result<Vec<(&'static str, Part)>> {
        optimizer_files(self.optimizer.into_bytes(), &self.rates).map(Vec::from)
    }

    pub(super) fn load(&mut self, files: &CheckpointFiles) -> Result<()> {
        let optimizer = self.optimizer.clone();
        self.optimizer = burns(optimizer.from_bytes(files.get(OPTIMIZER)?.clone()))?;
        self.rates = loaded_rates(&self.rates, files)?;
        Ok(())
    }
}
