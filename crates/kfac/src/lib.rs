//! K-FAC, the second-order optimizer of Martens and Grosse (2015), for [Burn](burn).
//!
//! K-FAC approximates the Fisher information matrix of a network by Kronecker products of two small
//! matrices a layer, the second moments of the layer's inputs and of the gradients at its outputs.
//! Their inverses give an approximate natural gradient; damping, step size and momentum are worked
//! out by the algorithm.
//!
//! # Example
//!
//! ```
//! use burn::{
//!     module::Module,
//!     nn::{Linear, LinearConfig},
//!     tensor::{Device, Distribution, Tensor, activation::sigmoid},
//! };
//! use kfac::{Batch, Bernoulli, KfacConfig, Network, Tape};
//!
//! #[derive(Module, Debug)]
//! struct Autoencoder {
//!     encoder: Linear,
//!     decoder: Linear,
//! }
//!
//! impl Network for Autoencoder {
//!     type Input = Tensor<2>;
//!
//!     fn forward(&self, images: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
//!         let hidden = sigmoid(tape.linear(&self.encoder, images));
//!         tape.linear(&self.decoder, hidden)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::default().autodiff();
//! let mut model = Autoencoder {
//!     encoder: LinearConfig::new(16, 4).init(&device),
//!     decoder: LinearConfig::new(4, 16).init(&device),
//! };
//! let images = Tensor::random([64, 16], Distribution::Default, &device.inner());
//!
//! let mut optimizer = KfacConfig::new().with_l2(1e-5).init(&model, Bernoulli, &images)?;
//! for _ in 0..3 {
//!     let report = optimizer.step(&mut model, &Batch::new(images.clone(), images.clone()))?;
//!     println!("{}: objective {:.3}", report.iteration, report.objective);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # References
//!
//! James Martens and Roger Grosse (2015), *Optimizing Neural Networks with Kronecker-factored
//! Approximate Curvature*, arXiv 1503.05671. Section numbers in this documentation are the paper's.

pub mod capture;
mod cases;
pub mod curvature;
pub mod damping;
mod error;
pub mod linalg;
pub mod loss;
mod network;
pub mod optim;
mod parts;
mod random;
pub mod statistics;
mod vector;

pub use capture::{
    AttentionMasks, Block, BlockStructure, Coverage, Layer, LayerKind, LayerOptions, Layers,
    ParameterRow, ParameterTable, ScaleShiftBlock, Tape, WeightSharing,
};
pub use cases::{Batch, Cases};
pub use curvature::{Eigenvalues, FisherEstimate, InverseStructure};
pub use damping::{
    DampingScheme, DampingStart, FactorAction, FactorRepair, InverseMethod, LambdaAction, PiNorm,
};
pub use error::{InitError, Quantity, StepError};
pub use loss::{Bernoulli, Categorical, CategoricalSequence, Gaussian, PredictiveDistribution};
pub use network::{Jvp, Network};
pub use optim::{
    BatchSchedule, ConfigFault, CoveragePolicy, DirectionalDerivatives, IterateAveraging, Kfac,
    KfacConfig, Momentum, Objective, Preconditioner, PreconditionerConfig, RefreshTiming,
    StepOutcome, StepReport,
};
pub use random::RandomStream;
pub use statistics::{FactorKind, KroneckerFactors, LayerFactors};
pub use vector::ParameterVector;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
