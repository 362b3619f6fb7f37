//! Misuse, generated: whatever is called with whatever data in whatever order, what comes back is a result
//! or a typed error, and what is refused leaves no trace.
//!
//! A nightly run is longer, and says where it ended:
//!
//! ```text
//! KFAC_MISUSE_SECONDS=1800 KFAC_MISUSE_SEED=1000000 cargo test --release -p kfac --test suite misuse -- --nocapture
//! ```

mod draw;
mod parts;
mod session;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use draw::Draw;
use session::session;

/// Calls of a run that is not timed.
const CALLS: usize = 20_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_misuse_panics() {
    let time = setting("KFAC_MISUSE_SECONDS").map(Duration::from_secs);
    let first = setting("KFAC_MISUSE_SEED").unwrap_or(0);
    let (start, mut calls, mut refused) = (Instant::now(), 0, 0);
    let mut panicked = Vec::new();
    let mut seed = first;
    loop {
        let done = match time {
            Some(time) => start.elapsed() >= time,
            None => calls >= CALLS,
        };
        if done || panicked.len() == 10 {
            break;
        }
        let mut log = Vec::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| session(&mut Draw::new(seed), &mut log)));
        if outcome.is_err() {
            println!("seed {seed}: {log:#?}");
            panicked.push(seed);
        }
        calls += log.len();
        refused += log.iter().filter(|call| call.refused).count();
        seed += 1;
    }
    println!(
        "seeds {first} to {}: {calls} calls, {refused} of them refused",
        seed - 1
    );
    assert!(panicked.is_empty(), "sessions that panicked: {panicked:?}");
    assert!(
        refused > calls / 10 && refused < calls,
        "{refused} of {calls} refused"
    );
}
