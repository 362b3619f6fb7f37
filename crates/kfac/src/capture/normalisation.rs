//! The statistics of batch normalisations: constants during a step, updated once before it.

use burn::{
    module::RunningState,
    nn::BatchNorm,
    tensor::{Bool, Tensor},
};

use serde::{Deserialize, Serialize};

use crate::{linalg::host, moving_average::old_weight};

/// The statistics of a batch, for the batch normalisations of a network.
#[derive(Debug, Default)]
pub(crate) struct BatchStatistics(Vec<Statistics>);

/// The mean and the variance of one batch normalisation.
#[derive(Debug)]
struct Statistics {
    running: [RunningState<Tensor<1>>; 2],
    /// The variance is `None` where a single value has none.
    of_batch: (Tensor<1>, Option<Tensor<1>>),
    momentum: f64,
}

/// What the running statistics of a batch normalisation were before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Those of a new layer, which tell nothing.
    New,
    /// Those of other training.
    Pretrained,
}

impl BatchStatistics {
    /// Takes the statistics of a layer's input, and normalises it by them.
    pub(super) fn take<const D: usize>(
        &mut self,
        layer: &BatchNorm,
        input: Tensor<D>,
    ) -> Tensor<D> {
        let [mean, variance] = moments(&input);
        let values = input.shape().num_elements() / input.dims()[1].max(1);
        let variance = (values > 1).then_some(variance);
        let used = variance
            .clone()
            .unwrap_or_else(|| layer.running_var.value());
        let output = normalised_by(layer, input, [mean.clone(), used]);
        self.0.push(Statistics {
            running: [layer.running_mean.clone(), layer.running_var.clone()],
            of_batch: (mean, variance),
            momentum: layer.momentum,
        });
        output
    }

    /// What the running statistics are before they have moved, of each call of a normalisation.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let origin = |statistics: &Statistics| {
            let [mean, variance] = statistics.running.each_ref().map(RunningState::value);
            let all = |equal: Tensor<1, Bool>| equal.all().into_scalar::<bool>();
            if all(mean.equal_elem(0.0)) && all(variance.equal_elem(1.0)) {
                Origin::New
            } else {
                Origin::Pretrained
            }
        };
        self.0.iter().map(origin).collect()
    }

    /// Whether they are numbers that running ones can be mixed with.
    pub(crate) fn are_finite(&self) -> bool {
        let finite = |tensor: &Tensor<1>| host::sum(tensor.clone().abs()).is_finite();
        self.0.iter().all(|statistics| {
            let (mean, variance) = &statistics.of_batch;
            finite(mean) && variance.as_ref().is_none_or(finite)
        })
    }

    /// Moves the running statistics of the model by those of the batch, in the `update`-th step. Those of
    /// a new layer are the plain mean of all batches until the layer's momentum is reached; pretrained ones
    /// move by the momentum.
    pub(crate) fn move_running(self, update: u64, origins: &[Origin]) {
        let origins = origins.iter().copied();
        let origins = origins.chain(std::iter::repeat(Origin::Pretrained));
        for (statistics, origin) in self.0.into_iter().zip(origins) {
            let cap = 1.0 - statistics.momentum;
            let kept = match origin {
                Origin::New => old_weight(update, cap),
                Origin::Pretrained => cap,
            };
            statistics.replace(|running, new| running * kept + new * (1.0 - kept));
        }
    }

    /// Makes the statistics of the batch the running ones of the model, whatever these were.
    pub(crate) fn set_running(self) {
        for statistics in self.0 {
            statistics.replace(|_, new| new);
        }
    }
}

impl Statistics {
    /// Replaces the running ones by what becomes of them and those of the batch.
    fn replace(self, mixed: impl Fn(Tensor<1>, Tensor<1>) -> Tensor<1>) {
        let (mean, variance) = self.of_batch;
        let new = [Some(mean), variance];
        for (running, new) in self.running.iter().zip(new) {
            if let Some(new) = new {
                replace(running, mixed(running.value(), new));
            }
        }
    }
}

fn replace(running: &RunningState<Tensor<1>>, value: Tensor<1>) {
    running.update(value.detach());
    let _ = running.value_sync();
}

/// Mean and variance of each channel over a batch, without autodiff.
fn moments<const D: usize>(input: &Tensor<D>) -> [Tensor<1>; 2] {
    let channels = input.dims()[1];
    let by_channel: Tensor<2> = input.clone().swap_dims(0, 1).flatten(1, D - 1);
    let by_channel = by_channel.detach();
    let mean = by_channel.clone().mean_dim(1);
    let deviation = by_channel - mean.clone();
    let variance = (deviation.clone() * deviation).mean_dim(1);
    [mean, variance].map(|moment| moment.reshape([channels]))
}

/// A batch normalisation with the statistics of its batch; the running ones stay as they are.
pub(super) fn by_batch_statistics<const D: usize>(
    layer: &BatchNorm,
    input: Tensor<D>,
) -> Tensor<D> {
    let statistics = moments(&input);
    normalised_by(layer, input, statistics)
}

/// A batch normalisation with its running statistics, whatever the device.
pub(super) fn by_running_statistics<const D: usize>(
    layer: &BatchNorm,
    input: Tensor<D>,
) -> Tensor<D> {
    let statistics = [layer.running_mean.value(), layer.running_var.value()];
    normalised_by(layer, input, statistics)
}

fn normalised_by<const D: usize>(
    layer: &BatchNorm,
    input: Tensor<D>,
    [mean, variance]: [Tensor<1>; 2],
) -> Tensor<D> {
    let (gamma, beta) = (layer.gamma.val(), layer.beta.val());
    burn::tensor::module::batch_norm(input, gamma, beta, mean, variance, layer.epsilon)
}
