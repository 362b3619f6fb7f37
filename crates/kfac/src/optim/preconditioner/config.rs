//! The settings of the preconditioner.

use burn::config::Config;

use crate::engine::{ConfigFault, CurvatureConfig, Range};

/// The settings of [`Preconditioner`](super::Preconditioner).
///
/// The defaults train: what is left to choose is the learning rate of the optimizer behind it, and its schedule.
///
/// # Example
///
/// EKFAC with a tighter bound on the step:
///
/// ```
/// use kfac::{DampingScheme, Eigenvalues, PreconditionerConfig};
///
/// let config = PreconditionerConfig::new()
///     .map_curvature(|curvature| {
///         curvature
///             .with_damping(DampingScheme::ExactTikhonov)
///             .with_eigenvalues(Eigenvalues::PerCase)
///             .with_inverse_period(100)
///     })
///     .with_kl_clip(Some(1e-4));
/// assert!(config.validate().is_empty());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct PreconditionerConfig {
    /// The curvature: how it is estimated and inverted, and how often.
    ///
    /// Its calls are observations, and periods are counted from the first. Default:
    /// [`CurvatureConfig::for_preconditioner`].
    #[config(default = "CurvatureConfig::for_preconditioner()")]
    pub curvature: CurvatureConfig,
    /// λ, the strength of the damping: `γ = √λ` (section 6.3).
    ///
    /// Above 0, default 3e-3. More bends the preconditioned gradient towards the gradient itself and
    /// makes it shorter.
    #[config(default = 3e-3)]
    pub lambda: f64,
    /// κ of the KL clip: the most that a plain step of the largest learning rate may have as its squared Fisher
    /// norm; that of a smaller rate may have as much less.
    ///
    /// Above 0, default 3e-4; `None` is no bound. As `F̃ D = g` for the natural gradient `D`, the step
    /// `−α D` has the squared Fisher norm `α² Dᵀ g`, the damping included: twice the Kullback-Leibler divergence
    /// between the predictions before and after it, to second order. Less makes shorter steps. The default is
    /// meant for a momentum of 0.9, which makes steps ten times as long; an optimizer without it can take a
    /// hundred times as much.
    #[config(default = "Some(3e-4)")]
    pub kl_clip: Option<f64>,
    /// The cases of a batch that κ is for: larger batches may have as much more, as there is less noise in their
    /// gradients, and smaller ones less.
    ///
    /// At least 1, default 128; `None` is the same κ for every batch. What counts is the last batch that statistics were
    /// taken from, with all its accumulated parts.
    #[config(default = "Some(128)")]
    pub kl_clip_cases: Option<usize>,
}

impl PreconditionerConfig {
    /// The same settings with others of the curvature.
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
    pub(in crate::optim) fn own_faults(&self) -> Vec<ConfigFault> {
        let lambda = Range::positive("lambda", self.lambda);
        let kappa = self.kl_clip;
        let kappa = kappa.map(|kappa| Range::positive("kl_clip", kappa));
        let cases = self.kl_clip_cases;
        let cases = cases.map(|cases| Range::count("kl_clip_cases", cases as u64));
        let ranges = std::iter::once(lambda).chain(kappa).chain(cases);
        ranges.filter_map(Range::fault).collect()
    }
}
