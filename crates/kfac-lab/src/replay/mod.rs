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

use anyhow::{Context, Result};
use kfac::Kfac;

use crate::say::say;
use crate::{
    files::{self, WriteError},
    loss::Distribution,
    network::Mlp,
    verdict::Verdict,
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

/// Runs a case, writes the rows, prints the comparison.
///
/// # Errors
/// Where a file is missing or malformed, a step is refused, or the case expects values of which none
/// can be compared.
pub fn run(options: &ReplayOptions) -> Result<Verdict> {
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
    let comparison =
        Comparison::new(&case, &rows).with_context(|| options.case.display().to_string())?;
    let Some(comparison) = comparison else {
        say(format_args!(
            "{name}: {} iterations, nothing to compare: the case states no expected values",
            rows.len()
        ));
        return Ok(Verdict::NothingExpected);
    };
    say(format_args!("{name}: {comparison}"));
    Ok(comparison.verdict())
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
    optimizer: Kfac<Distribution>,
}
