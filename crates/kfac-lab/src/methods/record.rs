//! What a checkpoint has of a method: its state as files, by Burn's own records and those of K-FAC.

use anyhow::{Result, anyhow};
use burn::{
    lr_scheduler::{LrSchedulerRecord, module_lr_scheduler::ModuleLrScheduler},
    module::Module,
    store::RecordError,
    tensor::Bytes,
};
use kfac::record::OptimizerRecord;

use super::Method;
use crate::{
    checkpoint::{CheckpointFiles, Part},
    network::Model,
};

/// The names of the files.
pub(crate) const KFAC: &str = "kfac.bpk";
pub(super) const OPTIMIZER: &str = "optimizer.bpk";
const RATES: &str = "rates.bpk";
pub(super) const VELOCITY: &str = "velocity.bpk";

impl Method {
    /// The files of its state.
    ///
    /// # Errors
    /// Where Burn cannot write one.
    pub fn record(&self, model: &Model) -> Result<Vec<(&'static str, Part)>> {
        match self {
            Self::Kfac(kfac) => Ok(vec![(KFAC, Part::Kfac(Box::new(kfac.record())))]),
            Self::FirstOrder(method) => method.record(),
            Self::Lbfgs(method) => method.record(),
            Self::Nesterov(method) => method.record(model),
        }
    }

    /// Takes up its state after so many steps, for a model that has taken up its own.
    ///
    /// # Errors
    /// Where the files are of another method or model.
    pub fn load(&mut self, model: &Model, (files, steps): (&CheckpointFiles, u64)) -> Result<()> {
        match self {
            Self::Kfac(kfac) => {
                let record = OptimizerRecord::from_bytes(files.get(KFAC)?.clone())?;
                Ok(kfac.load_record(model, &record)?)
            }
            Self::FirstOrder(method) => method.load(model, files),
            Self::Lbfgs(method) => method.load(files),
            Self::Nesterov(method) => method.load(model, (files, steps)),
        }
    }
}

/// The files of one of Burn's optimizers and of its schedule.
pub(super) fn optimizer_files(
    optimizer: Result<Bytes, RecordError>,
    rates: &ModuleLrScheduler,
) -> Result<[(&'static str, Part); 2]> {
    let part = |bytes| burns(bytes).map(Part::Bytes);
    Ok([
        (OPTIMIZER, part(optimizer)?),
        (RATES, part(rates.to_record().into_bytes())?),
    ])
}

/// A schedule where it was.
pub(super) fn loaded_rates(
    rates: &ModuleLrScheduler,
    files: &CheckpointFiles,
) -> Result<ModuleLrScheduler> {
    let record = burns(LrSchedulerRecord::from_bytes(files.get(RATES)?.clone()))?;
    Ok(rates.clone().load_record(record))
}

/// The file of a model, with the running statistics that its next pass begins with.
///
/// # Errors
/// Where Burn cannot write it.
pub fn model_file(model: &Model) -> Result<Part> {
    // A pass in training leaves the statistics of batch normalisations to be taken up, which `valid` does.
    Ok(Part::Bytes(burns(
        model.valid().into_record().into_bytes(),
    )?))
}

/// A result of Burn's records.
pub(super) fn burns<T>(result: Result<T, RecordError>) -> Result<T> {
    result.map_err(|error| anyhow!("{error}"))
}
