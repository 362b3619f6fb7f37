//! The objective and its gradient (section 2).

use burn::tensor::Tensor;

use super::own_objective::{Objective, ObjectiveError};
use crate::{
    capture::{Network, Tape},
    error::{Quantity, StepError},
    linalg::host,
    loss::Loss,
    network::{
        Batch, Cases, Layers, Outputs, ParameterTable, ParameterVector, Parts, check_batch,
        detached,
    },
};

/// What a step asks of an objective.
pub(super) trait StepObjective<M: Network, T> {
    /// `h(θ)`; `parameters` are the model's.
    fn value(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<f64, StepError>;

    /// `h(θ)` and `∇h(θ)`, both finite.
    fn gradient(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, ParameterVector), StepError>;
}

/// The objective of a network on a batch.
///
/// # Definition
///
/// ```text
/// h(θ) = mean over cases of L(y, z) + ½ η ‖θ‖²
/// ```
///
/// with θ the parameters of the given layers, biases included.
#[derive(Debug)]
pub struct MeanLoss<'a, L> {
    /// The layers whose parameters count.
    pub layers: &'a Layers,
    /// The loss.
    pub loss: &'a L,
    /// η, the weight of the penalty.
    pub l2: f64,
    /// At most this many cases are evaluated at once.
    pub chunk_size: usize,
}

// Derived, these would ask the same of the loss, which is only borrowed.
impl<L> Clone for MeanLoss<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for MeanLoss<'_, L> {}

impl<L> MeanLoss<'_, L> {
    /// `h(θ)`; `parameters` are the model's, see [`Layers::parameters`].
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed.
    pub fn value<M: Network, T: Cases>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<f64, StepError>
    where
        L: Loss<M::Output, T>,
    {
        self.check_parameters(parameters)?;
        check_batch(batch)?;
        let model = model.valid();
        let parts = self.parts(parameters, batch);
        let losses = parts.map(
            batch,
            || model.clone(),
            |model, part| {
                let cases = part.len();
                let outputs = model.forward(part.inputs, &mut Tape::evaluating());
                let (_, plain) = detached(outputs);
                self.check(&plain, &part.targets)?;
                sum_of_cases(self.loss.value(plain, part.targets), cases)
            },
        );
        let mut sum = 0.0;
        for loss in losses {
            sum += loss?;
        }
        Ok(sum / batch.len() as f64 + penalty(self.l2, parameters))
    }

    /// `h(θ)` and `∇h(θ)`; `parameters` are the model's.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed, or either is not finite.
    pub fn gradient<M: Network, T: Cases>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, ParameterVector), StepError>
    where
        L: Loss<M::Output, T>,
    {
        self.check_parameters(parameters)?;
        check_batch(batch)?;
        let mut loss = 0.0;
        let mut sum: Option<ParameterVector> = None;
        let parts = self.parts(parameters, batch);
        let evaluated = parts.map(
            batch,
            || self.layers.isolated(model.clone(), parameters),
            |model, part| self.part_gradient(&model, part),
        );
        for part in evaluated {
            let (part, gradient) = part?;
            loss += part;
            sum = Some(match sum {
                None => gradient,
                Some(sum) => sum.add_scaled(&gradient, 1.0),
            });
        }
        let sum = sum.ok_or(StepError::EmptyBatch)?;
        let mean = sum.scaled(1.0 / batch.len() as f64);
        let value = loss / batch.len() as f64;
        Penalised {
            layers: self.layers,
            l2: self.l2,
            parameters,
        }
        .finite(value, &mean)
    }

    fn parts<I: Cases, T: Cases>(
        &self,
        parameters: &ParameterVector,
        batch: &Batch<I, T>,
    ) -> Parts {
        Parts::new(batch.len(), self.chunk_size, &parameters.device())
    }

    /// Refuses parameters that are not those of the layers, as of another model.
    fn check_parameters(&self, parameters: &ParameterVector) -> Result<(), StepError> {
        match self.layers.as_slice().get(parameters.blocks().len()) {
            None => Ok(()),
            Some(layer) => Err(StepError::OtherParameter {
                parameter: layer.path.clone(),
            }),
        }
    }

    fn check<O: Outputs, T>(&self, outputs: &O, targets: &T) -> Result<(), StepError>
    where
        L: Loss<O, T>,
    {
        self.loss.check_outputs(outputs)?;
        self.loss.check(outputs, targets)
    }

    /// The summed loss of a part and its gradient.
    fn part_gradient<M: Network, T: Cases>(
        &self,
        model: &M,
        part: Batch<M::Input, T>,
    ) -> Result<(f64, ParameterVector), StepError>
    where
        L: Loss<M::Output, T>,
    {
        let cases = part.len();
        let outputs = model.forward(part.inputs, &mut Tape::evaluating());
        let (rows, plain) = detached(outputs);
        self.check(&plain, &part.targets)?;
        // The closed form of the output gradient seeds the backward pass: differentiating the loss
        // would walk its six element-wise operations backwards for the same numbers.
        let seed = self.loss.gradient(plain.clone(), part.targets.clone());
        let loss = sum_of_cases(self.loss.value(plain, part.targets), cases)?;
        if !rows.is_tracked() {
            return Ok((loss, self.layers.parameters(model).zeros_like()));
        }
        let mut gradients = (rows * seed.into_rows().autodiff()).sum().backward();
        Ok((loss, self.layers.gradients(model, &mut gradients)))
    }
}

