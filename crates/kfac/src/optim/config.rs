//! The settings, with the paper's as defaults.

use std::sync::Arc;

use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::{averaging::IterateAveraging, refresh_pace::RefreshRule, schedule::BatchSchedule};
use crate::{
    damping::{
        Calibrated, FixedLambda, GammaBounds, LambdaRule, LevenbergMarquardt, gamma_candidates,
    },
    engine::{ConfigFault, CurvatureConfig, Range, RefreshTiming, Subsets},
};

/// The settings of [`Kfac`](super::Kfac).
///
/// Nothing has to be tuned: the defaults of [`new`](KfacConfig::new) train deep autoencoders and
/// classifiers alike. They are the paper's, but for how λ and γ start, when the inverse is worked out, and the sizes of
/// batches and subsets, which choose themselves; [`paper`](KfacConfig::paper) has those too.
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
    /// The curvature: how it is estimated and inverted, and how often.
    #[config(default = "CurvatureConfig::new()")]
    pub curvature: CurvatureConfig,
    /// Weight η of the penalty `½ η ‖θ‖²` on all trained parameters, biases included (section 2).
    ///
    /// At least 0, default 1e-5. More pulls the parameters to zero, and bounds γ from below.
    #[config(default = 1e-5)]
    pub l2: f64,
    /// First value of λ, the damping of the quadratic model (section 6.5).
    ///
    /// Above 0, default 150: rather too large than too small. Without a calibration less makes the first
    /// steps bolder; the calibration finds its own value below.
    #[config(default = 150.0)]
    pub initial_lambda: f64,
    /// How λ goes on, and γ with it at the start. Default: calibrated in the first iterations, then by
    /// the paper's rule.
    #[config(default = "LambdaAdaptation::Calibrated")]
    pub lambda_adaptation: LambdaAdaptation,
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
    /// Lower bound of λ. Above 0, default 1e-20: far below what any problem wants.
    #[config(default = 1e-20)]
    pub lambda_min: f64,
    /// Upper bound of λ. At least `lambda_min`, default 1e20: far above what any problem wants, and soon
    /// left again.
    #[config(default = 1e20)]
    pub lambda_max: f64,
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
    /// `τ₂`, the part of the batch that the quadratic model uses (section 8): in (0, 1]. The paper has 1/4.
    ///
    /// Default `None`: as many cases as are worth their time, by how much they differ; at least 100.
    #[config(default = "None")]
    pub model_fraction: Option<f64>,
    /// With a `model_fraction`, the quadratic model uses at least this many cases, or the whole batch. The running
    /// statistics of batch normalisations are moved by at least as many. Default 250.
    #[config(default = 250)]
    pub model_min_cases: usize,
    /// Whether the last step is a second direction of the quadratic model (section 7). Default: yes.
    #[config(default = "Momentum::Adaptive")]
    pub momentum: Momentum,
    /// How the directional derivatives of the quadratic model are found (appendix C).
    #[config(default = "DirectionalDerivatives::Automatic")]
    pub derivatives: DirectionalDerivatives,
    /// How many cases the batches have, for [`Kfac::batch_size`](super::Kfac::batch_size). Default: as many as the noise
    /// of the gradient is worth.
    #[config(default = "BatchSchedule::Automatic")]
    pub batches: BatchSchedule,
    /// When the inverse is refreshed (section 8). Default: as soon as it goes stale.
    #[config(default = "RefreshRule::WhenStale")]
    pub refresh: RefreshRule,
    /// The average of the iterates (section 8). Default: from iteration 200, ξ = 0.99.
    #[config(default = "IterateAveraging::default()")]
    pub averaging: IterateAveraging,
}

/// How λ, the damping of the quadratic model, goes on from step to step.
///
/// Rules of your own, and λ as a function of the iteration, are given to
/// [`Kfac::with_lambda_rule`](super::Kfac::with_lambda_rule).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum LambdaAdaptation {
    /// It falls fast while it is far too large, then follows the paper's rule.
    ///
    /// The paper starts from a large λ, and its rule (section 6.5) brings it down by a factor of 0.95 an
    /// iteration at most: a hundred iterations and more where the problem wants a small one. See
    /// [`Calibrated`].
    #[default]
    Calibrated,
    /// The paper's rule from the first iteration; see [`LevenbergMarquardt`].
    LevenbergMarquardt,
    /// It stays; see [`FixedLambda`].
    Fixed,
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
    /// [`Network::jvp`](crate::Network::jvp) where the network has one, one-sided differences otherwise.
    #[default]
    Automatic,
    /// One-sided differences, also where the network has an exact method.
    OneSidedDifferences,
    /// Central differences, also where the network has an exact method: a tenth of the error of one-sided ones in
    /// `f32`, for more than twice their cost.
    CentralDifferences,
}

