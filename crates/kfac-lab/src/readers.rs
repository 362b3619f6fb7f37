//! Every reader of files, from the bytes of one: what is damaged on purpose in the tests, and by the fuzzers in
//! `fuzz/`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use burn::tensor::{Bytes, Device};
use kfac::record::OptimizerRecord;

use crate::{curvature, data, npy, replay, train::RunPoint};

/// A form of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Images of Fashion-MNIST's form, of so many cases: IDX, plain or packed.
    Images(usize),
    /// The handwritten digits: CSV.
    Digits,
    /// A photograph: PGM.
    Photograph,
    /// NumPy.
    Npy,
    /// A recorded trajectory: JSON.
    Trajectory,
    /// A small network with its curvature: JSON.
    Layer,
    /// The state of an optimizer: a burnpack.
    Optimizer,
    /// The state of a run: JSON.
    Run,
}

impl Reader {
    /// That of its fuzzer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Digits => "digits",
            Self::Photograph => "photograph",
            Self::Npy => "npy",
            Self::Trajectory => "trajectory",
            Self::Layer => "layer",
            Self::Optimizer => "optimizer",
            Self::Run => "run",
        }
    }

    /// Reads a file's content as the command does.
    ///
    /// # Errors
    /// Where it is not of the form.
    pub fn read(self, bytes: &[u8]) -> Result<()> {
        let path = Path::new("file");
        match self {
            Self::Images(cases) => Ok(data::check_images(bytes, cases).map(drop)?),
            Self::Digits => Ok(data::check_digits(bytes, path).map(drop)?),
            Self::Photograph => Ok(data::check_photograph(bytes, PathBuf::from(path)).map(drop)?),
            Self::Npy => npy::parse(bytes).map(drop),
            Self::Trajectory => replay::Case::parse(bytes).map(drop),
            Self::Layer => {
                let case = curvature::Case::parse(bytes)?;
                curvature::check(&case)
            }
            Self::Optimizer => {
                let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()))?;
                Ok(record.inspect(&Device::flex()).map(drop)?)
            }
            Self::Run => serde_json::from_slice::<RunPoint>(bytes)
                .map(drop)
                .map_err(|error| anyhow!("{error}")),
        }
    }
}
