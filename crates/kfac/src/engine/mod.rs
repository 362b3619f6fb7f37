//! The engine of both optimizers: statistics, refreshes and inverses, and when each is due.

mod config;
mod discover;
mod extensions;
mod fault;
mod observe;
mod range;
mod refresh;
mod restore;
mod state;
mod subset;

pub use config::{CoveragePolicy, CurvatureConfig, RefreshTiming, Subsets};
pub(crate) use discover::{Engine, EngineParts};
pub use extensions::Extensions;
pub use fault::{ConfigFault, InitError};
pub(crate) use observe::{Gathering, Normalisation, Observation, Observed, Reach, Sample};
pub(crate) use range::Range;
pub(crate) use refresh::{Refresh, RefreshPoint};
pub(crate) use restore::ENGINE;
pub(crate) use state::{EngineState, RefreshAhead};
pub(crate) use subset::{Share, ShareSize};
