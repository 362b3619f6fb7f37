//! Inverses over all layers written down and made again.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    chain::ChainLink,
    conditional::{ConditionalInverse, DirectionPair, ExplainedPart},
    fisher_inverse::FisherInverse,
    prepared::DampedInverse,
    regression::Regression,
};
use crate::{
    blocks::{BlockInverse, Blocks, KroneckerInverse},
    record::{Record, RecordError},
};

/// The forms of the records.
const INVERSE: &str = "inverse";
const DAMPED: &str = "damped";
const DIRECTIONS: &str = "directions";
const SERIES: &str = "series";
const POWER: &str = "power";
const NONE: &str = "none";

impl FisherInverse {
    /// The records of the blocks, and those of the links.
    pub(crate) fn record(&self) -> Record {
        let blocks = self.blocks().iter().map(|block| block.record());
        let links = self.links().iter().map(|link| match link {
            Some(link) => link.record(),
            None => Record::new(NONE),
        });
        Record::new(INVERSE).with_parts(blocks.chain(links).collect())
    }

    /// The inverse that a record was made of.
    pub(crate) fn restore(blocks: &Blocks, record: &Record) -> Result<Self, RecordError> {
        record.expect_form(INVERSE)?;
        let count = blocks.layers().len();
        let own = blocks.iter().enumerate();
        let own =
            own.map(|(index, (layer, structure))| structure.restore(layer, record.part(index)?));
        let own: Vec<Arc<dyn BlockInverse>> = own.collect::<Result<_, _>>()?;
        let links = own.iter().enumerate().map(|(index, block)| {
            let part = record.part(count + index)?;
            if part.form == NONE {
                return Ok(None);
            }
            ChainLink::restore(&**block, part).map(Some)
        });
        let links = links.collect::<Result<_, RecordError>>()?;
        Ok(Self::new(own, links))
    }
}

impl ChainLink {
    /// All but the inverse of the layer's own block, which the conditional one begins with.
    fn record(&self) -> Record {
        let record = match &self.conditional.explained {
            // Directions are views of their transposes: kept as these, they come back with the same strides.
            ExplainedPart::Directions(pair) => Record::new(DIRECTIONS)
                .with_tensor("activation", &pair.activation.clone().transpose())
                .with_tensor("gradient", &pair.gradient.clone().transpose())
                .with_tensor("reciprocals", &pair.reciprocals),
            ExplainedPart::Series(powers) => {
                let powers = powers
                    .iter()
                    .map(|(p, q)| Record::new(POWER).with_tensor("p", p).with_tensor("q", q));
                Record::new(SERIES).with_parts(powers.collect())
            }
        };
        record
            .with_tensor("regression_activation", &self.regression.activation)
            .with_tensor("regression_gradient", &self.regression.gradient)
    }

    fn restore(own: &dyn BlockInverse, record: &Record) -> Result<Self, RecordError> {
        let unconditional = own.downcast::<KroneckerInverse>().cloned();
        let unconditional =
            unconditional.ok_or_else(|| record.missing("inverse of the layer's own block"))?;
        let transposed = |name| record.tensor(name).map(Tensor::transpose);
        let explained = match record.form.as_str() {
            DIRECTIONS => ExplainedPart::Directions(Box::new(DirectionPair {
                activation: transposed("activation")?,
                gradient: transposed("gradient")?,
                reciprocals: record.tensor("reciprocals")?,
            })),
            SERIES => {
                let powers = record.parts.iter();
                let powers = powers.map(|power| Ok((power.tensor("p")?, power.tensor("q")?)));
                ExplainedPart::Series(powers.collect::<Result<_, RecordError>>()?)
            }
            _ => return Err(record.of_other_form("`directions` or `series`")),
        };
        Ok(Self {
            regression: Regression {
                activation: record.tensor("regression_activation")?,
                gradient: record.tensor("regression_gradient")?,
            },
            conditional: ConditionalInverse {
                unconditional,
                explained,
            },
        })
    }
}

impl DampedInverse {
    pub(crate) fn record(&self) -> Record {
        let record = Record::new(DAMPED)
            .with_number("gamma", self.gamma)
            .with_numbers("pi", &self.pi)
            .with_json("repairs", &self.repairs);
        record.with_parts(vec![self.inverse.record()])
    }

    pub(crate) fn restore(blocks: &Blocks, record: &Record) -> Result<Self, RecordError> {
        record.expect_form(DAMPED)?;
        Ok(Self {
            gamma: record.number("gamma")?,
            inverse: FisherInverse::restore(blocks, record.part(0)?)?,
            pi: record.numbers_of("pi")?,
            repairs: record.json("repairs")?,
        })
    }
}
