//! The handwritten digits: CSV.
#![no_main]

use kfac_lab::readers::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Reader::Digits.read(bytes);
});
