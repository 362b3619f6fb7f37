//! The paper's baseline: Nesterov's accelerated gradient with a growing momentum.

use std::collections::HashMap;

use anyhow::Result;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    store::ModuleRecord,
    tensor::Tensor,
};
use kfac::{Batch, StepError};

use super::{
    StepSummary,
    gradients::MeanGradients,
    record::{VELOCITY, burns},
};
use crate::{
    checkpoint::{CheckpointFiles, Part},
    network::Model,
};

/// Nesterov's accelerated gradient with the schedule of Sutskever et al. (2013).
///
/// # Definition
///
/// ```text
/// v ← μ_t v − ε ∇h(θ + μ_t v),   θ ← θ + v,   μ_t = min(1 − 2^(−1 − log₂(⌊t/250⌋ + 1)), μ_max)
/// ```
///
/// The model holds the point `θ + μ_t v`, so that a step needs one gradient and one pass over the
/// parameters.
pub struct Nesterov {
    rate: f64,
    max_momentum: f64,
    l2: f64,
    gradients: MeanGradients,
    steps: u64,
    velocity: HashMap<ParamId, Tensor<1>>,
}

impl Nesterov {
    pub(super) fn new((rate, max_momentum): (f64, f64), l2: f64, gradients: MeanGradients) -> Self {
        Self {
            rate,
            max_momentum,
            l2,
            gradients,
            steps: 0,
            velocity: HashMap::new(),
        }
    }

    pub(super) fn step(
        &mut self,
        model: &mut Model,
        batch: &Batch<Tensor<2>>,
    ) -> Result<StepSummary, StepError> {
        let (objective, gradients) = self.gradients.of(model, batch)?;
        let mut update = Update {
            gradients,
            momentum: momentum(self.steps, self.max_momentum),
            next_momentum: momentum(self.steps + 1, self.max_momentum),
            method: self,
        };
        *model = model.clone().map(&mut update);
        self.steps += 1;
        Ok(StepSummary {
            objective,
            kfac: None,
            preconditioned: None,
        })
    }

    /// The velocity in the form of a model, whose record it is.
    pub(super) fn record(&self, model: &Model) -> Result<Vec<(&'static str, Part)>> {
        let velocity = model.valid().map(&mut InPlaceOfParameters(&self.velocity));
        let bytes = burns(velocity.into_record().into_bytes())?;
        Ok(vec![(VELOCITY, Part::Bytes(bytes))])
    }

    pub(super) fn load(
        &mut self,
        model: &Model,
        (files, steps): (&CheckpointFiles, u64),
    ) -> Result<()> {
        let record = burns(ModuleRecord::from_bytes(files.get(VELOCITY)?.clone()))?;
        let velocity = burns(model.valid().try_load_record(record))?;
        self.steps = steps;
        self.velocity.clear();
        if steps > 0 {
            velocity.visit(&mut Velocities(&mut self.velocity));
        }
        Ok(())
    }

    /// The model at `θ`.
    pub(super) fn iterate(&self, model: &Model) -> Model {
        let momentum = momentum(self.steps, self.max_momentum);
        model.clone().map(&mut StepBack {
            velocity: &self.velocity,
            momentum,
        })
    }
}

/// `μ_t`.
fn momentum(step: u64, max: f64) -> f64 {
    (1.0 - 0.5 / (step / 250 + 1) as f64).min(max)
}

struct Update<'a> {
    gradients: GradientsParams,
    momentum: f64,
    next_momentum: f64,
    method: &'a mut Nesterov,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return param;
        };
        let (method, velocities) = (self.method.rate, &mut self.method.velocity);
        let l2 = self.method.l2;
        param.map(|point| {
            let require_grad = point.is_require_grad();
            let point = point.inner();
            let dims = point.dims();
            let gradient = gradient + point.clone() * l2;
            let carried = velocities
                .remove(&id)
                .map(|v| v.reshape(dims) * self.momentum);
            let velocity = match &carried {
                Some(carried) => carried.clone() - gradient * method,
                None => gradient * -method,
            };
            let size = point.shape().num_elements();
            velocities.insert(id, velocity.clone().reshape([size]));
            let origin = match carried {
                Some(carried) => point - carried,
                None => point,
            };
            let next = origin + velocity * (1.0 + self.next_momentum);
            next.autodiff().set_require_grad(require_grad)
        })
    }
}

struct StepBack<'a> {
    velocity: &'a HashMap<ParamId, Tensor<1>>,
    momentum: f64,
}

impl ModuleMapper for StepBack<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(velocity) = self.velocity.get(&param.id) else {
            return param;
        };
        param.map(|point| {
            let require_grad = point.is_require_grad();
            let point = point.inner();
            let back = velocity.clone().reshape(point.dims()) * self.momentum;
            (point - back).autodiff().set_require_grad(require_grad)
        })
    }
}

/// Puts velocities where a model has its parameters; zeros where there are none.
struct InPlaceOfParameters<'a>(&'a HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for InPlaceOfParameters<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let velocity = self.0.get(&param.id);
        param.map(|point| match velocity {
            Some(velocity) => velocity.clone().reshape(point.dims()),
            None => point.zeros_like(),
        })
    }
}

/// Takes the parameters of a model for velocities.
struct Velocities<'a>(&'a mut HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Velocities<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let velocity = param.val();
        let size = velocity.shape().num_elements();
        self.0.insert(param.id, velocity.reshape([size]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_follows_the_published_schedule() {
        let published = |t: f64| 1.0 - 2f64.powf(-1.0 - ((t / 250.0).floor() + 1.0).log2());
        for t in [0, 249, 250, 999, 10_000] {
            assert!((momentum(t, 1.0) - published(t as f64)).abs() < 1e-12);
        }
        assert!((momentum(1_000_000, 0.99) - 0.99).abs() < 1e-15);
    }
}
