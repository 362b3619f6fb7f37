//! The command line.

mod bench;
mod compare;
mod contest;
mod export;
mod inspect;
mod optimizer;
mod options;
mod resume;
mod sweep;
mod train;
mod values;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    curvature, figures, replay, say::say, tables::KnownNetwork, train::output_folder,
    verdict::Verdict,
};
use kfac::{ScaleShiftBlock, WeightSharing};

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
    /// Go on with a run that was interrupted, or make it longer
    Resume(resume::ResumeArguments),
    /// Tell what the newest checkpoint of a run holds
    Inspect(inspect::InspectArguments),
    /// Train with K-FAC and its rivals for the same time, and plot them together
    Compare(Box<compare::CompareArguments>),
    /// Measure what a step costs, phase by phase
    Bench(Box<bench::BenchArguments>),
    /// Write a problem to files for other programs
    ExportProblem(Box<export::ExportArguments>),
    /// Repeat a recorded trajectory and compare every step
    Replay(ReplayArguments),
    /// Compute the curvature of a small network given in a file
    Curvature(CurvatureArguments),
    /// Show what K-FAC does with each parameter of a network
    Table(TableArguments),
    /// Show how good the approximations of the Fisher are, as pictures and numbers
    Figures(FiguresArguments),
}

/// Compare the exact Fisher of a small network with its approximations and their inverses.
///
/// A tanh network 256-20-20-20-20-20-10 is trained part of the way on digits of 16 x 16 pixels; the
/// matrices are those of its four middle layers.
#[derive(Debug, clap::Args)]
struct FiguresArguments {
    /// The digits
    #[arg(value_enum, default_value_t = figures::DigitSource::Digits)]
    digits: figures::DigitSource,
    /// Damping of the factors of the approximations, and of F-tilde before it is inverted
    #[arg(long, default_value_t = 0.01, value_parser = values::positive)]
    gamma: f64,
    /// Seed of the initial weights and sampled targets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of the fetched data sets
    #[arg(long, value_name = "FOLDER", default_value = "data/cache")]
    data: PathBuf,
    /// Folder for the pictures and numbers [default: runs/figures-N]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl FiguresArguments {
    fn run(&self) -> Result<()> {
        let out = output_folder(self.out.as_deref(), "figures")?;
        let options = figures::FiguresOptions {
            digits: self.digits,
            data: self.data.clone(),
            out,
            gamma: self.gamma,
            seed: self.seed,
        };
        figures::run(&options)?;
        say(format_args!(
            "pictures and numbers: {}",
            options.out.display()
        ));
        Ok(())
    }
}

/// A trajectory case; its data must lie beside it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The case is a JSON file with the settings of a run and, optionally, the expected \
                  numbers of each iteration (scalars, or every_10 for random batches). The exit \
                  status is 1 where a number deviates by more than its tolerance, or where the case \
                  expects numbers of which none can be compared. A case that expects none is run, \
                  and ends with \"nothing to compare\" and exit status 0."
)]
struct ReplayArguments {
    /// The case file
    case: PathBuf,
    /// Write one JSON line a step to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seed of batches and sampled targets, where the case has any
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A layer case: a small network with its data and, optionally, the curvature expected of it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The case is a JSON file. The exit status is 1 where a member that it expects \
                  differs by more than 1e-8, relative to the norm of the member, or where it \
                  expects members of which none can be compared. A case without \"expected\" ends \
                  with \"nothing to compare\" and exit status 0."
)]
struct CurvatureArguments {
    /// The case file
    case: PathBuf,
    /// Write objective, gradient, blocks and solutions to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Print each parameter of a network with its curvature block and the memory that takes.
#[derive(Debug, clap::Args)]
struct TableArguments {
    /// The network
    #[arg(value_enum)]
    network: KnownNetwork,
    /// Positions at which weights are shared count together instead of each on its own
    #[arg(long)]
    reduce: bool,
    /// All scales and shifts of a normalisation in one block instead of a diagonal
    #[arg(long)]
    full_scale_shift: bool,
}

impl TableArguments {
    fn run(&self) {
        let sharing = if self.reduce {
            WeightSharing::Reduce
        } else {
            WeightSharing::Expand
        };
        let scale_shift = if self.full_scale_shift {
            ScaleShiftBlock::Full
        } else {
            ScaleShiftBlock::Diagonal
        };
        say(self.network.table(sharing, scale_shift));
    }
}

/// The exit status of what was interrupted, as that of a shell where Ctrl-C ends a command.
const INTERRUPTED: u8 = 130;

/// Runs the command.
///
/// The exit status is 0 where it did what was asked, 1 where it failed, 2 where the command line
/// is wrong, 130 where it was interrupted.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if let Some(interrupted) = error.downcast_ref::<train::Interrupted>() {
                eprintln!("{interrupted}");
                return ExitCode::from(INTERRUPTED);
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<bool> {
    match command {
        Command::Train(arguments) => arguments.run().map(|()| true),
        Command::Resume(arguments) => arguments.run().map(|()| true),
        Command::Inspect(arguments) => arguments.run().map(|()| true),
        Command::Compare(arguments) => arguments.run().map(|()| true),
        Command::Bench(arguments) => arguments.run().map(|()| true),
        Command::ExportProblem(arguments) => arguments.run().map(|()| true),
        Command::Figures(arguments) => arguments.run().map(|()| true),
        Command::Table(arguments) => {
            arguments.run();
            Ok(true)
        }
        Command::Curvature(CurvatureArguments { case, out }) => {
            curvature::run(&curvature::CurvatureOptions { case, out })
                .map(|verdict| verdict != Verdict::Deviates)
        }
        Command::Replay(ReplayArguments { case, out, seed }) => {
            replay::run(&replay::ReplayOptions { case, out, seed })
                .map(|verdict| verdict != Verdict::Deviates)
        }
    }
}
