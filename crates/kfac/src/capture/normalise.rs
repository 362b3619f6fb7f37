//! The pass that takes the statistics of a batch for batch normalisations.

use super::{
    network::Network,
    normalisation::BatchStatistics,
    tape::{Mode, Tape},
};

impl BatchStatistics {
    /// The statistics of a batch at the model's parameters, each layer seeing inputs normalised by
    /// the batch's own.
    pub(crate) fn of<M: Network>(model: &M, inputs: M::Input) -> Self {
        let mut tape = Tape::new(Mode::Normalise(Self::default()));
        let _ = model.clone().no_grad().forward(inputs, &mut tape);
        match tape.mode.into_inner() {
            Mode::Normalise(statistics) => statistics,
            _ => Self::default(),
        }
    }
}
