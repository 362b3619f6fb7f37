//! The settings, with the paper's as defaults.

use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::{
    averaging::IterateAveraging, curvature_settings::CurvatureSettings, ranges::Range,
    refresh::RefreshTiming,
};
use crate::{
    capture::{ScaleShiftBlock, WeightSharing},
    curvature::{Eigenvalues, FisherEstimate, InverseStructure},
    damping::{
        DampingScheme, DampingStart, GammaBounds, InverseKind, InverseMethod, PiNorm,
        gamma_candidates,
    },
};

/// The settings of [`Kfac`](super::Kfac).
///
/// Nothing has to be tuned: the defaults of [`new`](KfacConfig::new) train deep autoencoders and
/// classifiers alike. They are the paper's, but for how λ and γ start and when the inverse is worked out;
/// [`paper`](KfacConfig::paper) has those too.
///
/// # Example
///
/// ```
/// use kfac::{KfacConfig, Momentum};
///
/// let config = KfacConfig::new().with_l2(1e-4).with_initial_lambda(1.0);
/// assert_eq!(config.momentum, Momentum::Adaptive);
/// assert!(config.validate().is_empty());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct KfacConfig {
    /// Weight η of the penalty `½ η ‖θ‖²` on all trained parameters, biases included (section 2).
    ///
    /// At least 0, default 1e-5. More pulls the parameters to zero, and bounds γ from below.
    #[config(default = 1e-5)]
    pub l2: f64,
    /// First value of λ, the damping of the quadratic model (section 6.5).
    ///
    /// Above 0, default 150: rather too large than too small. With a fixed start less makes the first
    /// steps bolder; the calibrated start finds its own value below.
    #[config(default = 150.0)]
    pub initial_lambda: f64,
    /// How λ and γ start. Default: calibrated in the first iterations.
    #[config(default = "DampingStart::Calibrated")]
    pub damping_start: DampingStart,
    /// Factor of λ an iteration when the model is good, `ω₁ = lambda_decay^lambda_period` (6.5).
    ///
    /// In (0, 1), default 0.95. Nearer to one adapts λ more slowly.
    #[config(default = 0.95)]
    pub lambda_decay: f64,
    /// `T₁`, iterations between updates of λ (6.5). At least 1, default 5.
    ///
    /// Each update costs a forward pass of the batch.
    #[config(default = 5)]
    pub lambda_period: u64,
    /// Factor of γ an iteration in the search, `ω₂ = gamma_decay^gamma_period` (6.6).
    ///
    /// In (0, 1), default √0.95. Nearer to one makes the candidates closer.
    #[config(default = 0.974_679_434_480_896_3)]
    pub gamma_decay: f64,
    /// `T₂`, iterations between searches for γ (6.6). A multiple of `inverse_period`, default 20.
    #[config(default = 20)]
    pub gamma_period: u64,
    /// Lower bound of γ's candidates; `None` is √η, as in the released code.
    #[config(default = "None")]
    pub gamma_min: Option<f64>,
    /// Upper bound of γ's higher candidate; `None` is no bound, as in the paper's text.
    ///
    /// Default 1, as in the released code, where it also is a shortcut from the large first γ to 1.
    #[config(default = "Some(1.0)")]
    pub gamma_max: Option<f64>,
    /// `T₃`, iterations between refreshes of the inverse (section 8). At least 1, default 20.
    ///
    /// More saves time and steps with an older inverse.
    #[config(default = 20)]
    pub inverse_period: u64,
    /// The inverse is also refreshed in each of this many first iterations. Default 3.
    #[config(default = 3)]
    pub initial_refreshes: u64,
    /// When the work of a refresh is done. Default: ahead, an inverse an iteration.
    #[config(default = "RefreshTiming::Ahead")]
    pub refresh_timing: RefreshTiming,
    /// Largest weight of the past in the factors' running averages (section 5).
    ///
    /// In [0, 1), default 0.95. Nearer to one averages over more iterations.
    #[config(default = 0.95)]
    pub statistics_cap: f64,
    /// `τ₁`, the part of the batch that the factors are estimated from (section 5, 8).
    ///
    /// In (0, 1], default 1/8. More costs time and makes the factors less noisy.
    #[config(default = 0.125)]
    pub statistics_fraction: f64,
    /// `τ₂`, the part of the batch that the quadratic model uses (section 8).
    ///
    /// In (0, 1], default 1/4. Use 1 for small batches, and where the network can overfit them.
    #[config(default = 0.25)]
    pub model_fraction: f64,
    /// The quadratic model uses at least this many cases, or the whole batch. Default 250.
    #[config(default = 250)]
    pub model_min_cases: usize,
    /// Where the gradients of the Fisher come from (section 5). Default: sampled targets.
    #[config(default = "FisherEstimate::MonteCarlo")]
    pub fisher: FisherEstimate,
    /// The structure of the approximate inverse (section 4). Default: block-diagonal.
    #[config(default = "InverseStructure::BlockDiagonal")]
    pub structure: InverseStructure,
    /// How γ damps the blocks (6.3). Default: factored Tikhonov, balanced by the traces.
    #[config(default = "DampingScheme::FactoredTikhonov { pi: PiNorm::Trace }")]
    pub damping: DampingScheme,
    /// The eigenvalues of the blocks in their Kronecker eigenbases. Default: those of the product.
    ///
    /// Corrected ones (EKFAC) need exact Tikhonov damping and the block-diagonal structure.
    #[config(default = "Eigenvalues::Kronecker")]
    pub eigenvalues: Eigenvalues,
    /// How the positions at which a layer's weights are shared count. Default: each on its own.
    #[config(default = "WeightSharing::Expand")]
    pub weight_sharing: WeightSharing,
    /// The same for single layers, by their paths in the parameter table.
    #[config(default = "Vec::new()")]
    pub weight_sharing_of: Vec<(String, WeightSharing)>,
    /// The blocks of normalisations' scales and shifts. Default: diagonal.
    #[config(default = "ScaleShiftBlock::Diagonal")]
    pub scale_shift: ScaleShiftBlock,
    /// How the damped blocks are inverted. Default: the cheaper way.
    #[config(default = "InverseMethod::Automatic")]
    pub inverse_method: InverseMethod,
    /// Whether the last step is a second direction of the quadratic model (section 7). Default: yes.
    #[config(default = "Momentum::Adaptive")]
    pub momentum: Momentum,
    /// How the directional derivatives of the quadratic model are found (appendix C).
    #[config(default = "DirectionalDerivatives::Automatic")]
    pub derivatives: DirectionalDerivatives,
    /// The average of the iterates (section 8). Default: from iteration 200, ξ = 0.99.
    #[config(default = "IterateAveraging::default()")]
    pub averaging: IterateAveraging,
    /// What to do about trainable parameters that no layer on the tape covers. Default: refuse.
    #[config(default = "CoveragePolicy::Strict")]
    pub coverage: CoveragePolicy,
    /// At most this many cases are evaluated at once. At least 1, default 5000.
    ///
    /// Less needs less memory; the result changes by rounding only.
    #[config(default = 5000)]
    pub chunk_size: usize,
    /// Seed of the sampled targets. The same seed, device and thread count give the same bits.
    #[config(default = 0)]
    pub seed: u64,
}

