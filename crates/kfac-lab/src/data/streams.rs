//! Random cases that do not depend on how many threads make them.

use std::num::NonZero;
use std::thread;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random numbers of case `index`: one stream of the generator that `seed` starts.
pub(super) fn stream(seed: u64, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index as u64);
    rng
}

/// Make `[cases, features]` values, each row by `fill(index, row)`, on as many threads as there are
/// processors.
pub(super) fn make_rows<F>(cases: usize, features: usize, fill: F) -> Vec<f32>
where
    F: Fn(usize, &mut [f32]) + Sync,
{
    let mut values = vec![0.0; cases * features];
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = cases.div_ceil(threads).max(1);
    thread::scope(|scope| {
        for (part, rows) in values.chunks_mut(share * features).enumerate() {
            let fill = &fill;
            scope.spawn(move || {
                for (offset, row) in rows.chunks_mut(features).enumerate() {
                    fill(part * share + offset, row);
                }
            });
        }
    });
    values
}
