//! A batch taken into the running factors (section 5) and into corrected eigenvalues.

use super::{
    curvature_settings::CurvatureSettings,
    report::{PhaseClock, PhaseTimes},
};
use crate::{
    cases::Batch,
    curvature::{CorrectionSums, FisherEstimator, FisherInverse, Sums},
    error::StepError,
    loss::PredictiveDistribution,
    network::Network,
    random::RandomStream,
    statistics::RunningFactors,
};

/// What a batch is taken into; all of it is left as it is.
pub(super) struct StatisticsUpdate<'a, L> {
    pub(super) estimator: FisherEstimator<'a, L>,
    pub(super) settings: CurvatureSettings<'a>,
    pub(super) statistics: &'a RunningFactors,
    /// The inverse whose eigenvalues the batch corrects.
    pub(super) inverse: Option<&'a FisherInverse>,
    /// The weight of its old eigenvalues, and γ.
    pub(super) weights: (f64, f64),
}

impl<L: PredictiveDistribution> StatisticsUpdate<'_, L> {
    /// The running factors with those of the batch taken in, and the inverse with the eigenvalues that
    /// the batch corrects, where there are such.
    pub(super) fn with<M: Network>(
        &self,
        (model, batch): (&M, &Batch<M::Input>),
        random: &mut RandomStream,
        (clock, times): (&mut PhaseClock, &mut PhaseTimes),
    ) -> Result<(RunningFactors, Option<FisherInverse>), StepError> {
        let CurvatureSettings {
            inverse: kind,
            eigenvalues,
            ..
        } = self.settings;
        let correction = self
            .inverse
            .and_then(|inverse| CorrectionSums::new(inverse, eigenvalues));
        let mut sums = Sums::new(
            self.estimator.layers,
            kind.structure,
            self.estimator.estimate,
        )
        .correcting(correction);
        self.estimator
            .passes(model, batch, random, |pass, moments| {
                clock.lap(&mut times.curvature_pass);
                sums.accumulate(pass, moments);
                clock.lap(&mut times.factor_update);
            })?;
        let (factors, correction) = sums.factors(batch.len())?;
        let updated = self.statistics.updated(factors);
        let corrected = correction.map(|sums| sums.corrected(batch.len(), self.weights));
        clock.lap(&mut times.factor_update);
        Ok((updated, corrected))
    }
}
