//! Thousands of steps through every kind of trouble: no panic, nothing that is not finite, no growth of memory, and
//! nothing lost where the process is killed.

mod child;
mod killed;
mod problem;
mod settings;
mod trouble;

use std::time::{Duration, Instant};

use problem::{Count, Problem, STEPS};

/// Seconds of each soak; the environment variable `KFAC_SOAK_SECONDS` has another number.
const SECONDS: u64 = 10;

fn soak_time() -> Duration {
    let seconds = std::env::var("KFAC_SOAK_SECONDS");
    Duration::from_secs(seconds.map_or(SECONDS, |text| text.parse().unwrap()))
}

/// MiB that the process holds, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[test]
fn no_batch_and_no_setting_breaks_a_run() {
    // In a process of its own, as what is held is that of all tests.
    assert!(child::started("steps", "").wait().unwrap().success());
}

/// Not a test: the process of the one above.
#[test]
#[ignore = "started by the soak"]
fn steps() {
    if child::work().is_none() {
        return;
    }
    let start = Instant::now();
    let mut count = Count::default();
    let mut held = Vec::new();
    let mut problems = 0;
    while start.elapsed() < soak_time() {
        let mut problem = Problem::new(problems);
        while problem.step < STEPS {
            problem.take_step(&mut count);
        }
        problems += 1;
        if problems % 16 == 0 {
            held.extend(resident());
        }
    }
    let [first, last] = [held.first(), held.last()];
    eprintln!(
        "{problems} problems in {:.0} s: {count:?}; MiB held after 16 problems and at the end: {first:?}, {last:?}",
        start.elapsed().as_secs_f64()
    );
    assert!(count.taken > 5 * STEPS, "{count:?}");
    // What the allocator keeps once each kind has been seen is all that there is.
    if let (Some(warm), Some(last)) = (held.get(held.len() / 4), held.last())
        && held.len() >= 8
    {
        assert!(last - warm < 16.0, "from {warm} to {last} MiB");
    }
}
