//! The size of the mini-batches (section 13).

use serde::{Deserialize, Serialize};

/// How many cases each iteration's batch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSchedule {
    /// The optimizer tells ([`Kfac::batch_size`](super::Kfac::batch_size)): as many cases as the noise of the gradient
    /// is worth, from a first size that the network decides.
    #[default]
    Automatic,
    /// The same number in every iteration.
    Fixed {
        /// The number of cases.
        cases: usize,
    },
    /// Exponential growth from `initial` cases in iteration 1 to all cases in iteration `full_at`.
    ///
    /// K-FAC's progress an iteration grows with the batch, so late iterations are worth large ones.
    Exponential {
        /// Cases of the first iteration.
        initial: usize,
        /// The iteration whose batch is the whole training set.
        full_at: u64,
    },
}

impl BatchSchedule {
    /// The paper's schedule: 1000 cases at first, all of them in iteration 500.
    pub const PAPER: Self = Self::Exponential {
        initial: 1000,
        full_at: 500,
    };

    /// The batch size of an iteration, counted from one, out of `total` training cases.
    ///
    /// # Definition
    ///
    /// ```text
    /// m_k = ⌊m₁ (total / m₁)^((k − 1) / (full_at − 1))⌋, at most total
    /// ```
    ///
    /// `None` where the optimizer tells.
    pub fn batch_size(self, iteration: u64, total: usize) -> Option<usize> {
        Some(match self {
            Self::Automatic => return None,
            Self::Fixed { cases } => cases.clamp(1, total.max(1)),
            Self::Exponential { initial, full_at } => {
                if iteration >= full_at || initial >= total {
                    return Some(total);
                }
                let growth = total as f64 / initial.max(1) as f64;
                let progress = iteration.saturating_sub(1) as f64 / (full_at - 1) as f64;
                let size = initial as f64 * growth.powf(progress);
                (size.floor() as usize).clamp(1, total)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(schedule: BatchSchedule, iteration: u64, total: usize) -> usize {
        schedule.batch_size(iteration, total).unwrap()
    }

    #[test]
    fn the_papers_schedule_starts_at_1000_and_ends_at_all() {
        for total in [20_000, 60_000, 103_500] {
            assert_eq!(size(BatchSchedule::PAPER, 1, total), 1000);
            assert_eq!(size(BatchSchedule::PAPER, 500, total), total);
            assert_eq!(size(BatchSchedule::PAPER, 9999, total), total);
        }
        // Sizes of the authors' code on MNIST, whose schedule has the same formula.
        assert_eq!(size(BatchSchedule::PAPER, 300, 60_000), 11_626);
    }

    #[test]
    fn sizes_grow_and_stay_within_the_set() {
        let sizes: Vec<_> = (1..600)
            .map(|k| size(BatchSchedule::PAPER, k, 20_000))
            .collect();
        assert!(sizes.is_sorted());
        assert!(sizes.iter().all(|&m| (1000..=20_000).contains(&m)));
    }

    #[test]
    fn small_sets_are_used_whole() {
        assert_eq!(size(BatchSchedule::PAPER, 1, 500), 500);
        assert_eq!(size(BatchSchedule::PAPER, 1, 1000), 1000);
        assert_eq!(size(BatchSchedule::Fixed { cases: 64 }, 3, 50), 50);
        let immediate = BatchSchedule::Exponential {
            initial: 10,
            full_at: 1,
        };
        assert_eq!(size(immediate, 1, 50), 50);
        assert_eq!(BatchSchedule::Automatic.batch_size(1, 50), None);
    }
}