impl KfacConfig {
    /// The settings of the paper's experiments: λ follows [`LambdaAdaptation::LevenbergMarquardt`] from
    /// the start, the inverse is refreshed periodically and as [`RefreshTiming::AtOnce`] says, and batches and subsets have
    /// the paper's sizes.
    ///
    /// Deep autoencoders want the default `initial_lambda` of 150, classifiers about 1; an unsuitable
    /// value shows in the first dozens of iterations.
    pub fn paper() -> Self {
        Self::new()
            .with_lambda_adaptation(LambdaAdaptation::LevenbergMarquardt)
            .with_batches(BatchSchedule::PAPER)
            .with_refresh(RefreshRule::Periodic)
            .with_model_fraction(Some(0.25))
            .map_curvature(|curvature| {
                curvature
                    .with_refresh_timing(RefreshTiming::AtOnce)
                    .with_statistics_fraction(Some(0.125))
            })
    }

    /// The settings of the authors' released code: the paper's, with the whole batch for the quadratic
    /// model.
    pub fn released_code() -> Self {
        Self::paper()
            .with_model_fraction(Some(1.0))
            .with_model_min_cases(0)
            .map_curvature(|curvature| curvature.with_subsets(Subsets::First))
    }

    /// The same settings with others of the curvature.
    ///
    /// ```
    /// use kfac::{InverseStructure, KfacConfig};
    ///
    /// let config = KfacConfig::new()
    ///     .map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    /// # assert!(config.validate().is_empty());
    /// ```
    #[must_use]
    pub fn map_curvature(self, f: impl FnOnce(CurvatureConfig) -> CurvatureConfig) -> Self {
        let curvature = f(self.curvature.clone());
        self.with_curvature(curvature)
    }

    /// All faults of the settings; empty for a good configuration.
    pub fn validate(&self) -> Vec<ConfigFault> {
        let mut faults = self.own_faults();
        let curvature = &self.curvature;
        curvature.check(&*curvature.damping.rule(), &mut faults);
        faults
    }

    /// The faults of the settings outside the curvature's.
    pub(super) fn own_faults(&self) -> Vec<ConfigFault> {
        let ranges = self.ranges().into_iter().chain(self.fractions());
        let mut faults: Vec<_> = ranges.filter_map(Range::fault).collect();
        self.check_gamma(&mut faults);
        if self.lambda_min > self.lambda_max {
            faults.push(ConfigFault::LambdaBounds {
                min: self.lambda_min,
                max: self.lambda_max,
            });
        }
        faults
    }

    fn ranges(&self) -> Vec<Range> {
        vec![
            Range::at_least_zero("l2", self.l2),
            Range::positive("initial_lambda", self.initial_lambda),
            Range::decay("lambda_decay", self.lambda_decay),
            Range::positive("lambda_min", self.lambda_min),
            Range::positive("lambda_max", self.lambda_max),
            Range::decay("gamma_decay", self.gamma_decay),
            Range::count("lambda_period", self.lambda_period),
            Range::count("gamma_period", self.gamma_period),
        ]
    }

    /// The same for the fractions of the batch and what is optional.
    fn fractions(&self) -> Vec<Range> {
        let fraction = self.model_fraction;
        let fraction = fraction.map(|part| Range::fraction("model_fraction", part));
        let min = self.gamma_min;
        let max = self.gamma_max;
        let averaging = match self.averaging {
            IterateAveraging::From { start, cap } => vec![
                Range::count("averaging.start", start),
                Range::average_cap("averaging.cap", cap),
            ],
            IterateAveraging::Off => Vec::new(),
        };
        fraction
            .into_iter()
            .chain(min.map(|min| Range::at_least_zero("gamma_min", min)))
            .chain(max.map(|max| Range::positive("gamma_max", max)))
            .chain(averaging)
            .collect()
    }

    fn check_gamma(&self, faults: &mut Vec<ConfigFault>) {
        let gamma_period = self.gamma_period;
        let inverse_period = self.curvature.inverse_period;
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

    /// γ where it follows λ: `√(λ + η)`.
    pub(super) fn gamma_of(&self, lambda: f64) -> f64 {
        (lambda + self.l2).sqrt()
    }

    /// The rule for λ.
    pub(super) fn lambda_rule(&self) -> Arc<dyn LambdaRule> {
        let rule = LevenbergMarquardt {
            initial: self.initial_lambda,
            omega: self.lambda_decay.powf(self.lambda_period as f64),
            period: self.lambda_period,
            bounds: [self.lambda_min, self.lambda_max],
        };
        match self.lambda_adaptation {
            LambdaAdaptation::Calibrated => Arc::new(Calibrated(rule)),
            LambdaAdaptation::LevenbergMarquardt => Arc::new(rule),
            LambdaAdaptation::Fixed => Arc::new(FixedLambda(self.initial_lambda)),
        }
    }

    fn omega_gamma(&self) -> f64 {
        self.gamma_decay.powf(self.gamma_period as f64)
    }

    /// The candidates γ of a refresh in an iteration, counted from one, after one in another: three where γ is searched, in
    /// the first refresh of each period.
    pub(super) fn candidates(&self, iteration: u64, last: u64, gamma: f64) -> Vec<f64> {
        if iteration / self.gamma_period > last / self.gamma_period {
            gamma_candidates(gamma, self.omega_gamma(), self.gamma_bounds()).to_vec()
        } else {
            vec![gamma]
        }
    }
}
