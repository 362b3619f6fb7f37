//! The engine's state written down and made again.

use super::{
    discover::Engine,
    state::{EngineState, RefreshAhead},
};
use crate::{
    inverse::{DampedInverse, FisherInverse, PreparedFactors},
    record::{Record, RecordError},
};

/// The forms of the records.
pub(crate) const ENGINE: &str = "engine";
const AHEAD: &str = "ahead";

impl EngineState {
    /// The averages, the inverse in use, and the refresh under way.
    pub(crate) fn record(&self) -> Record {
        let averages = std::iter::once(self.statistics.record());
        let inverse = self.inverse.iter().map(FisherInverse::record);
        let ahead = self.ahead.iter().map(RefreshAhead::record);
        Record::new(ENGINE).with_parts(averages.chain(inverse).chain(ahead).collect())
    }
}

impl RefreshAhead {
    /// What it is made from, and what is made.
    fn record(&self) -> Record {
        let factors = std::iter::once(self.factors.factors().record());
        let inverses = self.inverses.iter().map(DampedInverse::record);
        Record::new(AHEAD)
            .with_numbers("gammas", &self.gammas)
            .with_parts(factors.chain(inverses).collect())
    }
}

impl<L> Engine<L> {
    /// The state that a record was made of.
    pub(crate) fn restore(&self, record: &Record) -> Result<EngineState, RecordError> {
        record.expect_form(ENGINE)?;
        let inverse = record.part_of("inverse");
        let ahead = record.part_of(AHEAD);
        Ok(EngineState {
            statistics: self.blocks.restore_running(record.part(0)?)?,
            inverse: inverse
                .map(|record| FisherInverse::restore(&self.blocks, record))
                .transpose()?,
            ahead: ahead.map(|record| self.restore_ahead(record)).transpose()?,
        })
    }

    fn restore_ahead(&self, record: &Record) -> Result<RefreshAhead, RecordError> {
        let factors = self.blocks.restore_factors(record.part(0)?)?;
        let inverses = record.parts.iter().skip(1);
        let inverses = inverses.map(|part| DampedInverse::restore(&self.blocks, part));
        Ok(RefreshAhead {
            factors: PreparedFactors::new(&factors, self.rule.clone(), self.config.inverse_method),
            gammas: record.numbers_of("gammas")?,
            inverses: inverses.collect::<Result<_, _>>()?,
        })
    }
}
