//! λ adapted to what the steps of the optimizer behind a preconditioner do (section 6.5).

use super::Preconditioner;
use crate::{
    capture::Network,
    damping::{Evidence, check_lambda},
    engine::Share,
    error::StepError,
    linalg::host,
    loss::Loss,
    network::{Batch, Cases, ParameterVector},
    optim::{
        config::DirectionalDerivatives, noise::repeats, objective::MeanLoss,
        quadratic_model::Metric, report::LambdaReport,
    },
};

impl<L> Preconditioner<L> {
    /// Lets the rule for λ judge the step that the optimizer behind has taken, where it wants to: `before` and
    /// `after` are the model before and after it, momentum, penalties and all. `None` where the rule does not ask.
    ///
    /// # Definition
    ///
    /// ```text
    /// ρ = (h(θ + δ) − h(θ)) / (M(δ) − M(0)),   M(δ) − M(0) = ∇hᵀ δ + ½ δᵀ (F + λ I) δ
    /// ```
    ///
    /// with h the mean loss of the batch, F its exact Fisher matrix on `statistics_fraction` of the batch, and δ the
    /// step in the layers' parameters.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a model is another one, the batch is malformed, the objective is not finite at `before`,
    /// or the network is no function of its inputs; λ is then as before.
    ///
    /// # Cost
    ///
    /// Where the rule asks, a forward and backward pass at `before`, a forward pass at `after`, and three to four
    /// over the part for F.
    pub fn adapt<M: Network, T: Cases>(
        &mut self,
        before: &M,
        after: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<Option<LambdaReport>, StepError>
    where
        L: Loss<M::Output, T>,
    {
        self.engine.check_model(before)?;
        self.engine.check_model(after)?;
        let (observation, lambda) = (self.state.observations, self.state.lambda);
        if self.state.judged >= observation || !self.rule.wants_evidence(lambda, observation) {
            return Ok(None);
        }
        let evidence = self.evidence(before, after, batch)?;
        let update = self.rule.update(lambda, observation, Some(evidence));
        check_lambda(update.state.lambda)?;
        self.state.lambda = update.state;
        self.state.judged = observation;
        Ok(Some(LambdaReport {
            used: lambda.lambda,
            after: update.state.lambda,
            trial_objective: Some(evidence.after),
            reduction_ratio: Some(evidence.reduction_ratio()),
            action: update.action,
            calibrated: update.state.starting,
        }))
    }

    fn evidence<M: Network, T: Cases>(
        &self,
        before: &M,
        after: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<Evidence, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let (layers, loss) = (self.layers(), &self.engine.loss);
        let [start, end] = [before, after].map(|model| layers.parameters(model));
        let step = end.add_scaled(&start, -1.0);
        let objective = MeanLoss {
            layers,
            loss,
            l2: 0.0,
            chunk_size: self.engine.chunk_size,
        };
        let (value, gradient) = objective.gradient(before, &start, batch)?;
        if !repeats(before, &batch.inputs) {
            return Err(StepError::NoiseInForwardPass);
        }
        let curvature = self.curvature_along(before, batch, &step)?;
        Ok(Evidence {
            before: value,
            after: objective.value(after, &end, batch)?,
            model_change: gradient.dot(&step) + 0.5 * curvature,
            l2: 0.0,
            precision: host::machine_epsilon(start.dtype()),
        })
    }

    /// `δᵀ (F + λ I) δ`.
    fn curvature_along<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
        step: &ParameterVector,
    ) -> Result<f64, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let share = Share {
            size: self.engine.statistics_share(1),
            number: self.state.observations,
        };
        let metric = Metric {
            model,
            layers: self.layers(),
            loss: &self.engine.loss,
            given: Some(&self.engine.loss),
            derivatives: DirectionalDerivatives::Automatic,
            chunk_size: self.engine.chunk_size,
        };
        let subset = self.engine.subset(batch, share);
        let fisher = metric.gram(&subset, std::slice::from_ref(step))?;
        Ok(fisher.products[(0, 0)] + self.state.lambda.lambda * step.dot(step))
    }
}
