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
//!     type Output = Tensor<2>;
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

pub mod blocks;
mod capture;
mod clock;
pub mod curvature;
pub mod damping;
mod engine;
mod error;
mod inverse;
mod linalg;
mod loss;
mod moving_average;
mod network;
mod optim;
mod random;
pub mod record;
#[cfg(feature = "train")]
pub mod train;
mod workers;

pub use blocks::{FactorAction, FactorRepair, InverseMethod, KroneckerFactors, ScaleShiftBlock};
pub use capture::{AttentionMasks, Jvp, LayerParameters, LayerUses, Network, Tape};
pub use curvature::{Eigenvalues, FisherEstimate, InverseStructure};
pub use damping::{DampingScheme, LambdaAction, PiNorm};
pub use engine::{
    ConfigFault, CoveragePolicy, CurvatureConfig, Extensions, InitError, RefreshTiming, Subsets,
};
pub use error::{FactorKind, Quantity, StepError};
pub use loss::{
    Bernoulli, Categorical, CategoricalSequence, CrossEntropy, Gaussian, Head, Likelihood, Loss,
    PredictiveDistribution, Weighted,
};
pub use network::{
    Batch, Block, BlockDescription, Cases, Coverage, Layer, Layers, Outputs, ParameterAction,
    ParameterRow, ParameterTable, ParameterVector, WeightLayout, WeightSharing,
};
pub use optim::{
    BatchSchedule, DirectionalDerivatives, GammaCandidate, GradientNoise, IterateAveraging, Kfac,
    KfacConfig, LambdaAdaptation, LambdaReport, MeanLoss, Momentum, Objective, ObjectiveError,
    ObserveReport, Phase, PhaseTimes, PreconditionReport, Preconditioned, Preconditioner,
    PreconditionerConfig, QuadraticReport, RecordedFactor, RecordedState, Reduction, RefreshRule,
    StepOutcome, StepReport, directional_derivatives,
};
pub use random::RandomStream;

/// Runs the examples of the crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
