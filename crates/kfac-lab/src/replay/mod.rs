//! `kfac replay`: repeats a recorded trajectory with the optimizer that users run.
//!
//! A case file holds settings and, optionally, the expected numbers of every iteration; the data
//! and initial weights lie beside it. Everything runs in double precision.

mod case;
mod compare;
mod problem;
mod trajectory;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use kfac::Kfac;

use crate::{
    files::{self, WriteError},
    loss::Loss,
    network::Mlp,
};
pub use case::Case;
pub use compare::{Comparison, FieldDeviation};
use problem::Problem;
pub use trajectory::Row;
use trajectory::replay;

/// A replay to be run.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// The case file.
    pub case: PathBuf,
    /// Where to write one JSON line a step.
    pub out: Option<PathBuf>,
    /// Seed of batches and sampled targets, where the case has any.
    pub seed: u64,
}

/// Runs a case, writes the rows, prints the comparison; true where nothing exceeds its tolerance.
///
/// # Errors
/// Where a file is missing or malformed, or a step is refused.
pub fn run(options: &ReplayOptions) -> Result<bool> {
    let case = Case::read(&options.case)?;
    let problem = Problem::read(&case, &options.case)?;
    let rows = replay(&case, &problem, options.seed)?;
    if let Some(out) = &options.out {
        write_rows(out, &rows)?;
    }
    let name = format!(
        "{} {}",
        case.problem,
        case.config_name.as_deref().unwrap_or("")
    );
    let Some(comparison) = Comparison::new(&case, &rows) else {
        println!(
            "{name}: {} iterations, no expected values in the case",
            rows.len()
        );
        return Ok(true);
    };
    println!("{name}: {comparison}");
    Ok(comparison.passed())
}

fn write_rows(path: &Path, rows: &[Row]) -> Result<(), WriteError> {
    files::write(path, |file| {
        rows.iter().try_for_each(|row| {
            serde_json::to_writer(&mut *file, row)?;
            writeln!(file)
        })
    })
}

/// A network and the optimizer that trains it.
struct Trainee {
    model: Mlp,
    optimizer: Kfac<Loss>,
}