/// The second direction of the quadratic model (section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Momentum {
    /// The proposal alone, rescaled (section 6.4).
    None,
    /// Proposal and last step, both coefficients from the quadratic model.
    #[default]
    Adaptive,
}

/// How the directional derivatives of the network's outputs are found (appendix C).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionalDerivatives {
    /// [`Network::jvp`](crate::Network::jvp) where the network has one, differences otherwise.
    #[default]
    Automatic,
    /// Central differences, also where the network has an exact method.
    CentralDifferences,
}

/// What to do about trainable parameters that no block covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoveragePolicy {
    /// Refuse to make the optimizer.
    #[default]
    Strict,
    /// Leave them untrained or, in front of another optimizer, with their gradients as they are; the
    /// parameter table names them.
    Report,
}

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// A setting is outside its range.
    #[error("{setting} is {value}, expected {expected}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// The search for γ needs fresh inverses.
    #[error(
        "gamma_period is {gamma_period}, expected a multiple of inverse_period {inverse_period}"
    )]
    GammaPeriod {
        /// `T₂`.
        gamma_period: u64,
        /// `T₃`.
        inverse_period: u64,
    },
    /// An inverse is made from fresh statistics.
    #[error(
        "inverse_period is {inverse_period}, expected a multiple of statistics_period \
         {statistics_period}"
    )]
    InversePeriod {
        /// Calls between refreshes of the inverse.
        inverse_period: u64,
        /// Calls between updates of the statistics.
        statistics_period: u64,
    },
    /// The bounds of γ exclude each other.
    #[error("gamma_min is {min}, expected at most gamma_max {max}")]
    GammaBounds {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
    },
    /// Exact damping is not a Kronecker product, so its factors have no inverse of their own.
    #[error("inverse_method is cholesky, expected eigen or automatic with exact Tikhonov damping")]
    CholeskyOfExactDamping,
    /// Exact damping is not a Kronecker product, so the layers of a chain have no regression in it.
    #[error("structure is block_tridiagonal, expected block_diagonal with exact Tikhonov damping")]
    TridiagonalOfExactDamping,
    /// Corrected eigenvalues are no product, so there are no factors to be damped.
    #[error("eigenvalues are corrected, expected exact Tikhonov damping and an eigen inverse")]
    CorrectionOfFactoredDamping,
    /// The square of a batch's mean gradient is a second moment only where gradients have mean zero.
    #[error("eigenvalues are batch_mean, expected fisher to be monte_carlo")]
    BatchMeanOfUnsampledTargets,
}