/// The sum of one loss for each case.
fn sum_of_cases(losses: Tensor<1>, cases: usize) -> Result<f64, StepError> {
    match losses.dims()[0] {
        losses if losses != cases => Err(StepError::LossCount { losses, cases }),
        _ => Ok(host::sum(losses)),
    }
}

impl<M: Network, T: Cases, L: Loss<M::Output, T>> StepObjective<M, T> for MeanLoss<'_, L> {
    fn value(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<f64, StepError> {
        MeanLoss::value(self, model, parameters, batch)
    }

    fn gradient(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, ParameterVector), StepError> {
        MeanLoss::gradient(self, model, parameters, batch)
    }
}

/// An objective of the user's own, with the optimizer's penalty.
pub(super) struct OwnObjective<'a, O> {
    pub(super) layers: &'a Layers,
    pub(super) table: &'a ParameterTable,
    pub(super) objective: &'a O,
    pub(super) l2: f64,
}

impl<M: Network, T: Cases, O: Objective<M, T>> StepObjective<M, T> for OwnObjective<'_, O> {
    fn value(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<f64, StepError> {
        check_batch(batch)?;
        let value = self.objective.value(model, batch).map_err(failed)?;
        Ok(value + penalty(self.l2, parameters))
    }

    fn gradient(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, ParameterVector), StepError> {
        check_batch(batch)?;
        let evaluated = self.objective.value_and_gradients(model, batch);
        let (value, gradients) = evaluated.map_err(failed)?;
        let gradient = self.layers.vector_of(model, &gradients, self.table)?;
        Penalised {
            layers: self.layers,
            l2: self.l2,
            parameters,
        }
        .finite(value, &gradient)
    }
}

fn failed(error: ObjectiveError) -> StepError {
    StepError::Objective {
        message: error.to_string(),
    }
}

/// `½ η ‖θ‖²`.
fn penalty(l2: f64, parameters: &ParameterVector) -> f64 {
    0.5 * l2 * parameters.dot(parameters)
}

/// A penalty that is added to a value and its gradient.
struct Penalised<'a> {
    layers: &'a Layers,
    l2: f64,
    parameters: &'a ParameterVector,
}

impl Penalised<'_> {
    /// Both with the penalty, where they are finite.
    fn finite(
        &self,
        value: f64,
        gradient: &ParameterVector,
    ) -> Result<(f64, ParameterVector), StepError> {
        let objective = value + penalty(self.l2, self.parameters);
        if !objective.is_finite() {
            return Err(StepError::NonFinite {
                quantity: Quantity::Objective,
                layer: None,
            });
        }
        let gradient = gradient.add_scaled(self.parameters, self.l2);
        self.layers.check_finite(&gradient, Quantity::Gradient)?;
        Ok((objective, gradient))
    }
}
