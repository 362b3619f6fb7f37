//! The optimizer (sections 6.4 to 9): one step is the paper's Algorithm 2.

mod averaging;
mod config;
mod curvature_settings;
mod derivatives;
mod evaluate;
mod init;
mod kfac;
mod preconditioner;
mod preconditioner_config;
mod proposal;
mod quadratic_model;
mod ranges;
mod refresh;
mod report;
mod schedule;
mod statistics;
mod step;

pub use averaging::{IterateAverage, IterateAveraging};
pub use config::{ConfigFault, CoveragePolicy, DirectionalDerivatives, KfacConfig, Momentum};
pub use derivatives::directional_derivatives;
pub use evaluate::Objective;
pub use kfac::Kfac;
pub use preconditioner::Preconditioner;
pub use preconditioner_config::PreconditionerConfig;
pub use quadratic_model::{QuadraticModel, StepScale};
pub use refresh::RefreshTiming;
pub use report::{
    GammaCandidate, LambdaReport, Phase, PhaseTimes, QuadraticReport, StepOutcome, StepReport,
};
pub use schedule::BatchSchedule;
