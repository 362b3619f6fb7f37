//! Random numbers that depend on nothing but the seed, the step and their purpose.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What random numbers are drawn for; each purpose of a step has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Targets sampled from the model's predictive distribution (section 5).
    SampledTargets,
    /// The cases that the factors are estimated from, and those that the quadratic model uses (section 8): the
    /// fewer are among the more.
    Subsets,
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

    /// `count` of the numbers `0..of` in increasing order, spread over them: halves, quarters and so on have
    /// the same number of them, but for one. Each number is as likely as any other, and fewer are among more
    /// of the same stream.
    pub(crate) fn spread(&mut self, of: usize, count: usize) -> Vec<usize> {
        // Halves may differ in length by one; the offset makes up for it.
        let offset = self.generator.random_range(0..of.max(1));
        let order = self.order(0..of).into_iter();
        let mut chosen: Vec<usize> = order
            .take(count)
            .map(|number| (number + offset) % of)
            .collect();
        chosen.sort_unstable();
        chosen
    }

    /// The numbers of a range in an order whose beginnings are spread over it: those of either half in such an
    /// order, in turn.
    fn order(&mut self, range: Range<usize>) -> Vec<usize> {
        if range.len() <= 1 {
            return range.collect();
        }
        let middle = range.start + range.len() / 2;
        let [mut first, mut second] =
            [range.start..middle, middle..range.end].map(|half| self.order(half).into_iter());
        if self.generator.random() {
            std::mem::swap(&mut first, &mut second);
        }
        let in_turn = std::iter::from_fn(|| {
            std::mem::swap(&mut first, &mut second);
            second.next().or_else(|| first.next())
        });
        in_turn.collect()
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

    #[test]
    fn a_spread_has_as_many_of_each_part_and_holds_the_smaller_ones() {
        for seed in 0..50 {
            let of = |count| RandomStream::from_seed(seed).spread(64, count);
            let quarters = of(16);
            for start in [0, 16, 32, 48] {
                // Beginning anywhere, a quarter of the numbers has a quarter of the chosen, but for its ends.
                let within = quarters.iter().filter(|n| (start..start + 16).contains(*n));
                assert!(within.count().abs_diff(4) <= 1, "{quarters:?}");
            }
            let eighths = of(8);
            assert!(eighths.iter().all(|number| quarters.contains(number)));
        }
    }
}
