//! Measuring time.

use std::time::Instant;

/// Splits a span of time over what happens in it.
///
/// On an asynchronous device the time of queued work shows where its result is read.
pub(crate) struct Stopwatch {
    last: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    /// The seconds since the last lap, or the start.
    pub(crate) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        seconds
    }
}
