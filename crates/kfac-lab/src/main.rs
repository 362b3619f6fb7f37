//! The `kfac` command.
use kfac_lab::replay::*;
fn main() {
    for a in std::env::args().skip(1) {
        match run(&ReplayOptions { case: a.into(), out: None, seed: 1 }) { Ok(b) => println!("{b}"), Err(e) => println!("{e:?}") }
    }
}
