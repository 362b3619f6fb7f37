//! Random numbers that depend on nothing but the seed, the step and their purpose.

use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What random numbers are drawn for; each purpose of a step has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Targets sampled from the model's predictive distribution (section 5).
    SampledTargets,
}

/// A stream of random tensors.
///
/// The numbers are drawn on the host, so they are the same on every device, and concurrent
/// optimizers do not disturb each other through a device's global generator.
#[derive(Clone, Debug)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The stream of a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn for_step(seed: u64, step: u64, purpose: Purpose) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream((step << 8) | purpose as u64);
        Self(generator)
    }

    /// Numbers uniform in `[0, 1)`, with the shape, device and precision of `like`.
    pub fn uniform_like<const D: usize>(&mut self, like: &Tensor<D>) -> Tensor<D> {
        let values = (0..like.shape().num_elements()).map(|_| self.0.random::<f32>());
        tensor_like(like, values.collect())
    }

    /// Standard normal numbers, with the shape, device and precision of `like`.
    pub fn normal_like<const D: usize>(&mut self, like: &Tensor<D>) -> Tensor<D> {
        let generator = &mut self.0;
        let values = (0..like.shape().num_elements()).map(|_| StandardNormal.sample(generator));
        tensor_like(like, values.collect::<Vec<f32>>())
    }
}

fn tensor_like<const D: usize>(like: &Tensor<D>, values: Vec<f32>) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(values, like.shape()),
        (&like.device(), like.dtype()),
    )
}
