//! A preconditioner within a learner's model.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use burn::{module::Module, optim::GradientsParams, train::Interrupter};

use super::error::LearnerError;
use crate::{
    capture::Network,
    loss::Loss,
    network::{Batch, Cases},
    optim::{ObserveReport, PreconditionReport, Preconditioner, PreconditionerConfig},
};

/// A [`Preconditioner`] in a field of a learner's model, that `TrainStep` calls: in `step`, which has the batch,
/// [`accumulate`](Self::accumulate), and in `optimize`, which has the learning rate,
/// [`precondition`](Self::precondition).
///
/// The preconditioner is made with the first batch: the model has its parameters by then, those of a
/// checkpoint too. Checkpoints do not have the preconditioner's state: it starts anew. All clones of a model share
/// one. Where the learner accumulates gradients over items, the statistics are of all of them.
///
/// What the preconditioner refuses stops the training after the item, by [`LearnerError`], and leaves the parameters
/// as they are. For strategies with one device: those with several do not call `optimize`.
///
/// # Example
///
/// ```
/// use burn::{
///     lr_scheduler::module_lr_scheduler::ModuleLearningRate,
///     module::Module,
///     nn::Linear,
///     optim::{GradientsParams, ModuleOptimizer},
///     tensor::{Int, Tensor},
///     train::{ClassificationOutput, TrainOutput, TrainStep},
/// };
/// use kfac::{
///     Batch, Categorical, Network, Tape,
///     train::{LearnerPreconditioner, PreconditionerReports, Reported},
/// };
///
/// #[derive(Module, Debug)]
/// struct Model {
///     layer: Linear,
///     #[module(skip)]
///     kfac: LearnerPreconditioner<Categorical>,
/// }
/// # impl Network for Model {
/// #     type Input = Tensor<2>;
/// #     type Output = Tensor<2>;
/// #     fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
/// #         tape.linear(&self.layer, x)
/// #     }
/// # }
/// # fn classify(model: &Model, batch: &Batch<Tensor<2>, Tensor<1, Int>>) -> ClassificationOutput {
/// #     unimplemented!()
/// # }
///
/// impl TrainStep for Model {
///     type Input = Batch<Tensor<2>, Tensor<1, Int>>;
///     type Output = Reported<ClassificationOutput, PreconditionerReports>;
///
///     fn step(&self, batch: Self::Input) -> TrainOutput<Self::Output> {
///         let reports = self.kfac.accumulate(self, &batch);
///         let output = classify(self, &batch);
///         let gradients = output.loss.backward();
///         TrainOutput::new(self, gradients, Reported::new(output, reports))
///     }
///
///     fn optimize(
///         self,
///         optimizer: &mut ModuleOptimizer,
///         rate: ModuleLearningRate,
///         gradients: GradientsParams,
///     ) -> Self {
///         let gradients = self.kfac.precondition(&self, gradients, rate.base());
///         optimizer.step(rate, self, gradients)
///     }
/// }
/// ```
pub struct LearnerPreconditioner<L> {
    held: Arc<Mutex<Held<L>>>,
}

/// What the clones share.
struct Held<L> {
    config: PreconditionerConfig,
    loss: L,
    interrupter: Interrupter,
    preconditioner: Option<Preconditioner<L>>,
    /// Those of the step under way.
    reports: PreconditionerReports,
    refused: bool,
}

impl<L> LearnerPreconditioner<L> {
    /// None yet: the first batch makes it.
    ///
    /// The training is to be stopped by this interrupter: `SupervisedTraining::with_interrupter`.
    pub fn new(config: PreconditionerConfig, loss: L, interrupter: Interrupter) -> Self {
        let held = Held {
            config,
            loss,
            interrupter,
            preconditioner: None,
            reports: PreconditionerReports::default(),
            refused: false,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
        }
    }

    /// Takes the batch of a training step into the statistics that the next gradients are preconditioned by, where
    /// these are due.
    ///
    /// The reports of the step are empty until then.
    ///
    /// # Cost
    ///
    /// That of [`Preconditioner::observe`]; refreshes of the inverse come with
    /// [`precondition`](Self::precondition).
    pub fn accumulate<M: Network, T: Cases>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> PreconditionerReports
    where
        L: Loss<M::Output, T> + Clone,
    {
        let mut held = self.lock();
        held.refused = false;
        if let Err(error) = held.accumulate(model, batch) {
            held.refuse(error);
        }
        held.reports.clone()
    }

    /// The gradients, preconditioned, for a step of a learning rate.
    ///
    /// None where the preconditioner refuses them, or refused the batch: the step is none then.
    pub fn precondition<M: Module>(
        &self,
        model: &M,
        gradients: GradientsParams,
        rate: f64,
    ) -> GradientsParams {
        let mut held = self.lock();
        if held.refused {
            return GradientsParams::new();
        }
        held.precondition(model, gradients, rate)
            .unwrap_or_else(|error| {
                held.refuse(error);
                GradientsParams::new()
            })
    }

    /// Looks at the preconditioner, or changes it, as by [`Preconditioner::set_lambda`]; `None` before the first
    /// batch.
    pub fn with<R>(&self, look: impl FnOnce(&mut Preconditioner<L>) -> R) -> Option<R> {
        self.lock().preconditioner.as_mut().map(look)
    }

    fn lock(&self) -> MutexGuard<'_, Held<L>> {
        // A preconditioner whose call panicked is as it was before it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Held<L> {
    fn accumulate<M: Network, T: Cases>(
        &mut self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(), LearnerError>
    where
        L: Loss<M::Output, T> + Clone,
    {
        let preconditioner = match &mut self.preconditioner {
            Some(made) => made,
            none => {
                let made = self.config.init(model, self.loss.clone(), &batch.inputs)?;
                none.insert(made)
            }
        };
        Ok(preconditioner.accumulate(model, batch)?)
    }

    fn precondition<M: Module>(
        &mut self,
        model: &M,
        gradients: GradientsParams,
        rate: f64,
    ) -> Result<GradientsParams, LearnerError> {
        // Gradients without a batch before them stay as they are.
        let Some(preconditioner) = &mut self.preconditioner else {
            return Ok(gradients);
        };
        let observed = preconditioner.observe_accumulated()?;
        let step = preconditioner.precondition(model, gradients, rate)?;
        let reports = std::mem::take(&mut self.reports);
        reports.fill(observed, step.report);
        Ok(step.gradients)
    }

    fn refuse(&mut self, error: LearnerError) {
        self.refused = true;
        error.stop(&self.interrupter);
    }
}

impl<L> Clone for LearnerPreconditioner<L> {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
        }
    }
}

impl<L> fmt::Debug for LearnerPreconditioner<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LearnerPreconditioner")
            .finish_non_exhaustive()
    }
}

/// The reports of a step of a preconditioner; empty until its gradients are preconditioned, and then in
/// all clones.
#[derive(Clone, Debug, Default)]
pub struct PreconditionerReports {
    both: Arc<OnceLock<(ObserveReport, PreconditionReport)>>,
}

impl PreconditionerReports {
    /// What the observation did.
    pub fn observation(&self) -> Option<&ObserveReport> {
        self.both.get().map(|(observation, _)| observation)
    }

    /// What was done to the gradients.
    pub fn preconditioning(&self) -> Option<&PreconditionReport> {
        self.both.get().map(|(_, preconditioning)| preconditioning)
    }

    fn fill(&self, observation: ObserveReport, preconditioning: PreconditionReport) {
        // The reports of a step are replaced once filled, so that they never are before.
        let _ = self.both.set((observation, preconditioning));
    }
}
