//! `Kfac` written down and made again.

use burn::{module::Module, tensor::Tensor};

use super::{
    averaging::{Iterate, IterateAverage},
    config::KfacConfig,
    kfac::Kfac,
    state::State,
};
use crate::{
    damping::LambdaState,
    engine::ENGINE,
    network::{ParameterVector, RunningStatistics},
    record::{LoadError, OptimizerKind, OptimizerRecord, Place, Record, RecordError, Recorded},
};

/// The forms of the records.
const STATE: &str = "kfac";
const STEP: &str = "previous_step";
const AVERAGE: &str = "average";
const STATISTICS: &str = "statistics";

impl<L> Kfac<L> {
    /// All that the optimizer has learnt; with it and the record of the model, training goes on as if it had not
    /// stopped.
    ///
    /// # Cost
    ///
    /// None: the tensors are shared until the record is written.
    pub fn record(&self) -> OptimizerRecord {
        OptimizerRecord::new(&self.recorded(), self.state.record())
    }

    /// Takes up what a record was made of, for the model that it was made for, loaded from its own record before
    /// or after.
    ///
    /// The optimizer is made by the recorded settings, and with the same parts and rules of your own. Identities
    /// of parameters may differ: paths and shapes tell them.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the first difference; the optimizer is then as before.
    pub fn load_record<M: Module>(
        &mut self,
        model: &M,
        record: &OptimizerRecord,
    ) -> Result<(), LoadError> {
        let place = Place::of(model, &self.setup.engine.table);
        let record = record.state(&self.recorded(), &place)?;
        self.state = self.restored(&record)?;
        Ok(())
    }

    fn recorded(&self) -> Recorded<'_, KfacConfig> {
        Recorded {
            optimizer: OptimizerKind::Kfac,
            configuration: self.config(),
            table: self.parameter_table(),
        }
    }

    fn restored(&self, record: &Record) -> Result<State, RecordError> {
        record.expect_form(STATE)?;
        let engine = record.part_of(ENGINE);
        let engine = engine.ok_or_else(|| record.missing(ENGINE))?;
        let step = record.part_of(STEP).map(restored_vector).transpose()?;
        let average = record.part_of(AVERAGE).map(Iterate::restore).transpose()?;
        Ok(State {
            engine: self.setup.engine.restore(engine)?,
            iteration: record.count("iteration")?,
            lambda: LambdaState::restore(record)?,
            gamma: record.number("gamma")?,
            previous_step: step,
            origins: record.json("origins")?,
            average: IterateAverage::restore(self.config().averaging, average),
            growth: record.json("growth")?,
            spread: record.json("spread")?,
            pace: record.json("pace")?,
            first_objective: record.number("first_objective").ok(),
        })
    }
}

impl State {
    fn record(&self) -> Record {
        let record = Record::new(STATE)
            .with_number("iteration", self.iteration as f64)
            .with_number("gamma", self.gamma)
            .with_json("growth", &self.growth)
            .with_json("spread", &self.spread)
            .with_json("pace", &self.pace)
            .with_json("origins", &self.origins);
        let record = self.lambda.entered(record);
        let record = match self.first_objective {
            Some(objective) => record.with_number("first_objective", objective),
            None => record,
        };
        let step = self.previous_step.iter();
        let step = step.map(|step| recorded_vector(Record::new(STEP), step));
        let average = self.average.get().into_iter().map(Iterate::record);
        let engine = std::iter::once(self.engine.record());
        record.with_parts(engine.chain(step).chain(average).collect())
    }
}

impl LambdaState {
    /// A record with λ.
    pub(super) fn entered(self, record: Record) -> Record {
        record
            .with_number("lambda", self.lambda)
            .with_number("starting", f64::from(u8::from(self.starting)))
    }

    /// λ of a record.
    pub(super) fn restore(record: &Record) -> Result<Self, RecordError> {
        Ok(Self {
            lambda: record.number("lambda")?,
            starting: record.number("starting")? != 0.0,
        })
    }
}

impl Iterate {
    fn record(&self) -> Record {
        let statistics = self.statistics.tensors().iter().enumerate();
        let statistics = statistics.fold(Record::new(STATISTICS), |record, (index, tensor)| {
            record.with_tensor(&index.to_string(), &tensor.clone().unsqueeze())
        });
        let record = recorded_vector(Record::new(AVERAGE), &self.parameters);
        record.with_parts(vec![statistics])
    }

    fn restore(record: &Record) -> Result<Self, RecordError> {
        let part = record.part(0)?;
        let statistics = (0..part.tensors.len()).map(|index| {
            let tensor = part.tensor(&index.to_string())?;
            Ok(tensor.flatten(0, 1))
        });
        let statistics: Vec<Tensor<1>> = statistics.collect::<Result<_, RecordError>>()?;
        Ok(Self {
            parameters: restored_vector(record)?,
            statistics: RunningStatistics::new(statistics),
        })
    }
}

fn recorded_vector(record: Record, vector: &ParameterVector) -> Record {
    let blocks = vector.blocks().iter().enumerate();
    blocks.fold(record, |record, (index, block)| {
        record.with_tensor(&index.to_string(), block)
    })
}

fn restored_vector(record: &Record) -> Result<ParameterVector, RecordError> {
    let blocks = (0..record.tensors.len()).map(|index| record.tensor(&index.to_string()));
    Ok(ParameterVector::new(blocks.collect::<Result<_, _>>()?))
}
