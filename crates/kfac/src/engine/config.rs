//! The settings of the curvature, which both optimizers share.

use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::{extensions::Extensions, fault::ConfigFault, range::Range};
use crate::{
    blocks::{BlockOptions, InverseMethod, ScaleShiftBlock},
    curvature::FisherEstimate,
    damping::{DampingRule, DampingScheme, ProductDamping},
    inverse::{Eigenvalues, InverseStructure},
    network::WeightSharing,
};

/// How the layers are found, their curvature is estimated, and its inverse is made.
///
/// The defaults of [`new`](Self::new) are those of [`KfacConfig`](crate::KfacConfig);
/// [`for_preconditioner`](Self::for_preconditioner) has those of
/// [`PreconditionerConfig`](crate::PreconditionerConfig). "Calls" are steps there, and observed batches
/// here.
///
/// # Example
///
/// ```
/// use kfac::{FisherEstimate, KfacConfig};
///
/// let config = KfacConfig::new()
///     .map_curvature(|curvature| curvature.with_fisher(FisherEstimate::Exact));
/// assert!(config.validate().is_empty());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct CurvatureConfig {
    /// Where the gradients of the Fisher come from (section 5). Default: sampled targets.
    #[config(default = "FisherEstimate::MonteCarlo")]
    pub fisher: FisherEstimate,
    /// Targets sampled for each case. At least 1, default 1; only the Monte Carlo estimate reads it.
    ///
    /// Each costs a forward and backward pass, and so many make the noise smaller by their root.
    #[config(default = 1)]
    pub samples: usize,
    /// The structure of the approximate inverse (section 4). Default: block-diagonal.
    #[config(default = "InverseStructure::BlockDiagonal")]
    pub structure: InverseStructure,
    /// How γ damps the blocks (6.3). Default: factored Tikhonov, balanced by the traces.
    #[config(default = "DampingScheme::default()")]
    pub damping: DampingScheme,
    /// How the damped blocks are inverted. Default: the cheaper way.
    #[config(default = "InverseMethod::Automatic")]
    pub inverse_method: InverseMethod,
    /// The eigenvalues of the blocks in their Kronecker eigenbases. Default: those of the product.
    ///
    /// Corrected ones (EKFAC) need exact Tikhonov damping and the block-diagonal structure. They are
    /// corrected at each update of the statistics between two refreshes.
    #[config(default = "Eigenvalues::Kronecker")]
    pub eigenvalues: Eigenvalues,
    /// How the positions at which a layer's weights are shared count. Default: each on its own; in front of another
    /// optimizer what fits each layer.
    #[config(default = "WeightSharing::Expand")]
    pub weight_sharing: WeightSharing,
    /// The same for single layers, by their paths in the parameter table.
    #[config(default = "Vec::new()")]
    pub weight_sharing_of: Vec<(String, WeightSharing)>,
    /// The blocks of normalisations' scales and shifts. Default: diagonal.
    #[config(default = "ScaleShiftBlock::Diagonal")]
    pub scale_shift: ScaleShiftBlock,
    /// What to do about trainable parameters that no layer on the tape covers. Default: refuse.
    #[config(default = "CoveragePolicy::Strict")]
    pub coverage: CoveragePolicy,
    /// `τ₁`, the part of the batch that the factors are estimated from (section 5, 8): in (0, 1]. The paper has 1/8.
    ///
    /// Default `None`: as many cases as give the running averages two and a half of them for each dimension of the largest
    /// factor, each position of a case counted, and at least 32. More cost time and make the factors less noisy.
    #[config(default = "None")]
    pub statistics_fraction: Option<f64>,
    /// Which cases of the batch these are, and those of the quadratic model. Default: spread over the batch.
    #[config(default = "Subsets::Spread")]
    pub subsets: Subsets,
    /// Largest weight of the past in the factors' running averages (section 5), and the weight of the
    /// past in corrected eigenvalues.
    ///
    /// In [0, 1), default 0.95, in front of another optimizer 0.8: the calls are farther apart there. Nearer to one
    /// averages over more of them.
    #[config(default = 0.95)]
    pub statistics_cap: f64,
    /// Calls between updates of the statistics. At least 1, default 1.
    ///
    /// More saves forward and backward passes.
    #[config(default = 1)]
    pub statistics_period: u64,
    /// `T₃`, calls between refreshes of the inverse (section 8). A multiple of `statistics_period`, or less, default
    /// 20; a refresh updates the statistics too.
    ///
    /// More saves time and steps with an older inverse. In [`KfacConfig`](crate::KfacConfig) the most, by default: see
    /// [`RefreshRule`](crate::RefreshRule).
    #[config(default = 20)]
    pub inverse_period: u64,
    /// The statistics are also updated, and the inverse refreshed, in each of this many first calls.
    /// Default 3; the first call always does.
    #[config(default = 3)]
    pub initial_refreshes: u64,
    /// When the work of a refresh is done. Default: ahead, an inverse a call.
    #[config(default = "RefreshTiming::Ahead")]
    pub refresh_timing: RefreshTiming,
    /// At most this many cases are evaluated at once, and fewer where more may not fit into `memory_limit`. At
    /// least 1, default 5000.
    ///
    /// Less needs less memory; the result changes by rounding only.
    #[config(default = 5000)]
    pub chunk_size: usize,
    /// Bytes that the blocks, their inverses, the work on these and the layers' inputs and outputs in a pass may
    /// take together. Default 4 GiB.
    ///
    /// The optimizer is not made where they would take more: the factors of a layer of 20,000 outputs alone
    /// take 1.6 GB, and their inversion hours.
    #[config(default = 4_294_967_296)]
    pub memory_limit: u64,
    /// Seed of the sampled targets and of the subsets. The same seed, device and thread count give the
    /// same bits.
    #[config(default = 0)]
    pub seed: u64,
}

