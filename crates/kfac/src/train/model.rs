//! What the strategy needs to know of a model.

use burn::train::{LearnerModel, TrainStep};

use crate::{
    capture::Network,
    network::{Batch, Cases},
    optim::StepReport,
};

/// A learner's model that [`KfacStrategy`](super::KfacStrategy) can train.
///
/// Its [`TrainStep`] is what other strategies call; of it only the types are used here.
pub trait KfacModel: Network + LearnerModel {
    /// The targets of a batch.
    type Targets: Cases;

    /// The batch of an item of the data loader.
    fn batch(
        item: <Self as TrainStep>::Input,
    ) -> Batch<<Self as Network>::Input, <Self as KfacModel>::Targets>;

    /// What the metrics are told after a step on a batch.
    ///
    /// The objective before the step is in the report; what else the metrics read costs a forward pass of
    /// the model's, which is that after the step.
    fn output(
        &self,
        batch: Batch<<Self as Network>::Input, <Self as KfacModel>::Targets>,
        report: StepReport,
    ) -> <Self as TrainStep>::Output;
}
