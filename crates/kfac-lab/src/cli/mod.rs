//! The command line.

mod compare;
mod options;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::replay;

/// Train, compare and verify K-FAC, the second-order optimizer of Martens and Grosse (2015).
#[derive(Debug, Parser)]
#[command(
    name = "kfac",
    version,
    after_help = "Start with `kfac train`: it trains a deep autoencoder on generated curves, shows \
                  progress, and leaves pictures and every number of every step in a run folder."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network and write a run folder
    Train(Box<train::TrainArguments>),
    /// Train with K-FAC and its rivals for the same time, and plot them together
    Compare(Box<compare::CompareArguments>),
    /// Repeat a recorded trajectory and compare every step
    Replay(ReplayArguments),
}

/// A trajectory case; its data must lie beside it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The case is a JSON file with the settings of a run and, optionally, the expected \
                  numbers of each iteration. The exit status is 1 where a number deviates by more \
                  than its tolerance."
)]
struct ReplayArguments {
    /// The case file
    case: std::path::PathBuf,
    /// Write one JSON line a step to this file
    #[arg(long, value_name = "FILE")]
    out: Option<std::path::PathBuf>,
    /// Seed of batches and sampled targets, where the case has any
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
///
/// The exit status is 0 where it did what was asked, 1 where it failed, 2 where the command line
/// is wrong.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<bool> {
    match command {
        Command::Train(arguments) => arguments.run().map(|()| true),
        Command::Compare(arguments) => arguments.run().map(|()| true),
        Command::Replay(ReplayArguments { case, out, seed }) => {
            replay::run(&replay::ReplayOptions { case, out, seed })
        }
    }
}
