//! The optimizer's type: what it holds, how a step becomes final, what can be asked of it.

use std::sync::Arc;

use super::{
    averaging::Iterate,
    config::KfacConfig,
    noise::repeats,
    objective::{MeanLoss, OwnObjective, StepObjective},
    own_objective::Objective,
    report::StepReport,
    setup::Setup,
    state::State,
    step::{Advance, Step},
};
use crate::{
    blocks::FactorSet,
    capture::{BatchStatistics, Network, with_own_statistics},
    damping::LambdaRule,
    error::{Quantity, StepError},
    inverse::FisherInverse,
    loss::{Likelihood, Loss},
    network::{Batch, Cases, Layers, ParameterTable, check_batch},
};

/// The K-FAC optimizer; made by [`KfacConfig::init`].
///
/// # References
///
/// Martens and Grosse (2015), section 9 (Algorithm 2), arXiv 1503.05671.
#[derive(Clone, Debug)]
pub struct Kfac<L> {
    pub(super) setup: Setup<L>,
    pub(super) state: State,
}

impl<L> Kfac<L> {
    /// Takes one step on a mini-batch, a random sample of the training cases.
    ///
    /// Where the batch is not finite at the model's parameters, but is at those before the last
    /// step, that step went too far: it is taken back, an adapted λ grows, and the new step starts from there
    /// ([`StepReport::took_back_last_step`]).
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed or something is not finite. Model and optimizer
    /// are then exactly as before: the next good batch goes on as if this one had not been.
    pub fn step<M: Network, T: Cases>(
        &mut self,
        model: &mut M,
        batch: &Batch<M::Input, T>,
    ) -> Result<StepReport, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let advance = {
            let task = Task {
                batch,
                objective: &self.mean_loss(),
                given: Some(&self.setup.engine.loss),
            };
            self.attempt_either(model, &task)?
        };
        Ok(self.accept(model, advance))
    }

    /// Takes one step on an objective of your own; the curvature is that of the optimizer's predictive
    /// distribution, whatever the targets.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and where the objective fails, or the curvature is the empirical Fisher.
    pub fn step_with<M: Network, T: Cases>(
        &mut self,
        model: &mut M,
        batch: &Batch<M::Input, T>,
        objective: &impl Objective<M, T>,
    ) -> Result<StepReport, StepError>
    where
        L: Likelihood<M::Output>,
    {
        let own = OwnObjective {
            layers: self.layers(),
            table: self.parameter_table(),
            objective,
            l2: self.config().l2,
        };
        let task = Task {
            batch,
            objective: &own,
            given: None,
        };
        let advance = self.attempt_either(model, &task)?;
        Ok(self.accept(model, advance))
    }

    /// Stores where a step leads; the only place where anything of the optimizer changes.
    fn accept<M>(&mut self, model: &mut M, advance: Advance<M>) -> StepReport {
        self.state = advance.state;
        *model = advance.model;
        advance.report
    }

    /// The step, or, where the last one led to where the batch is not finite, the step from before it.
    ///
    /// The running statistics of batch normalisations move before the step. They are those of a copy, so
    /// that other models keep theirs, and a refused step leaves none; where a step is taken back they were
    /// those of a network that is not finite, and do not count.
    fn attempt_either<M, T, O>(
        &self,
        model: &M,
        task: &Task<'_, M, T, O>,
    ) -> Result<Advance<M>, StepError>
    where
        L: Likelihood<M::Output>,
        M: Network,
        T: Cases,
        O: StepObjective<M, T>,
    {
        check_batch(task.batch)?;
        self.setup.engine.check_trained(model)?;
        if self.state.iteration == 0 && !repeats(model, &task.batch.inputs) {
            return Err(StepError::NoiseInForwardPass);
        }
        let start = self.normalised(model, task.batch);
        let attempt = start.and_then(|(state, start)| self.attempt(&state, &start, task));
        match attempt {
            Err(error @ StepError::NonFinite { .. }) => {
                match self.attempt_before_last_step(model, task) {
                    Some(Err(own @ StepError::Lambda { .. })) => Err(own),
                    Some(Ok(advance)) => Ok(advance),
                    _ => Err(error),
                }
            }
            attempt => attempt,
        }
    }

    /// The state and the model that a step starts from: the running statistics of batch normalisations are
    /// the model's own, and moved by those of some of the batch's cases.
    fn normalised<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(State, M), StepError> {
        let mut state = self.state.clone();
        if !self.layers().normalises() {
            return Ok((state, model.clone()));
        }
        let model = with_own_statistics(model);
        let iteration = state.iteration + 1;
        let at_least = self.config().model_min_cases;
        let cases = self
            .setup
            .engine
            .statistics_subset(batch, iteration, at_least)
            .inputs;
        let statistics = BatchStatistics::of(&model, &cases);
        if !statistics.are_finite() {
            return Err(StepError::NonFinite {
                quantity: Quantity::Normalisation,
                layer: None,
            });
        }
        if state.iteration == 0 {
            state.origins = statistics.origins();
        }
        statistics.move_running(iteration, &state.origins);
        Ok((state, model))
    }

    fn attempt<M, T, O>(
        &self,
        state: &State,
        model: &M,
        task: &Task<'_, M, T, O>,
    ) -> Result<Advance<M>, StepError>
    where
        L: Likelihood<M::Output>,
        M: Network,
        T: Cases,
        O: StepObjective<M, T>,
    {
        let step = Step {
            setup: &self.setup,
            state,
            model,
            batch: task.batch,
            objective: task.objective,
            given: task.given,
        };
        step.take()
    }

    /// The same batch at the parameters before the last step, where there is one. Where that fails too the
    /// batch is to blame and not the step.
    fn attempt_before_last_step<M, T, O>(
        &self,
        model: &M,
        task: &Task<'_, M, T, O>,
    ) -> Option<Result<Advance<M>, StepError>>
    where
        L: Likelihood<M::Output>,
        M: Network,
        T: Cases,
        O: StepObjective<M, T>,
    {
        let last_step = self.state.previous_step.as_ref()?;
        let parameters = self.layers().parameters(model).add_scaled(last_step, -1.0);
        let model = with_own_statistics(model);
        let model = self.layers().with_parameters(model, &parameters);
        let state = State {
            lambda: self.setup.rule.taken_back(self.state.lambda),
            previous_step: None,
            ..self.state.clone()
        };
        let attempt = self.attempt(&state, &model, task);
        Some(attempt.map(|mut advance| {
            advance.report.took_back_last_step = true;
            advance
        }))
    }

    fn mean_loss(&self) -> MeanLoss<'_, L> {
        MeanLoss {
            layers: self.layers(),
            loss: &self.setup.engine.loss,
            l2: self.config().l2,
            chunk_size: self.setup.engine.chunk_size,
        }
    }

    /// The objective `h` on a batch, the penalty included; evaluated in parts.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed.
    pub fn objective<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<f64, StepError>
    where
        L: Loss<M::Output, T>,
    {
        self.setup.engine.check_model(model)?;
        self.mean_loss()
            .value(model, &self.layers().parameters(model), batch)
    }

    /// The optimizer with a rule for λ of your own, or one of [`damping`](crate::damping) that takes a
    /// function. λ starts anew, and γ with it.
    ///
    /// ```
    /// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
    /// # use kfac::{Gaussian, KfacConfig, Network, Tape};
    /// # #[derive(Module, Debug)]
    /// # struct Model { layer: Linear }
    /// # impl Network for Model {
    /// #     type Input = Tensor<2>;
    /// #     type Output = Tensor<2>;
    /// #     fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
    /// #         tape.linear(&self.layer, x)
    /// #     }
    /// # }
    /// # fn main() -> Result<(), kfac::InitError> {
    /// # let device = Device::default().autodiff();
    /// # let model = Model { layer: LinearConfig::new(3, 2).init(&device) };
    /// # let example = Tensor::zeros([1, 3], &device);
    /// use std::sync::Arc;
    /// use kfac::damping::ScheduledLambda;
    ///
    /// let rule = ScheduledLambda(|iteration| 0.98f64.powf(iteration as f64));
    /// let optimizer = KfacConfig::new()
    ///     .init(&model, Gaussian, &example)?
    ///     .with_lambda_rule(Arc::new(rule));
    /// assert!((optimizer.lambda() - 0.98).abs() < 1e-12);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_lambda_rule(mut self, rule: Arc<dyn LambdaRule>) -> Self {
        let lambda = rule.start();
        self.state.lambda = lambda;
        self.state.gamma = self.config().gamma_of(lambda.lambda);
        // Inverses under way are for the candidates of the γ before.
        self.state.engine.ahead = None;
        self.setup.rule = rule;
        self
    }

    /// The model with the average of the iterates as its parameters, once averaging has begun; `None` before,
    /// and for a model that is not the optimizer's.
    ///
    /// Running statistics of batch normalisations are averaged in the same way, and are the model's own.
    pub fn averaged_model<M: Network>(&self, model: &M) -> Option<M> {
        self.setup.engine.check_model(model).ok()?;
        let mut average = self.state.average.clone();
        average.update(self.state.iteration, || Iterate::of(self.layers(), model));
        let average = average.get()?;
        Some(average.write(self.layers(), with_own_statistics(model)))
    }

    /// The settings.
    pub fn config(&self) -> &KfacConfig {
        &self.setup.config
    }

    /// The cases that the next batch should have, out of so many in the training set.
    ///
    /// By [`KfacConfig::batches`](super::KfacConfig::batches). A batch may have another size; what is measured for
    /// [`BatchSchedule::Automatic`](super::BatchSchedule::Automatic) allows for it. An objective of your own is not
    /// taken for a mean over cases: with [`step_with`](Self::step_with) automatic batches keep their first size.
    pub fn batch_size(&self, total: usize) -> usize {
        let planned = self
            .config()
            .batches
            .batch_size(self.state.iteration + 1, total);
        planned.unwrap_or_else(|| self.state.growth.size(total))
    }

    /// The number of steps so far.
    pub fn iteration(&self) -> u64 {
        self.state.iteration
    }

    /// λ, the damping of the quadratic model.
    pub fn lambda(&self) -> f64 {
        self.state.lambda.lambda
    }

    /// γ, the damping of the approximate inverse.
    pub fn gamma(&self) -> f64 {
        self.state.gamma
    }

    /// Which block covers each parameter of the model.
    pub fn parameter_table(&self) -> &ParameterTable {
        &self.setup.engine.table
    }

    /// The layers with a curvature block, in the order of the forward pass.
    pub fn layers(&self) -> &Layers {
        self.setup.engine.layers()
    }

    /// The running estimates of the layers' blocks; empty before the first step.
    pub fn factors(&self) -> &FactorSet {
        self.state.engine.factors()
    }

    /// The damped inverse in use; `None` before the first step.
    pub fn inverse(&self) -> Option<&FisherInverse> {
        self.state.engine.inverse.as_ref()
    }
}

/// What a step is taken on.
struct Task<'a, M: Network, T, O> {
    batch: &'a Batch<M::Input, T>,
    objective: &'a O,
    given: Option<&'a dyn Loss<M::Output, T>>,
}
