//! The case format.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use kfac::{
    DampingScheme, FisherEstimate, InverseMethod, InverseStructure, KfacConfig, Momentum, PiNorm,
    Subsets,
};
use serde::Deserialize;

/// A trajectory case: settings, and optionally what to expect.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Version of the format.
    pub format: String,
    /// Name of the problem; its data lie in `<problem>_data.json` or `<problem>_X.npy`.
    pub problem: String,
    /// Name of the settings.
    pub config_name: Option<String>,
    /// The settings.
    pub config: CaseConfig,
    /// Number of iterations; stochastic cases have as many as `every_iteration` has.
    pub n_iter: Option<u64>,
    /// Expected values of deterministic cases, a column a field.
    pub scalars: Option<BTreeMap<String, Vec<serde_json::Value>>>,
    /// How far the expected values are from exact arithmetic.
    pub rounding: Option<Rounding>,
    /// Expected values of stochastic cases.
    pub every_10: Option<Every10>,
}

/// The rounding envelope of a case.
#[derive(Clone, Debug, Deserialize)]
pub struct Rounding {
    /// The last iteration up to which a comparison means anything.
    pub compare_until_k: u64,
    /// Largest relative difference between independent runs, a column a field.
    pub relative: BTreeMap<String, Vec<Option<f64>>>,
}

/// Every tenth iterate of a stochastic case.
#[derive(Clone, Debug, Deserialize)]
pub struct Every10 {
    /// The iterations.
    pub k: Vec<u64>,
    /// The objective on all training cases.
    pub h_train: Vec<f64>,
}

/// The settings of a case.
#[derive(Clone, Debug, Deserialize)]
#[expect(non_snake_case, reason = "the names of the format")]
pub struct CaseConfig {
    /// `block_diagonal` or `block_tridiagonal`.
    pub structure: String,
    /// Whether the last step is a second direction.
    pub momentum: bool,
    /// Eigendecomposition path instead of explicit inverses.
    pub use_eigs: bool,
    /// Iterations between updates of λ.
    pub T1: u64,
    /// Iterations between searches for γ.
    pub T2: u64,
    /// Iterations between refreshes of the inverse.
    pub T3: u64,
    /// First λ.
    pub lambda0: f64,
    /// Weight of the penalty.
    pub eta: f64,
    /// Lower bound of γ; `None` is √η.
    pub gamma_min: Option<f64>,
    /// Upper bound of γ; `None` is none.
    pub gamma_max: Option<f64>,
    /// Factor of λ an iteration.
    pub omega1_per_step: Option<f64>,
    /// Largest weight of the past in the factors.
    pub ema_cap: f64,
    /// Part of the batch for the factors.
    pub tau1: f64,
    /// Part of the batch for the quadratic model.
    pub tau2: f64,
    /// `training (empirical)` or sampled from the model.
    pub fisher_targets: String,
    /// Norm of π: `trace`, `fro` or `one`.
    pub pi: Option<String>,
    /// Cases evaluated at once.
    pub chunk_size: Option<usize>,
    /// The inverse is refreshed in each of these many first iterations.
    pub always_refresh_k_le: Option<u64>,
    /// Stochastic cases: the first batch.
    pub m_start: Option<usize>,
    /// Stochastic cases: the last batch.
    pub m_end: Option<usize>,
    /// Stochastic cases: the iteration whose batch is the last size.
    pub m_end_at: Option<u64>,
    /// Stochastic cases: the widths of the network.
    pub widths: Option<Vec<usize>>,
    /// Stochastic cases: the nonlinearities.
    pub activations: Option<Vec<String>>,
    /// Stochastic cases: the loss.
    pub loss: Option<String>,
    /// Stochastic cases: where the initial weights are.
    pub octave_seed: Option<u64>,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// Where the file cannot be read or is not of the format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    /// The case of a file's content.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let case: Self = serde_json::from_slice(text).context("not a trajectory case")?;
        if !case.format.starts_with("kfac-golden-") {
            bail!("expected format kfac-golden-1, found {}", case.format);
        }
        Ok(case)
    }

    /// How many iterations to run.
    pub fn iterations(&self) -> u64 {
        let last = self
            .every_10
            .as_ref()
            .and_then(|expected| expected.k.last().copied());
        self.n_iter.or(last).unwrap_or(60)
    }

    /// The optimizer's settings.
    ///
    /// # Errors
    /// Where the case asks for something that there is not.
    pub fn optimizer(&self) -> Result<KfacConfig> {
        let CaseConfig {
            structure,
            fisher_targets,
            pi,
            ..
        } = &self.config;
        let structure = match structure.as_str() {
            "block_diagonal" => InverseStructure::BlockDiagonal,
            "block_tridiagonal" => InverseStructure::BlockTridiagonal,
            other => bail!("structure {other}: expected block_diagonal or block_tridiagonal"),
        };
        let fisher = match fisher_targets.as_str() {
            targets if targets.contains("empirical") => FisherEstimate::Empirical,
            targets if targets.contains("sampled") => FisherEstimate::MonteCarlo,
            targets if targets.contains("exact") => FisherEstimate::Exact,
            other => bail!("fisher_targets {other}: expected empirical, sampled or exact"),
        };
        let pi = match pi.as_deref().unwrap_or("trace") {
            "trace" => PiNorm::Trace,
            "fro" | "frobenius" => PiNorm::Frobenius,
            "one" => PiNorm::One,
            other => bail!("pi {other}: expected trace, fro or one"),
        };
        let config = &self.config;
        let method = if config.use_eigs {
            InverseMethod::Eigen
        } else {
            InverseMethod::Cholesky
        };
        let decay = config.omega1_per_step.unwrap_or(0.95);
        Ok(KfacConfig::paper()
            .with_l2(config.eta)
            .with_initial_lambda(config.lambda0)
            .with_lambda_decay(decay)
            .with_gamma_decay(decay.sqrt())
            .with_lambda_period(config.T1)
            .with_gamma_period(config.T2)
            .with_gamma_min(config.gamma_min)
            .with_gamma_max(config.gamma_max)
            .with_model_fraction(Some(config.tau2))
            .with_model_min_cases(0)
            .with_momentum(if config.momentum {
                Momentum::Adaptive
            } else {
                Momentum::None
            })
            .map_curvature(|curvature| {
                curvature
                    .with_inverse_period(config.T3)
                    .with_initial_refreshes(config.always_refresh_k_le.unwrap_or(3))
                    .with_statistics_cap(config.ema_cap)
                    .with_statistics_fraction(Some(config.tau1))
                    .with_subsets(Subsets::First)
                    .with_fisher(fisher)
                    .with_damping(DampingScheme::FactoredTikhonov { pi })
                    .with_structure(structure)
                    .with_inverse_method(method)
                    .with_chunk_size(config.chunk_size.unwrap_or(5000))
            }))
    }
}
