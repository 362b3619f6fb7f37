//! Options that several commands share.

use std::{path::PathBuf, str::FromStr, sync::atomic::Ordering};

use anyhow::{Context, Result};
use clap::ValueEnum;
use kfac::{
    BatchSchedule, CurvatureConfig, DampingScheme, DirectionalDerivatives, Eigenvalues,
    InverseMethod, InverseStructure, KfacConfig, Momentum, PreconditionerConfig, RefreshRule,
    ScaleShiftBlock, WeightSharing,
};

use super::values::{at_least_zero, count, fraction, momentum, positive, threads};
use crate::{
    checkpoint::CheckpointPlan,
    precision::Precision,
    task::{Task, TaskData, TaskName},
    train::{DataSource, INTERRUPTED},
};

/// What is trained, on what, and where the run goes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArguments {
    /// What to train
    #[arg(value_enum, default_value_t = TaskName::Curves)]
    pub(super) task: TaskName,
    /// Seed of data, initial weights, batches and sampled targets
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Precision of the tensors
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(super) precision: Precision,
    /// Weight of the penalty on all parameters [default: the task's]
    #[arg(long, value_name = "ETA", value_parser = at_least_zero)]
    pub(super) l2: Option<f64>,
    /// Initial weights, a one-dimensional .npy: per layer W (row-major, out x in), then b
    #[arg(long, value_name = "FILE")]
    pub(super) init: Option<PathBuf>,
    /// Only the first so many training cases
    #[arg(long, value_name = "N", value_parser = count::<usize>())]
    pub(super) cases: Option<usize>,
    /// All of Fashion-MNIST (needs `data/fetch fashion`) instead of the embedded part
    #[arg(long)]
    pub(super) full: bool,
    /// Folder of the fetched data sets
    #[arg(long, value_name = "FOLDER", default_value = "data/cache")]
    pub(super) data: PathBuf,
    /// Folder for the run [default: runs/TASK-OPTIMIZER-N]
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(super) threads: Option<usize>,
}

impl RunArguments {
    /// The task with the user's penalty.
    pub(super) fn task(&self) -> Task {
        let task = Task::new(self.task);
        Task {
            l2: self.l2.unwrap_or(task.l2),
            ..task
        }
    }

    /// Where the task's data come from, none of them held out.
    pub(super) fn source(&self) -> DataSource {
        DataSource {
            folder: self.data.clone(),
            full: self.full,
            cases: self.cases,
            hold_out: None,
        }
    }

    /// Loads the task's data.
    pub(super) fn load(&self, task: &Task) -> Result<TaskData> {
        self.source().load(task, self.seed)
    }

    /// Sets the number of threads, and ends runs cleanly where that is asked for.
    pub(super) fn prepare_process(&self) -> Result<()> {
        prepare_process(self.threads)
    }
}

/// Sets the number of threads, and ends runs cleanly on Ctrl-C and where the system asks for their end.
pub(super) fn prepare_process(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot set the number of threads")?;
    }
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .context("cannot handle Ctrl-C")
}

/// When checkpoints are written, besides at the end of a run and where it is interrupted.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct CheckpointArguments {
    /// Write a checkpoint after every so many iterations too, for `kfac resume`
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    pub(super) checkpoint_every: Option<u64>,
    /// So many checkpoints are kept, the newest [default: 2, of a run that goes on as before]
    #[arg(long, value_name = "K", value_parser = count::<usize>())]
    pub(super) keep_checkpoints: Option<usize>,
}

/// One is there while the next is written, and one more in case that the newest cannot be read.
const KEEP: usize = 2;

impl CheckpointArguments {
    pub(super) fn plan(self) -> CheckpointPlan {
        CheckpointPlan {
            every: self.checkpoint_every,
            keep: self.keep_checkpoints.unwrap_or(KEEP),
        }
    }

    /// The plan of a run that goes on.
    pub(super) fn or(self, plan: CheckpointPlan) -> CheckpointPlan {
        CheckpointPlan {
            every: self.checkpoint_every.or(plan.every),
            keep: self.keep_checkpoints.unwrap_or(plan.keep),
        }
    }
}

