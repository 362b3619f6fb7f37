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
    /// The cases that the factors are estimated from (section 8).
    StatisticsSubset,
    /// The cases that the quadratic model uses (section 8).
    ModelSubset,
}

/// A stream of random tensors.
///
/// The numbers are drawn on the host, so they are the same on every device, and concurrent
/// optimizers do not disturb each other through a device's global generator.
#[derive(Clone, Debug)]
pub struct RandomStream {
    generator: ChaCha8Rng,
    /// Streams of their own for the second and further heads of a network, once they are asked for.
    heads: Vec<Self>,
}

impl RandomStream {
    /// The stream of a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self::of(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn for_step(seed: u64, step: u64, purpose: Purpose) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream((step << 8) | purpose as u64);
        Self::of(generator)
    }

    fn of(generator: ChaCha8Rng) -> Self {
        let heads = Vec::new();
        Self { generator, heads }
    }

    /// The stream of one of several heads: each head draws for case after case, whatever the parts that the
    /// cases come in. The first head draws from this stream, as an only head does.
    pub(crate) fn of_head(&mut self, head: usize) -> &mut Self {
        let Some(further) = head.checked_sub(1) else {
            return self;
        };
        while self.heads.len() <= further {
            let number = self.heads.len() as u64 + 1;
            let mut keys = ChaCha8Rng::from_seed(self.generator.get_seed());
            keys.set_stream(self.generator.get_stream() ^ (number << 56));
            self.heads.push(Self::of(ChaCha8Rng::from_rng(&mut keys)));
        }
        &mut self.heads[further]
    }

    /// `count` of the numbers `0..of` in increasing order, spread over them: one of each of `count` runs of
    /// nearly the same length. Each number is as likely as any other.
    pub(crate) fn spread(&mut self, of: usize, count: usize) -> Vec<usize> {
        // The runs differ in length by one; the offset makes up for it.
        let offset = self.generator.random_range(0..of.max(1));
        let mut chosen: Vec<usize> = (0..count)
            .map(|run| {
                let (start, end) = (run * of / count, (run + 1) * of / count);
                (self.generator.random_range(start..end.max(start + 1)) + offset) % of
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }

    /// Numbers uniform in `[0, 1)`, with the shape, device and precision of `like`.
    pub fn uniform_like<const D: usize>(&mut self, like: &Tensor<D>) -> Tensor<D> {
        let values = (0..like.shape().num_elements()).map(|_| self.generator.random::<f32>());
        tensor_like(like, values.collect())
    }

    /// Standard normal numbers, with the shape, device and precision of `like`.
    pub fn normal_like<const D: usize>(&mut self, like: &Tensor<D>) -> Tensor<D> {
        let generator = &mut self.generator;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_distinct_numbers_and_favours_none() {
        let mut counts = [0u32; 7];
        for seed in 0..7000 {
            let chosen = RandomStream::from_seed(seed).spread(7, 3);
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.len() == 3);
            for number in chosen {
                counts[number] += 1;
            }
        }
        // 3000 of each are expected, with a deviation of 41.
        assert!(
            counts.iter().all(|count| count.abs_diff(3000) < 200),
            "{counts:?}"
        );
        assert_eq!(RandomStream::from_seed(1).spread(4, 4), [0, 1, 2, 3]);
    }
}
