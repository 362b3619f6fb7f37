//! `kfac figures`: the evidence for the approximations (sections 3 and 4), on the paper's example.
//!
//! A tanh network 256-20-20-20-20-20-10 is trained part of the way on digits of 16 × 16 pixels. For
//! its four middle layers (1,680 parameters) the exact Fisher `F` is formed densely, every target
//! weighted with its probability, and compared with `F̃`, `F̌` and `F̂`.

mod approximations;
mod claims;
mod heat_map;
mod moments;
mod network;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

pub use claims::{Bands, CLAIMS, Claim, Evidence};
pub use network::DigitSource;

use crate::say::say;
use crate::{
    files::{self, WriteError},
    version::{VERSIONS, Versions},
};
use approximations::Approximations;
use heat_map::write_heat_maps;
use moments::Moments;
use network::partly_trained;

/// Figures to be made.
#[derive(Clone, Debug)]
pub struct FiguresOptions {
    /// The digits.
    pub digits: DigitSource,
    /// Folder of the fetched data sets.
    pub data: PathBuf,
    /// Folder for the pictures and numbers.
    pub out: PathBuf,
    /// Damping γ of the factors.
    pub gamma: f64,
    /// Seed of the initial weights.
    pub seed: u64,
}

/// Everything that is written to `figures.json`.
#[derive(Clone, Debug, Serialize)]
struct Numbers {
    version: Versions,
    digits: DigitSource,
    seed: u64,
    /// Cases that the matrices are means over.
    cases: usize,
    /// Training iterations, and the part of the cases that is then misclassified.
    iterations: u64,
    training_error: f64,
    gamma: f64,
    evidence: Evidence,
    claims: [Claim; CLAIMS],
}

/// Makes the figures; returns the claims with what the numbers say of them.
///
/// # Errors
/// Where the data set has not been fetched, training fails, or a file cannot be written.
pub fn run(options: &FiguresOptions) -> Result<[Claim; CLAIMS]> {
    let trained = partly_trained(options)?;
    let moments = Moments::of_middle_layers(&trained.weights, &trained.inputs);
    let matrices = Approximations::new(&moments, options.gamma)?;
    let evidence = Evidence::new(&moments, &matrices);
    write_pictures(&matrices, &options.out)?;
    let numbers = Numbers {
        version: VERSIONS,
        digits: options.digits,
        seed: options.seed,
        cases: moments.cases(),
        iterations: trained.iterations,
        training_error: trained.error,
        gamma: options.gamma,
        claims: evidence.claims(),
        evidence,
    };
    files::write_json(&options.out.join("figures.json"), &numbers)?;
    print(&numbers);
    Ok(numbers.claims)
}

/// The pictures; all panels of one have the same scale.
fn write_pictures(matrices: &Approximations, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |name: &str, panels: &[&faer::Mat<f64>]| -> Result<(), WriteError> {
        write_heat_maps(&out.join(name), panels, matrices.layer_size)
    };
    let error = &matrices.exact - &matrices.factored;
    write("fisher.png", &[&matrices.exact, &matrices.factored, &error])?;
    let (damped, inverse) = (&matrices.damped, &matrices.inverse);
    let approximations = [damped, &matrices.diagonal, &matrices.tridiagonal];
    write("approximations.png", &approximations)?;
    let [diagonal, tridiagonal] = [&matrices.diagonal_inverse, &matrices.tridiagonal_inverse];
    write("inverses.png", &[inverse, diagonal, tridiagonal])?;
    Ok(())
}

fn print(numbers: &Numbers) {
    say(format_args!(
        "{} cases, {:.1} % misclassified after {} iterations, γ = {}",
        numbers.cases,
        100.0 * numbers.training_error,
        numbers.iterations,
        numbers.gamma
    ));
    say(format_args!("{}", numbers.evidence));
    for claim in &numbers.claims {
        let verdict = if claim.holds {
            "supported"
        } else {
            "CONTRADICTED"
        };
        say(format_args!(
            "{verdict:12} {}: {}",
            claim.text, claim.numbers
        ));
    }
}
