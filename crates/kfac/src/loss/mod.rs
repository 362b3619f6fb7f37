//! Losses as predictive distributions (section 2): the network's outputs are natural parameters.

mod bernoulli;
mod categorical;
mod classes;
mod cross_entropy;
mod distribution;
mod gaussian;
mod heads;
mod likelihood;
mod numbers;
mod sequence;
mod weighted;

pub use bernoulli::Bernoulli;
pub use categorical::Categorical;
pub use cross_entropy::CrossEntropy;
pub use distribution::PredictiveDistribution;
pub use gaussian::Gaussian;
pub use heads::Head;
pub use likelihood::{Likelihood, Loss};
pub use sequence::CategoricalSequence;
pub use weighted::Weighted;
