//! `Kfac` as the strategy of a learner.

use std::sync::{Arc, Mutex, PoisonError};

use burn::train::{
    EarlyStoppingStrategy, Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainingComponents, ValidLoader,
};

use super::{error::LearnerError, model::KfacModel, run::Run};
use crate::{
    capture::Network,
    damping::LambdaRule,
    engine::{Extensions, InitError},
    loss::{Likelihood, Loss},
    optim::{Kfac, KfacConfig},
};

/// Trains a learner's model by [`Kfac`]: `TrainingStrategy::Custom(Arc::new(strategy))`.
///
/// The learner's optimizer and schedule of learning rates have no part in it. Data loaders, metrics, early stopping,
/// interruption and checkpoints work as in Burn's own strategies, on the device of the model.
///
/// The optimizer is made with the first batch: the model has its parameters by then, those of a
/// checkpoint too. Checkpoints do not have the optimizer's state: it starts anew. What is validated, saved and
/// returned is the average of the iterates, once it has begun ([`IterateAveraging`](crate::IterateAveraging)), and the
/// last one before.
///
/// What the optimizer refuses ends the training, by [`LearnerError`]; the model is then that before it.
///
/// # Example
///
/// ```no_run
/// # use std::sync::Arc;
/// # use burn::{
/// #     data::dataloader::DataLoader,
/// #     optim::SgdConfig,
/// #     tensor::{Tensor, Int},
/// #     train::{Learner, LearningResult, SupervisedTraining, TrainingStrategy, TrainStep, InferenceStep},
/// # };
/// use kfac::{Categorical, KfacConfig, Loss, train::{KfacMetric, KfacModel, KfacStrategy, LossOutput, Reported}};
///
/// # fn train<M, B>(model: M, training: Arc<dyn DataLoader<B>>, validation: Arc<dyn DataLoader<B>>) -> LearningResult<M>
/// # where
/// #     M: KfacModel + TrainStep<Input = B, Output = Reported<LossOutput, kfac::StepReport>> + InferenceStep<Input = B>,
/// #     Categorical: Loss<<M as kfac::Network>::Output, M::Targets>,
/// # {
/// let strategy = Arc::new(KfacStrategy::new(KfacConfig::new(), Categorical));
/// let result = SupervisedTraining::new("runs/first", training, validation)
///     .metric_train_numeric(KfacMetric::lambda())
///     .with_training_strategy(TrainingStrategy::Custom(strategy.clone()))
///     .num_epochs(10)
///     .launch(Learner::new(model, SgdConfig::new().init(), 0.0));
/// # result
/// # }
/// ```
#[derive(Debug)]
pub struct KfacStrategy<L> {
    config: KfacConfig,
    loss: L,
    extensions: Extensions,
    rule: Option<Arc<dyn LambdaRule>>,
    optimizer: Mutex<Option<Kfac<L>>>,
}

impl<L> KfacStrategy<L> {
    /// The strategy of an optimizer's settings.
    pub fn new(config: KfacConfig, loss: L) -> Self {
        Self {
            config,
            loss,
            extensions: Extensions::new(),
            rule: None,
            optimizer: Mutex::new(None),
        }
    }

    /// With block structures and a damping rule of your own.
    #[must_use]
    pub fn with_extensions(self, extensions: Extensions) -> Self {
        Self { extensions, ..self }
    }

    /// With a rule for λ of your own.
    #[must_use]
    pub fn with_lambda_rule(self, rule: Arc<dyn LambdaRule>) -> Self {
        Self {
            rule: Some(rule),
            ..self
        }
    }

    /// The optimizer of the last training, as it was at its end.
    pub fn optimizer(&self) -> Option<Kfac<L>>
    where
        L: Clone,
    {
        let optimizer = self.optimizer.lock();
        optimizer.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An optimizer for the model.
    fn init<M: Network>(&self, model: &M, example: &M::Input) -> Result<Kfac<L>, InitError>
    where
        L: Likelihood<M::Output> + Clone,
    {
        let extensions = self.extensions.clone();
        let loss = self.loss.clone();
        let optimizer = self.config.init_with(extensions, model, loss, example)?;
        Ok(match &self.rule {
            Some(rule) => optimizer.with_lambda_rule(rule.clone()),
            None => optimizer,
        })
    }
}

impl<M: KfacModel, L: Loss<<M as Network>::Output, M::Targets> + Clone>
    SupervisedLearningStrategy<M> for KfacStrategy<L>
{
    fn fit(
        &self,
        components: TrainingComponents<M>,
        mut learner: Learner<M>,
        training: TrainLoader<M>,
        validation: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let model = learner.model();
        // The optimizer differentiates by the parameters only, so that the batches need no autodiff.
        let device = model.devices().first().cloned().unwrap_or_default().inner();
        let (training, validation) = (training.to_device(&device), validation.to_device(&device));
        let store = components.event_store;
        let mut checkpointer = components.checkpointer;
        let mut early_stopping = components.early_stopping;
        let mut run = Run {
            init: &|model: &M, example: &<M as Network>::Input| self.init(model, example),
            model,
            optimizer: None,
            processor: components.event_processor,
            interrupter: components.interrupter,
        };
        if components.grad_accumulation.is_some() {
            LearnerError::Accumulation.stop(&run.interrupter);
        }
        for epoch in starting_epoch..=components.num_epochs {
            run.epoch(epoch, &training, &validation);
            if run.interrupter.should_stop() {
                break;
            }
            if let Some(checkpointer) = &mut checkpointer {
                learner.load_model(run.shown().into_record());
                checkpointer.checkpoint(&learner, epoch, &store);
            }
            let stops = |stopping: &mut Box<_>| {
                EarlyStoppingStrategy::should_stop(&mut **stopping, epoch, &store)
            };
            if early_stopping.as_mut().is_some_and(stops) {
                break;
            }
        }
        let shown = run.shown();
        let optimizer = self.optimizer.lock();
        *optimizer.unwrap_or_else(PoisonError::into_inner) = run.optimizer;
        (shown, run.processor)
    }
}
