//! The optimizers in Burn's training loop, [`burn::train`]: its data loaders, metrics, dashboard and checkpoints.
//!
//! - [`KfacStrategy`] trains with [`Kfac`](crate::Kfac): it takes the place of the strategy that calls a Burn optimizer.
//! - [`LearnerPreconditioner`] holds a [`Preconditioner`](crate::Preconditioner) within a model, in front of the
//!   learner's optimizer.
//! - [`ReportMetric`] shows λ, γ, ρ, the KL clip and seconds; [`Reported`] carries the reports that it reads.
//!
//! Of the feature `train`. Burn's dashboard for terminals is the feature `tui` of `burn`, which is the user's to choose.

mod checkpoint;
mod error;
mod metric;
mod model;
mod output;
mod preconditioner;
mod run;
mod strategy;

pub use error::LearnerError;
pub use metric::{KfacMetric, PreconditionerMetric, ReportMetric};
pub use model::KfacModel;
pub use output::{LossOutput, Reported};
pub use preconditioner::{LearnerPreconditioner, PreconditionerReports};
pub use strategy::KfacStrategy;
