//! A training under way.

use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, LearnerEvent,
    SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingItem, ValidLoader,
};

use super::{error::LearnerError, model::KfacModel};
use crate::{capture::Network, engine::InitError, loss::Loss, optim::Kfac};

/// Makes an optimizer for a model and an example of its inputs.
pub(super) type Init<'a, M, L> =
    dyn Fn(&M, &<M as Network>::Input) -> Result<Kfac<L>, InitError> + 'a;

/// The model, its optimizer, and who is told of what they do.
pub(super) struct Run<'a, M: KfacModel, L> {
    pub(super) init: &'a Init<'a, M, L>,
    pub(super) model: M,
    /// Made with the first batch.
    pub(super) optimizer: Option<Kfac<L>>,
    pub(super) processor: SupervisedTrainingEventProcessor<M>,
    pub(super) interrupter: Interrupter,
}

impl<M: KfacModel, L: Loss<<M as Network>::Output, M::Targets> + Clone> Run<'_, M, L> {
    /// A training and a validation, in the order of events of Burn's own strategies.
    pub(super) fn epoch(
        &mut self,
        epoch: usize,
        training: &TrainLoader<M>,
        validation: &ValidLoader<M>,
    ) {
        self.tell_training(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: training.num_items(),
        });
        self.train(training);
        self.tell_training(LearnerEvent::EndSplit(epoch));
        if self.interrupter.should_stop() {
            return;
        }
        self.tell_validation(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: validation.num_items(),
        });
        self.validate(validation);
        self.tell_validation(LearnerEvent::EndSplit(epoch));
        self.tell_training(LearnerEvent::EndEpoch(epoch));
        // Checkpoints and early stopping read the metrics of the epoch.
        let flushed = self.processor.flush();
        self.interrupter.fail_on_error(flushed);
    }

    /// The model as it is validated, saved and returned: the average of the iterates once it has begun.
    pub(super) fn shown(&self) -> M {
        let average = self.optimizer.as_ref();
        let average = average.and_then(|optimizer| optimizer.averaged_model(&self.model));
        average.unwrap_or_else(|| self.model.clone())
    }

    fn train(&mut self, loader: &TrainLoader<M>) {
        let mut items = loader.iter();
        let mut iteration = 0;
        while !self.interrupter.should_stop()
            && let Some(item) = items.next()
        {
            let item = match item {
                Ok(item) => item,
                Err(error) => return self.interrupter.fail(error),
            };
            iteration += 1;
            match self.step(item) {
                Ok(output) => {
                    let item = TrainingItem::new(output, items.progress(), Some(iteration), None);
                    self.tell_training(LearnerEvent::ProcessedItem(item));
                }
                Err(error) => return error.stop(&self.interrupter),
            }
        }
    }

    fn step(
        &mut self,
        item: <M as TrainStep>::Input,
    ) -> Result<<M as TrainStep>::Output, LearnerError> {
        let batch = M::batch(item);
        let optimizer = match &mut self.optimizer {
            Some(made) => made,
            none => none.insert((self.init)(&self.model, &batch.inputs)?),
        };
        let report = optimizer.step(&mut self.model, &batch)?;
        Ok(self.model.output(batch, report))
    }

    fn validate(&mut self, loader: &ValidLoader<M>) {
        let model = self.shown().valid();
        let mut items = loader.iter();
        let mut iteration = 0;
        while !self.interrupter.should_stop()
            && let Some(item) = items.next()
        {
            let item = match item {
                Ok(item) => item,
                Err(error) => return self.interrupter.fail(error),
            };
            iteration += 1;
            let output = InferenceStep::step(&model, item);
            let item = TrainingItem::new(output, items.progress(), Some(iteration), None);
            self.tell_validation(LearnerEvent::ProcessedItem(item));
        }
    }

    fn tell_training(&mut self, event: LearnerEvent<<M as TrainStep>::Output>) {
        let told = self.processor.process_train(event);
        self.interrupter.fail_on_error(told);
    }

    fn tell_validation(&mut self, event: LearnerEvent<<M as InferenceStep>::Output>) {
        let told = self.processor.process_valid(event);
        self.interrupter.fail_on_error(told);
    }
}
