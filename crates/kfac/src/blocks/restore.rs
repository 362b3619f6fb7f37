//! Estimates of all layers written down and made again.

use burn::tensor::Tensor;

use super::{
    factor_set::{CrossFactors, FactorSet, RunningFactors},
    layer_blocks::Blocks,
};
use crate::record::{Record, RecordError};

/// The forms of the records.
pub(crate) const FACTORS: &str = "factors";
pub(crate) const ESTIMATE: &str = "estimate";
const LINK: &str = "link";
const NONE: &str = "none";

impl FactorSet {
    /// The tensors of each layer's estimate, and the factors between neighbours.
    pub(crate) fn record(&self) -> Record {
        let blocks = self.blocks.iter().map(|block| {
            let factors = block.factors().into_iter().enumerate();
            factors.fold(Record::new(ESTIMATE), |record, (index, factor)| {
                let name = index.to_string();
                let told = (factor.kind, factor.form);
                record
                    .with_tensor(&name, factor.tensor)
                    .with_json(&name, &told)
            })
        });
        let links = self.links.iter().map(|link| match link {
            None => Record::new(NONE),
            Some(link) => Record::new(LINK)
                .with_tensor("activation", &link.activation)
                .with_tensor("gradient", &link.gradient),
        });
        Record::new(FACTORS).with_parts(blocks.chain(links).collect())
    }
}

impl RunningFactors {
    pub(crate) fn record(&self) -> Record {
        self.factors
            .record()
            .with_number("updates", self.updates as f64)
    }
}

impl Blocks {
    /// The estimates that a record was made of.
    pub(crate) fn restore_factors(&self, record: &Record) -> Result<FactorSet, RecordError> {
        record.expect_form(FACTORS)?;
        if record.parts.is_empty() {
            return Ok(FactorSet::default());
        }
        let count = self.layers().len();
        let blocks = self.iter().enumerate().map(|(index, (layer, structure))| {
            let part = record.part(index)?;
            part.expect_form(ESTIMATE)?;
            let tensors = (0..part.tensors.len()).map(|index| part.tensor(&index.to_string()));
            let tensors: Vec<Tensor<2>> = tensors.collect::<Result<_, _>>()?;
            structure
                .estimate(layer, tensors)
                .ok_or_else(|| part.missing(&format!("estimate of `{}`", layer.path)))
        });
        let links = (0..count).map(|index| {
            let part = record.part(count + index)?;
            if part.form == NONE {
                return Ok(None);
            }
            part.expect_form(LINK)?;
            Ok(Some(CrossFactors {
                activation: part.tensor("activation")?,
                gradient: part.tensor("gradient")?,
            }))
        });
        Ok(FactorSet {
            blocks: blocks.collect::<Result<_, _>>()?,
            links: links.collect::<Result<_, _>>()?,
        })
    }

    /// The averages that a record was made of.
    pub(crate) fn restore_running(&self, record: &Record) -> Result<RunningFactors, RecordError> {
        Ok(RunningFactors {
            factors: self.restore_factors(record)?,
            updates: record.count("updates")?,
        })
    }
}