impl KfacConfig {
    /// The settings of the paper's experiments: λ and γ start as [`DampingStart::Fixed`] says, and the
    /// inverse is refreshed as [`RefreshTiming::AtOnce`] says.
    ///
    /// Deep autoencoders want the default `initial_lambda` of 150, classifiers about 1; an unsuitable
    /// value shows in the first dozens of iterations.
    pub fn paper() -> Self {
        Self::new()
            .with_damping_start(DampingStart::Fixed)
            .with_refresh_timing(RefreshTiming::AtOnce)
    }

    /// The settings of the authors' released code: the paper's, with the whole batch for the quadratic
    /// model.
    pub fn released_code() -> Self {
        Self::paper()
            .with_model_fraction(1.0)
            .with_model_min_cases(0)
    }

    /// All faults of the settings; empty for a good configuration.
    pub fn validate(&self) -> Vec<ConfigFault> {
        let ranges = self.ranges().into_iter().chain(self.fractions());
        let mut faults = ranges.filter_map(Range::fault).collect();
        self.check_gamma(&mut faults);
        self.curvature().check_combinations(&mut faults);
        faults
    }

    fn ranges(&self) -> Vec<Range> {
        vec![
            Range::at_least_zero("l2", self.l2),
            Range::positive("initial_lambda", self.initial_lambda),
            Range::average_cap("statistics_cap", self.statistics_cap),
            Range::decay("lambda_decay", self.lambda_decay),
            Range::decay("gamma_decay", self.gamma_decay),
            Range::count("lambda_period", self.lambda_period),
            Range::count("gamma_period", self.gamma_period),
            Range::count("inverse_period", self.inverse_period),
            Range::count("chunk_size", self.chunk_size as u64),
        ]
    }

    /// The same for the fractions of the batch and what is optional.
    fn fractions(&self) -> Vec<Range> {
        let fractions = vec![
            Range::fraction("statistics_fraction", self.statistics_fraction),
            Range::fraction("model_fraction", self.model_fraction),
        ];
        let min = self.gamma_min;
        let max = self.gamma_max;
        let cap = match self.averaging {
            IterateAveraging::From { cap, .. } => Some(cap),
            IterateAveraging::Off => None,
        };
        fractions
            .into_iter()
            .chain(min.map(|min| Range::at_least_zero("gamma_min", min)))
            .chain(max.map(|max| Range::positive("gamma_max", max)))
            .chain(cap.map(|cap| Range::average_cap("averaging.cap", cap)))
            .collect()
    }

    fn check_gamma(&self, faults: &mut Vec<ConfigFault>) {
        let Self {
            gamma_period,
            inverse_period,
            ..
        } = *self;
        if inverse_period >= 1 && !gamma_period.is_multiple_of(inverse_period) {
            faults.push(ConfigFault::GammaPeriod {
                gamma_period,
                inverse_period,
            });
        }
        let GammaBounds { min, max } = self.gamma_bounds();
        if min > max {
            faults.push(ConfigFault::GammaBounds { min, max });
        }
    }

    /// The bounds of γ's candidates, the open ones filled in.
    pub fn gamma_bounds(&self) -> GammaBounds {
        GammaBounds {
            min: self.gamma_min.unwrap_or_else(|| self.l2.sqrt()),
            max: self.gamma_max.unwrap_or(f64::INFINITY),
        }
    }

    pub(super) fn curvature(&self) -> CurvatureSettings<'_> {
        CurvatureSettings {
            fisher: self.fisher,
            inverse: InverseKind {
                structure: self.structure,
                damping: self.damping,
                method: self.inverse_method,
            },
            eigenvalues: self.eigenvalues,
            weight_sharing: self.weight_sharing,
            weight_sharing_of: &self.weight_sharing_of,
            scale_shift: self.scale_shift,
            coverage: self.coverage,
        }
    }

    /// γ where it follows λ: `√(λ + η)`.
    pub(crate) fn gamma_of(&self, lambda: f64) -> f64 {
        (lambda + self.l2).sqrt()
    }

    pub(crate) fn omega_lambda(&self) -> f64 {
        self.lambda_decay.powf(self.lambda_period as f64)
    }

    pub(crate) fn omega_gamma(&self) -> f64 {
        self.gamma_decay.powf(self.gamma_period as f64)
    }

    /// The candidates γ of a refresh in an iteration, counted from one: three where γ is searched.
    pub(crate) fn candidates(&self, iteration: u64, gamma: f64) -> Vec<f64> {
        if iteration.is_multiple_of(self.gamma_period) {
            gamma_candidates(gamma, self.omega_gamma(), self.gamma_bounds()).to_vec()
        } else {
            vec![gamma]
        }
    }

    /// Whether the inverse is refreshed in an iteration, counted from one.
    pub(crate) fn refreshes(&self, iteration: u64) -> bool {
        iteration <= self.initial_refreshes.max(1) || iteration.is_multiple_of(self.inverse_period)
    }
}