/// The batch sizes as typed: `M`, or `FIRST:ITERATION`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScheduleArgument(pub(super) BatchSchedule);

impl FromStr for ScheduleArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<u64>().ok().filter(|n| *n >= 1);
        let schedule = match text.split_once(':') {
            None if text == "auto" => Some(BatchSchedule::Automatic),
            None => number(text).map(|cases| BatchSchedule::Fixed {
                cases: cases as usize,
            }),
            Some((initial, full_at)) => {
                number(initial)
                    .zip(number(full_at))
                    .map(|(initial, full_at)| BatchSchedule::Exponential {
                        initial: initial as usize,
                        full_at,
                    })
            }
        };
        schedule.map(Self).ok_or_else(|| {
            "expected a number of cases, as 500, FIRST:ITERATION, as 1000:500, or auto".to_owned()
        })
    }
}

/// K-FAC's settings; what is not given stays as the preset has it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "K-FAC")]
pub(super) struct KfacArguments {
    /// Whose settings to start from
    #[arg(long, value_enum, default_value_t = Preset::Recommended)]
    preset: Preset,
    /// First damping λ of the quadratic model; large is safe, small is fast [default: the task's, in front of another optimizer 0.003]
    #[arg(long, value_name = "LAMBDA", value_parser = positive)]
    lambda: Option<f64>,
    /// T1: iterations between updates of λ [default: 5]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    lambda_period: Option<u64>,
    /// T2: iterations between searches for γ [default: 20]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    gamma_period: Option<u64>,
    /// T3: iterations between refreshes of the inverse [default: as soon as it goes stale, at most 20; in front of
    /// another optimizer 10, EKFAC 100]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    inverse_period: Option<u64>,
    /// Iterations between updates of the factors [default: 1, in front of another optimizer 10]
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    statistics_period: Option<u64>,
    /// Largest weight of the past in the factors' averages [default: 0.95, in front of another optimizer 0.8]
    #[arg(long, value_name = "WEIGHT", value_parser = momentum)]
    statistics_cap: Option<f64>,
    /// KL clip: twice the divergence that a plain step of the learning rate may have, for 128 cases, and in
    /// proportion for other batches; 0 for no bound [default: 0.0003]
    #[arg(long, value_name = "KAPPA", value_parser = at_least_zero)]
    kl_clip: Option<f64>,
    /// τ1: part of the batch for the factors [default: as many cases as the factors need, in front of
    /// another optimizer 1]
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    statistics_fraction: Option<f64>,
    /// τ2: part of the batch for the quadratic model [default: as many cases as it needs, paper 0.25,
    /// released-code 1]
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    model_fraction: Option<f64>,
    /// Structure of the approximate inverse
    #[arg(long, value_enum, value_name = "STRUCTURE", default_value_t)]
    inverse: InverseStructure,
    /// How the damped blocks are inverted
    #[arg(long, value_enum, default_value_t)]
    inverse_method: InverseMethod,
    /// How γ damps the blocks [default: trace, with corrected eigenvalues exact]
    #[arg(long, value_enum)]
    damping: Option<DampingScheme>,
    /// Rescale the proposal alone, without the last step as a second direction
    #[arg(long)]
    no_momentum: bool,
    /// Eigenvalues of the blocks in their Kronecker eigenbases (EKFAC); corrected ones need exact damping
    #[arg(long, value_enum, default_value_t)]
    eigenvalues: Eigenvalues,
    /// How the positions at which a layer's weights are shared count [default: expand, in front of another optimizer
    /// automatic]
    #[arg(long, value_enum)]
    weight_sharing: Option<WeightSharing>,
    /// The blocks of normalisations' scales and shifts
    #[arg(long, value_enum, default_value_t)]
    scale_shift: ScaleShiftBlock,
    /// Differences instead of the network's exact directional derivatives
    #[arg(long)]
    central_differences: bool,
    /// Cases evaluated at once; fewer need less memory [default: 5000]
    #[arg(long, value_name = "N", value_parser = count::<usize>())]
    chunk: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// The paper's, but for the start (λ falls fast while it is far too large), for inverses that are worked out ahead,
    /// and for batches, subsets and refreshes that choose themselves
    Recommended,
    /// The settings of the paper's experiments
    Paper,
    /// The settings of the authors' released code
    ReleasedCode,
}

