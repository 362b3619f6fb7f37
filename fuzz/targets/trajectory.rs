//! Recorded trajectories: JSON.
#![no_main]

use kfac_lab::readers::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Reader::Trajectory.read(bytes);
});
