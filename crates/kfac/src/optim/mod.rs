//! The optimizers (sections 6.4 to 9): one step of `Kfac` is the paper's Algorithm 2.

mod averaging;
mod batch_growth;
mod config;
mod derivatives;
#[cfg(test)]
mod faults;
mod init;
mod inspect;
mod kfac;
mod model_cases;
mod noise;
mod objective;
mod own_objective;
mod preconditioner;
mod proposal;
mod quadratic_model;
mod refresh_pace;
mod report;
mod restore;
mod schedule;
mod setup;
mod state;
mod step;

pub use averaging::IterateAveraging;
pub use config::{DirectionalDerivatives, KfacConfig, LambdaAdaptation, Momentum};
pub use derivatives::directional_derivatives;
pub use inspect::{RecordedFactor, RecordedState};
pub use kfac::Kfac;
pub use objective::MeanLoss;
pub use own_objective::{Objective, ObjectiveError};
pub use preconditioner::{
    ObserveReport, PreconditionReport, Preconditioned, Preconditioner, PreconditionerConfig,
    Reduction,
};
pub use refresh_pace::RefreshRule;
pub use report::{
    GammaCandidate, GradientNoise, LambdaReport, Phase, PhaseTimes, QuadraticReport, StepOutcome,
    StepReport,
};
pub use schedule::BatchSchedule;