impl KfacArguments {
    /// The task as the preset's authors train it.
    pub(super) fn task(&self, task: Task) -> Task {
        match self.preset {
            Preset::Recommended => task,
            Preset::Paper | Preset::ReleasedCode => task.as_in_the_paper(),
        }
    }

    /// The damping asked for; where nothing is said, the one that the eigenvalues allow.
    fn damping(&self) -> DampingScheme {
        let allowed = match self.eigenvalues {
            Eigenvalues::Kronecker => DampingScheme::default(),
            Eigenvalues::PerCase | Eigenvalues::BatchMean => DampingScheme::ExactTikhonov,
        };
        self.damping.unwrap_or(allowed)
    }

    fn curvature(&self, preset: CurvatureConfig, seed: u64) -> CurvatureConfig {
        CurvatureConfig {
            statistics_period: self.statistics_period.unwrap_or(preset.statistics_period),
            statistics_cap: self.statistics_cap.unwrap_or(preset.statistics_cap),
            inverse_period: self.inverse_period.unwrap_or(preset.inverse_period),
            statistics_fraction: self.statistics_fraction.or(preset.statistics_fraction),
            structure: self.inverse,
            inverse_method: self.inverse_method,
            damping: self.damping(),
            eigenvalues: self.eigenvalues,
            weight_sharing: self.weight_sharing.unwrap_or(preset.weight_sharing),
            scale_shift: self.scale_shift,
            chunk_size: self.chunk.unwrap_or(preset.chunk_size),
            seed,
            ..preset
        }
    }

    /// The same with eigenvalues corrected for each case, where nothing is said about them.
    pub(super) fn corrected(&self) -> Self {
        let eigenvalues = match self.eigenvalues {
            Eigenvalues::Kronecker => Eigenvalues::PerCase,
            corrected => corrected,
        };
        Self {
            eigenvalues,
            ..self.clone()
        }
    }

    /// The configuration in front of another optimizer.
    pub(super) fn preconditioner(&self, seed: u64) -> PreconditionerConfig {
        let preset = PreconditionerConfig::new();
        let corrected = self.eigenvalues != Eigenvalues::Kronecker;
        let preset = preset.map_curvature(|curvature| {
            let period = self
                .statistics_period
                .unwrap_or(curvature.statistics_period);
            let curvature = curvature.with_statistics_period(period);
            // Corrections are made between refreshes.
            let curvature =
                curvature.with_inverse_period(if corrected { 10 * period } else { period });
            self.curvature(curvature, seed)
        });
        let lambda = self.lambda.unwrap_or(preset.lambda);
        let kl_clip = self
            .kl_clip
            .map_or(preset.kl_clip, |kappa| Some(kappa).filter(|k| *k > 0.0));
        preset.with_lambda(lambda).with_kl_clip(kl_clip)
    }

    /// The configuration for a task.
    pub(super) fn config(&self, task: &Task, seed: u64) -> KfacConfig {
        let preset = match self.preset {
            Preset::Recommended => KfacConfig::new(),
            Preset::Paper => KfacConfig::paper(),
            Preset::ReleasedCode => KfacConfig::released_code(),
        };
        let preset = preset.map_curvature(|curvature| self.curvature(curvature, seed));
        KfacConfig {
            l2: task.l2,
            initial_lambda: self.lambda.unwrap_or(task.initial_lambda),
            lambda_period: self.lambda_period.unwrap_or(preset.lambda_period),
            gamma_period: self.gamma_period.unwrap_or(preset.gamma_period),
            model_fraction: self.model_fraction.or(preset.model_fraction),
            refresh: match self.inverse_period {
                None => preset.refresh,
                Some(_) => RefreshRule::Periodic,
            },
            momentum: if self.no_momentum {
                Momentum::None
            } else {
                Momentum::Adaptive
            },
            derivatives: if self.central_differences {
                DirectionalDerivatives::CentralDifferences
            } else {
                DirectionalDerivatives::Automatic
            },
            ..preset
        }
    }
}
