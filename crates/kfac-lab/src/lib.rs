//! What the `kfac` command trains, and how: data, networks, tasks, the training loop, records,
//! plots, and the replay of recorded trajectories.

pub mod bench;
pub mod charts;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod curvature;
pub mod data;
pub mod export;
pub mod figures;
pub mod files;
pub mod initialise;
pub mod inspect;
pub mod loss;
mod matrix;
mod median;
pub mod memory;
pub mod methods;
pub mod network;
pub mod npy;
pub mod plot;
pub mod precision;
pub mod readers;
pub mod replay;
mod say;
pub mod tables;
pub mod task;
mod text_table;
pub mod train;
pub mod verdict;
pub mod version;

/// Compiles the examples of the repository's README, which the library's package does not have.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
