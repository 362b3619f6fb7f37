//! How far a comparison is.

use crate::median::mean_and_deviation;

/// The runs of a comparison that are left, and how long they take.
#[derive(Debug)]
pub struct Countdown {
    runs: usize,
    /// Seconds of training of each.
    seconds: f64,
    /// Seconds that each takes besides, before one has told.
    expected: f64,
    /// What those so far took besides, failed ones left out.
    besides: Vec<f64>,
    begun: usize,
}

impl Countdown {
    /// So many runs of so many seconds of training, and what each is expected to take besides.
    pub fn new(runs: usize, seconds: f64, expected: f64) -> Self {
        Self {
            runs,
            seconds,
            expected,
            besides: Vec::new(),
            begun: 0,
        }
    }

    /// Begins a run: its place among all, and how long they take from here.
    pub fn begin(&mut self, label: &str, seed: u64) -> String {
        let left = self.runs - self.begun;
        self.begun += 1;
        let besides = if self.besides.is_empty() {
            self.expected
        } else {
            mean_and_deviation(&self.besides)[0]
        };
        let left = duration(left as f64 * (self.seconds + besides));
        let (begun, runs) = (self.begun, self.runs);
        format!("run {begun} of {runs}: {label}, seed {seed}; about {left} left")
    }

    /// Takes up how long a run took from its beginning to its end.
    pub fn end(&mut self, took: f64) {
        self.besides.push((took - self.seconds).max(0.0));
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_from_what_runs_took_so_far() {
        let mut countdown = Countdown::new(3, 50.0, 10.0);
        let first = "run 1 of 3: Adam 0.001, seed 1; about 3 min left";
        assert_eq!(countdown.begin("Adam 0.001", 1), first);
        countdown.end(90.0);
        let second = "run 2 of 3: Adam 0.001, seed 2; about 3 min left";
        assert_eq!(countdown.begin("Adam 0.001", 2), second);
        countdown.end(70.0);
        let last = "run 3 of 3: NAG 0.01, seed 1; about 80 s left";
        assert_eq!(countdown.begin("NAG 0.01", 1), last);
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        assert_eq!(duration(59.6), "60 s");
        assert_eq!(duration(840.0), "14 min");
        assert_eq!(duration(9000.0), "2.5 h");
    }
}
