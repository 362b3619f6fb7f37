//! The settings of the preconditioner, and making it for a model.

use burn::config::Config;

use crate::engine::{ConfigFault, CurvatureConfig, Range};

/// The settings of [`Preconditioner`](super::Preconditioner).
///
/// Unlike those of [`Kfac`](super::Kfac) they want tuning, together with the learning rate of the
/// optimizer behind it: `lambda` first of all.
///
/// # Example
///
/// EKFAC with a bound on the step:
///
/// ```
/// use kfac::{DampingScheme, Eigenvalues, PreconditionerConfig};
///
/// let config = PreconditionerConfig::new()
///     .map_curvature(|curvature| {
///         curvature
///             .with_damping(DampingScheme::ExactTikhonov)
///             .with_eigenvalues(Eigenvalues::PerCase)
///     })
///     .with_norm_constraint(Some(1e-2));
/// assert!(config.validate().is_empty());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct PreconditionerConfig {
    /// The curvature: how it is estimated and inverted, and how often.
    ///
    /// Its calls are those of [`observe`](super::Preconditioner::observe), and periods are counted from the
    /// first. Default: [`CurvatureConfig::for_preconditioner`].
    #[config(default = "CurvatureConfig::for_preconditioner()")]
    pub curvature: CurvatureConfig,
    /// λ, the strength of the damping: `γ = √λ` (section 6.3).
    ///
    /// Above 0, default 1e-3. More bends the preconditioned gradient towards the gradient itself and
    /// makes it shorter.
    #[config(default = 1e-3)]
    pub lambda: f64,
    /// κ, the largest `Dᵀ g` of the preconditioned gradient `D = F̃⁻¹ g`; longer ones are scaled down
    /// to it.
    ///
    /// Above 0, default `None`: no bound. As `F̃ D = g`, `Dᵀ g` is the squared Fisher norm of `D`, the
    /// damping included. A plain step `δ = −α D` has the squared Fisher norm `α² Dᵀ g`, so κ is the
    /// bound on that divided by the squared learning rate. Less makes shorter steps.
    #[config(default = "None")]
    pub norm_constraint: Option<f64>,
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
    pub(super) fn own_faults(&self) -> Vec<ConfigFault> {
        let lambda = Range::positive("lambda", self.lambda);
        let kappa = self.norm_constraint;
        let kappa = kappa.map(|kappa| Range::positive("norm_constraint", kappa));
        let ranges = std::iter::once(lambda).chain(kappa);
        ranges.filter_map(Range::fault).collect()
    }

    /// `γ = √λ`.
    pub(super) fn gamma(&self) -> f64 {
        self.lambda.sqrt()
    }
}
