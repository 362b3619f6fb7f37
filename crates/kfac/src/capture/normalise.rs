//! The pass that takes the statistics of a batch for batch normalisations.

use super::{
    network::Network,
    normalisation::BatchStatistics,
    own_statistics::with_own_statistics,
    tape::{Mode, Tape},
};
use crate::network::{Cases, Layers};

/// Batch normalisations are told the statistics of no more cases than this, at once.
const NORMALISED_CASES: usize = 1024;

impl BatchStatistics {
    /// The statistics of a batch at the model's parameters, each layer seeing inputs normalised by
    /// the batch's own.
    pub(crate) fn of<M: Network>(model: &M, inputs: &M::Input) -> Self {
        let inputs = inputs.slice(0..inputs.len().min(NORMALISED_CASES));
        let inputs = inputs.detached();
        let mut tape = Tape::new(Mode::Normalise(Self::default()));
        let _ = model.clone().no_grad().forward(inputs, &mut tape);
        match tape.mode.into_inner() {
            Mode::Normalise(statistics) => statistics,
            _ => Self::default(),
        }
    }
}

/// The model with the statistics of a batch for the running ones: what it computes of each of its cases is what
/// training computes, but for the dependence of the statistics on the case.
pub(crate) fn normalised_by<M: Network>(layers: &Layers, model: &M, inputs: &M::Input) -> M {
    if !layers.normalises() {
        return model.clone();
    }
    let model = with_own_statistics(model);
    BatchStatistics::of(&model, inputs).set_running();
    model
}
