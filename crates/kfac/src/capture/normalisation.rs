//! The statistics of batch normalisations: constants during a step, updated once before it.

use burn::{module::RunningState, nn::BatchNorm, tensor::Tensor};

use crate::moving_average::old_weight;

/// The statistics of a batch, for the batch normalisations of a network.
#[derive(Debug, Default)]
pub(crate) struct BatchStatistics(Vec<Statistics>);

/// The mean and the variance of one batch normalisation.
#[derive(Debug)]
struct Statistics {
    running: [RunningState<Tensor<1>>; 2],
    of_batch: [Tensor<1>; 2],
    momentum: f64,
}

/// Running statistics as they were.
#[derive(Debug, Default)]
pub(crate) struct FormerStatistics(Vec<([RunningState<Tensor<1>>; 2], [Tensor<1>; 2])>);

impl BatchStatistics {
    /// Takes the statistics of a layer's input, and normalises it by them.
    pub(super) fn take<const D: usize>(
        &mut self,
        layer: &BatchNorm,
        input: Tensor<D>,
    ) -> Tensor<D> {
        let channels = input.dims()[1];
        let by_channel: Tensor<2> = input.clone().swap_dims(0, 1).flatten(1, D - 1);
        let by_channel = by_channel.detach();
        let mean = by_channel.clone().mean_dim(1);
        let deviation = by_channel - mean.clone();
        let variance = (deviation.clone() * deviation).mean_dim(1);
        let of_batch = [mean, variance].map(|moment| moment.reshape([channels]));
        let output = normalised_by(layer, input, of_batch.clone());
        self.0.push(Statistics {
            running: [layer.running_mean.clone(), layer.running_var.clone()],
            of_batch,
            momentum: layer.momentum,
        });
        output
    }

    /// Moves the running statistics of the model by those of the batch, in the `update`-th step; until
    /// the layer's momentum is reached they are the plain mean of all batches. Returns what they were.
    pub(crate) fn move_running(self, update: u64) -> FormerStatistics {
        let moved = self.0.into_iter().map(|statistics| {
            let former = statistics.running.each_ref().map(RunningState::value);
            let kept = old_weight(update, 1.0 - statistics.momentum);
            for ((running, old), new) in statistics
                .running
                .iter()
                .zip(&former)
                .zip(statistics.of_batch)
            {
                replace(running, old.clone() * kept + new * (1.0 - kept));
            }
            (statistics.running, former)
        });
        FormerStatistics(moved.collect())
    }
}

impl FormerStatistics {
    /// Gives the model its statistics back.
    pub(crate) fn restore(&self) {
        for (running, former) in &self.0 {
            for (running, former) in running.iter().zip(former) {
                replace(running, former.clone());
            }
        }
    }
}

fn replace(running: &RunningState<Tensor<1>>, value: Tensor<1>) {
    running.update(value.detach());
    let _ = running.value_sync();
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
