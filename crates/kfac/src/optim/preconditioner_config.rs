//! The settings of the preconditioner, and making it for a model.

use burn::config::Config;

use super::{
    config::{ConfigFault, CoveragePolicy},
    curvature_settings::CurvatureSettings,
    preconditioner::{Preconditioner, State},
    ranges::Range,
};
use crate::{
    capture::{ScaleShiftBlock, WeightSharing},
    curvature::{Eigenvalues, FisherEstimate, InverseStructure},
    damping::{DampingScheme, InverseKind, InverseMethod, PiNorm},
    error::InitError,
    loss::PredictiveDistribution,
    network::Network,
};

/// The settings of [`Preconditioner`].
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
///     .with_damping(DampingScheme::ExactTikhonov)
///     .with_eigenvalues(Eigenvalues::PerCase)
///     .with_norm_constraint(Some(1e-2));
/// assert!(config.validate().is_empty());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct PreconditionerConfig {
    /// λ, the strength of the damping: `γ = √λ` (section 6.3).
    ///
    /// Above 0, default 1e-3. More bends the preconditioned gradient towards the gradient itself and
    /// makes it shorter.
    #[config(default = 1e-3)]
    pub lambda: f64,
    /// How γ damps the blocks (6.3). Default: factored Tikhonov, balanced by the traces.
    #[config(default = "DampingScheme::FactoredTikhonov { pi: PiNorm::Trace }")]
    pub damping: DampingScheme,
    /// Calls of [`observe`](Preconditioner::observe) between updates of the statistics.
    ///
    /// At least 1, default 1: in the first call and in each so many after it. More saves a forward
    /// and backward pass in the calls between.
    #[config(default = 1)]
    pub statistics_period: u64,
    /// `T₃`, calls between refreshes of the inverse (section 8).
    ///
    /// A multiple of `statistics_period`, default 10: in the first call and in each so many after it.
    /// More saves time and leaves an older inverse in use.
    #[config(default = 10)]
    pub inverse_period: u64,
    /// Largest weight of the past in the factors' running averages (section 5), and the weight of the
    /// past in corrected eigenvalues.
    ///
    /// In [0, 1), default 0.95. Nearer to one averages over more calls.
    #[config(default = 0.95)]
    pub statistics_cap: f64,
    /// κ, the largest `Dᵀ g` of the preconditioned gradient `D = F̃⁻¹ g`; longer ones are scaled down
    /// to it.
    ///
    /// Above 0, default `None`: no bound. As `F̃ D = g`, `Dᵀ g` is the squared Fisher norm of `D`, the
    /// damping included. A plain step `δ = −α D` has the squared Fisher norm `α² Dᵀ g`, so κ is the
    /// bound on that divided by the squared learning rate. Less makes shorter steps.
    #[config(default = "None")]
    pub norm_constraint: Option<f64>,
    /// Where the gradients of the Fisher come from (section 5). Default: sampled targets.
    #[config(default = "FisherEstimate::MonteCarlo")]
    pub fisher: FisherEstimate,
    /// The structure of the approximate inverse (section 4). Default: block-diagonal.
    #[config(default = "InverseStructure::BlockDiagonal")]
    pub structure: InverseStructure,
    /// How the damped blocks are inverted. Default: the cheaper way.
    #[config(default = "InverseMethod::Automatic")]
    pub inverse_method: InverseMethod,
    /// The eigenvalues of the blocks in their Kronecker eigenbases. Default: those of the product.
    ///
    /// Corrected ones (EKFAC) need exact Tikhonov damping and the block-diagonal structure. They are
    /// corrected at each update of the statistics between two refreshes.
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
    /// What to do about trainable parameters that no layer on the tape covers. Default: leave their
    /// gradients as they are; the parameter table names them.
    #[config(default = "CoveragePolicy::Report")]
    pub coverage: CoveragePolicy,
    /// At most this many cases are passed through at once. At least 1, default 5000.
    ///
    /// Less needs less memory; the result changes by rounding only.
    #[config(default = 5000)]
    pub chunk_size: usize,
    /// Seed of the sampled targets. The same seed, device and thread count give the same bits.
    #[config(default = 0)]
    pub seed: u64,
}

impl PreconditionerConfig {
    /// All faults of the settings; empty for a good configuration.
    pub fn validate(&self) -> Vec<ConfigFault> {
        let kappa = self.norm_constraint;
        let ranges = [
            Range::positive("lambda", self.lambda),
            Range::count("statistics_period", self.statistics_period),
            Range::count("inverse_period", self.inverse_period),
            Range::average_cap("statistics_cap", self.statistics_cap),
            Range::count("chunk_size", self.chunk_size as u64),
        ];
        let ranges = ranges
            .into_iter()
            .chain(kappa.map(|kappa| Range::positive("norm_constraint", kappa)));
        let mut faults: Vec<ConfigFault> = ranges.filter_map(Range::fault).collect();
        let Self {
            statistics_period,
            inverse_period,
            ..
        } = *self;
        if statistics_period >= 1 && !inverse_period.is_multiple_of(statistics_period) {
            faults.push(ConfigFault::InversePeriod {
                inverse_period,
                statistics_period,
            });
        }
        self.curvature().check_combinations(&mut faults);
        faults
    }

    /// A preconditioner for a model and a loss.
    ///
    /// The layers are found by one forward pass over the first case of `example`; the parameter
    /// table of the result tells what covers each parameter.
    ///
    /// # Errors
    ///
    /// [`InitError`]: faults of the configuration (all at once), a model without autodiff or
    /// without layers on the tape, and, with strict coverage, trainable parameters without a block.
    pub fn init<M: Network, L: PredictiveDistribution>(
        &self,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Preconditioner<L>, InitError> {
        let (layers, table) = self.curvature().discover(model, example, self.validate())?;
        Ok(Preconditioner {
            loss,
            layers,
            table,
            state: State::new(self.statistics_cap),
            config: self.clone(),
        })
    }

    /// `γ = √λ`.
    pub(super) fn gamma(&self) -> f64 {
        self.lambda.sqrt()
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
}
