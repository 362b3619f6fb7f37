//! What a record of an optimizer tells, without the model that it is of.

use burn::tensor::{DType, Device, Tensor};

use crate::{
    blocks::{ESTIMATE, FACTORS, FactorForm},
    engine::ENGINE,
    error::FactorKind,
    network::Coverage,
    record::{LoadError, OptimizerRecord, Place, Record},
};

/// The running estimate of a layer's factor, as it is in a record.
#[derive(Clone, Debug)]
pub struct RecordedFactor {
    /// The parameters of the layer that is covered.
    pub parameters: Vec<String>,
    /// What it is.
    pub kind: FactorKind,
    /// How its elements lie.
    pub form: FactorForm,
    /// Its elements, in double precision.
    pub tensor: Tensor<2>,
}

/// What an optimizer has learnt, in numbers.
#[derive(Clone, Debug)]
pub struct RecordedState {
    /// The steps of a [`Kfac`](crate::Kfac), the observations of a [`Preconditioner`](crate::Preconditioner).
    pub steps: u64,
    /// λ for the next one.
    pub lambda: f64,
    /// γ for the next one; of a [`Preconditioner`](crate::Preconditioner) it is `√λ`.
    pub gamma: f64,
    /// The batches that the estimates are averages of.
    pub updates: u64,
    /// The factors, layer after layer; empty before the first step.
    pub factors: Vec<RecordedFactor>,
}

impl OptimizerRecord {
    /// What the record tells of the optimizer's state.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where it is not a whole record.
    ///
    /// # Cost
    ///
    /// A copy of all tensors in double precision.
    pub fn inspect(&self, device: &Device) -> Result<RecordedState, LoadError> {
        let place = Place {
            device: device.clone(),
            dtype: DType::F64,
        };
        let state = self.content(&place)?;
        let engine = state.part_of(ENGINE);
        let averages = engine.and_then(|engine| engine.part_of(FACTORS));
        let averages = averages.ok_or_else(|| state.missing(FACTORS))?;
        let lambda = state.number("lambda")?;
        let steps = state.count("iteration");
        Ok(RecordedState {
            steps: steps.or_else(|_| state.count("observations"))?,
            lambda,
            gamma: state.number("gamma").unwrap_or(lambda.sqrt()),
            updates: averages.count("updates")?,
            factors: self.factors(averages)?,
        })
    }

    fn factors(&self, averages: &Record) -> Result<Vec<RecordedFactor>, LoadError> {
        let estimates = averages.parts.iter().filter(|part| part.form == ESTIMATE);
        let mut factors = Vec::new();
        for (layer, estimate) in estimates.enumerate() {
            for (name, tensor) in &estimate.tensors {
                let (kind, form) = estimate.json(name)?;
                factors.push(RecordedFactor {
                    parameters: self.parameters_of(layer),
                    kind,
                    form,
                    tensor: tensor.clone(),
                });
            }
        }
        Ok(factors)
    }

    /// The paths of a layer's parameters.
    fn parameters_of(&self, layer: usize) -> Vec<String> {
        let rows = self.parameters().iter();
        let rows = rows
            .filter(|row| matches!(&row.coverage, Coverage::Block(block) if block.layer == layer));
        rows.map(|row| row.path.clone()).collect()
    }
}
