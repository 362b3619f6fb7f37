//! Batches in which something is wrong.

use burn::{
    module::Module,
    tensor::{DType, Tensor},
};
use kfac::{Batch, Network, Tape};
use rand::{Rng, RngExt};

use crate::support::{Kind, KindNetwork, normal};

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    None,
    NotANumber,
    Infinite,
    /// All inputs are zero: layers that see nothing.
    Dead,
    /// One case again and again.
    Repeated,
    Constant,
    /// Inputs that span one direction.
    RankOne,
    Scaled(f64),
    OneCase,
    /// Targets that the model has reached already.
    Converged,
}

impl Trouble {
    pub(super) fn any(random: &mut impl Rng) -> Self {
        let troubles = [
            Self::NotANumber,
            Self::Infinite,
            Self::Dead,
            Self::Repeated,
            Self::Constant,
            Self::RankOne,
            Self::OneCase,
            Self::Converged,
            Self::Scaled(10f64.powi(random.random_range(-20..=20))),
        ];
        if random.random_bool(0.4) {
            Self::None
        } else {
            troubles[random.random_range(0..troubles.len())]
        }
    }

    pub(super) fn batch(
        self,
        model: &KindNetwork,
        dtype: DType,
        random: &mut impl Rng,
    ) -> Batch<Tensor<2>> {
        let cases = match self {
            Self::OneCase => 1,
            _ => random.random_range(2..24),
        };
        let seed = random.random();
        let Batch {
            inputs,
            mut targets,
        } = Kind::batch(cases, seed);
        let inputs: Tensor<2> = match self {
            Self::NotANumber => inputs * f64::NAN,
            Self::Infinite => inputs * f64::INFINITY,
            Self::Dead => inputs * 0.0,
            Self::Repeated => inputs.slice_dim(0, 0..1).repeat_dim(0, cases),
            Self::Constant => inputs * 0.0 + 0.5,
            Self::RankOne => {
                inputs.slice_dim(0, 0..1).repeat_dim(0, cases) * normal([cases, 1], seed ^ 2)
            }
            Self::Scaled(by) => inputs * by,
            Self::None | Self::OneCase | Self::Converged => inputs,
        };
        let inputs = inputs.cast(dtype);
        if matches!(self, Self::Converged) {
            targets = model.valid().forward(inputs.clone(), &mut Tape::off());
        }
        Batch::new(inputs, targets.cast(dtype))
    }
}