/// Which cases of a batch the factors are estimated from, and which the quadratic model uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subsets {
    /// Cases drawn from the whole batch, spread evenly over it, the fewer among the more: the order of the cases
    /// means nothing.
    #[default]
    Spread,
    /// The first cases, as in the released code: right for batches in random order only.
    First,
}

/// When the work of a refresh of the inverse is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum RefreshTiming {
    /// In the iteration in which the inverse takes effect, all of it.
    ///
    /// The paper's way: every `T₂`-th iteration waits for the inverses of three candidates γ.
    AtOnce,
    /// In the iterations just before that one, an inverse in each.
    ///
    /// One where γ stays, three where it is searched. They are all made from the factors at the first
    /// of these iterations, and so are one or three iterations old when they take effect.
    ///
    /// The work is the same, but no iteration waits for more than one inverse. What `T₃` leaves no
    /// iterations for is made in the last one. Where the statistics are not updated in each, and in the first iterations, which
    /// refresh each time, the work is done at once.
    #[default]
    Ahead,
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

impl CurvatureConfig {
    /// The settings for mini-batches in front of another optimizer: every tenth batch is taken into the
    /// statistics, whole, and so is each of the first ten; the inverse is refreshed with them at once; and the
    /// positions of a dense layer count together where they are pooled.
    pub fn for_preconditioner() -> Self {
        Self::new()
            .with_statistics_fraction(Some(1.0))
            .with_statistics_period(10)
            .with_statistics_cap(0.8)
            .with_inverse_period(10)
            .with_initial_refreshes(10)
            .with_refresh_timing(RefreshTiming::AtOnce)
            .with_weight_sharing(WeightSharing::Automatic)
    }

    /// Adds all faults of the settings under a damping rule.
    pub(crate) fn check(&self, rule: &dyn DampingRule, faults: &mut Vec<ConfigFault>) {
        let ranges = [
            Range::count("samples", self.samples as u64),
            Range::average_cap("statistics_cap", self.statistics_cap),
            Range::count("statistics_period", self.statistics_period),
            Range::count("inverse_period", self.inverse_period),
            Range::count("chunk_size", self.chunk_size as u64),
        ];
        let fraction = self.statistics_fraction;
        let fraction = fraction.map(|part| Range::fraction("statistics_fraction", part));
        let ranges = ranges.into_iter().chain(fraction);
        faults.extend(ranges.filter_map(Range::fault));
        let Self {
            statistics_period,
            inverse_period,
            ..
        } = *self;
        // A refresh that is due more often brings its statistics with it.
        let between = inverse_period > statistics_period && statistics_period >= 1;
        if between && !inverse_period.is_multiple_of(statistics_period) {
            faults.push(ConfigFault::InversePeriod {
                inverse_period,
                statistics_period,
            });
        }
        self.check_combinations(rule, faults);
    }

    /// The settings that exclude each other.
    fn check_combinations(&self, rule: &dyn DampingRule, faults: &mut Vec<ConfigFault>) {
        let exact = matches!(rule.product(1.0, 1.0), ProductDamping::Exact(_));
        if exact && self.inverse_method == InverseMethod::Cholesky {
            faults.push(ConfigFault::CholeskyOfExactDamping);
        }
        if exact && self.structure == InverseStructure::BlockTridiagonal {
            faults.push(ConfigFault::TridiagonalOfExactDamping);
        }
        if self.eigenvalues != Eigenvalues::Kronecker && !exact {
            faults.push(ConfigFault::CorrectionOfFactoredDamping);
        }
        let between_refreshes = self.inverse_period > self.statistics_period;
        if self.eigenvalues != Eigenvalues::Kronecker && !between_refreshes {
            faults.push(ConfigFault::CorrectionWithEachRefresh);
        }
        if self.eigenvalues == Eigenvalues::BatchMean && self.fisher != FisherEstimate::MonteCarlo {
            faults.push(ConfigFault::BatchMeanOfUnsampledTargets);
        }
    }

    pub(super) fn block_options(&self, extensions: Extensions) -> BlockOptions {
        BlockOptions {
            sharing: self.weight_sharing,
            sharing_of: self.weight_sharing_of.clone(),
            scale_shift: self.scale_shift,
            structure_of: extensions.structures,
        }
    }
}
