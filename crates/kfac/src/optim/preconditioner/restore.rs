//! `Preconditioner` written down and made again.

use burn::module::Module;

use super::{Preconditioner, PreconditionerConfig, state::PreconditionerState};
use crate::{
    damping::LambdaState,
    record::{LoadError, OptimizerKind, OptimizerRecord, Place, Record, RecordError, Recorded},
};

/// The form of the record.
const STATE: &str = "preconditioner";

impl<L> Preconditioner<L> {
    /// All that the preconditioner has learnt, and the settings in force; with it and the records of the model, of
    /// the optimizer behind and of its schedule, training goes on as if it had not stopped.
    ///
    /// Parts of a batch that were accumulated and not observed yet are not in it: take it between steps. Take that of
    /// the model from [`model.valid()`](burn::module::Module::valid): a record of a model in training lacks what its
    /// last pass makes of the running statistics of batch normalisations.
    ///
    /// # Cost
    ///
    /// None: the tensors are shared until the record is written.
    pub fn record(&self) -> OptimizerRecord {
        let state = self.state.record().with_json("settings", &self.config);
        OptimizerRecord::new(&self.recorded(&self.unset()), state)
    }

    /// Takes up what a record was made of, for the model that it was made for.
    ///
    /// The preconditioner is made by the recorded settings, and with the same parts and rules of your own; those that
    /// can be set while it works (`λ`, `κ` and the periods) become the recorded ones. Identities of parameters may
    /// differ: paths and shapes tell them.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the first difference; the preconditioner is then as before.
    pub fn load_record<M: Module>(
        &mut self,
        model: &M,
        record: &OptimizerRecord,
    ) -> Result<(), LoadError> {
        let place = Place::of(model, &self.engine.table);
        let record = record.state(&self.recorded(&self.unset()), &place)?;
        let settings: PreconditionerConfig = record.json("settings")?;
        let state = self.restored(&record)?;
        let refused = |_| record.missing("settings that are valid");
        self.reconfigure(settings).map_err(refused)?;
        self.state = state;
        Ok(())
    }

    /// The settings that cannot change while it works.
    fn unset(&self) -> PreconditionerConfig {
        let initial = PreconditionerConfig::new();
        let periods = initial.curvature.clone();
        let config = self.config.clone().with_lambda(initial.lambda);
        config
            .with_kl_clip(initial.kl_clip)
            .map_curvature(|curvature| {
                let curvature = curvature.with_statistics_period(periods.statistics_period);
                curvature.with_inverse_period(periods.inverse_period)
            })
    }

    fn recorded<'a>(
        &'a self,
        configuration: &'a PreconditionerConfig,
    ) -> Recorded<'a, PreconditionerConfig> {
        Recorded {
            optimizer: OptimizerKind::Preconditioner,
            configuration,
            table: self.parameter_table(),
        }
    }

    fn restored(&self, record: &Record) -> Result<PreconditionerState, RecordError> {
        record.expect_form(STATE)?;
        Ok(PreconditionerState {
            engine: self.engine.restore(record.part(0)?)?,
            repairs: record.json("repairs")?,
            observations: record.count("observations")?,
            unreached: record.json("unreached")?,
            gathering: None,
            lambda: LambdaState::restore(record)?,
            cases: record.count("cases")? as usize,
            largest_rate: record.number("largest_rate")?,
            judged: record.count("judged")?,
        })
    }
}

impl PreconditionerState {
    fn record(&self) -> Record {
        let record = Record::new(STATE)
            .with_number("observations", self.observations as f64)
            .with_number("cases", self.cases as f64)
            .with_number("largest_rate", self.largest_rate)
            .with_number("judged", self.judged as f64)
            .with_json("repairs", &self.repairs)
            .with_json("unreached", &self.unreached);
        let record = self.lambda.entered(record);
        record.with_parts(vec![self.engine.record()])
    }
}
