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

    /// The same with the gradients of two halves of the batch, where the objective is a mean over cases.
    fn gradient_by_halves(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<Descent, StepError>;
}

/// The objective and its gradient where a step starts.
pub(super) struct Descent {
    pub(super) value: f64,
    pub(super) gradient: ParameterVector,
    /// The difference of two halves' gradients, where it was asked for and there are two.
    pub(super) halves: Option<HalvesDifference>,
}

impl Descent {
    /// Of the batch as a whole.
    pub(super) fn whole((value, gradient): (f64, ParameterVector)) -> Self {
        Self {
            value,
            gradient,
            halves: None,
        }
    }
}

/// The difference of the mean gradients of two parts of a batch.
pub(super) struct HalvesDifference {
    pub(super) difference: ParameterVector,
    /// `1/n₁ + 1/n₂` for parts of so many cases.
    pub(super) inverse_cases: f64,
}

/// Sums over some cases.
struct Sums {
    cases: usize,
    loss: f64,
    gradient: ParameterVector,
}

impl Sums {
    fn with(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            loss: self.loss + other.loss,
            gradient: self.gradient.add_scaled(&other.gradient, 1.0),
        }
    }

    fn mean_gradient(&self) -> ParameterVector {
        self.gradient.scaled(1.0 / self.cases as f64)
    }
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
        let parts = self.parts(parameters, batch);
        let [first, second] = self.sums_of_halves(model, parameters, (batch, &parts))?;
        self.penalised_mean(parameters, joined(first, second)?)
    }

    /// The same, with the gradients of two halves.
    fn by_halves<M: Network, T: Cases>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<Descent, StepError>
    where
        L: Loss<M::Output, T>,
    {
        let parts = self.parts(parameters, batch).at_least_two(batch.len());
        let [first, second] = self.sums_of_halves(model, parameters, (batch, &parts))?;
        let halves = first.as_ref().zip(second.as_ref());
        let halves = halves.map(|(first, second)| HalvesDifference {
            difference: first
                .mean_gradient()
                .add_scaled(&second.mean_gradient(), -1.0),
            inverse_cases: 1.0 / first.cases as f64 + 1.0 / second.cases as f64,
        });
        let (value, gradient) = self.penalised_mean(parameters, joined(first, second)?)?;
        Ok(Descent {
            value,
            gradient,
            halves,
        })
    }

    /// The sums over two halves of a batch: over every other part.
    fn sums_of_halves<M: Network, T: Cases>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        (batch, parts): (&Batch<M::Input, T>, &Parts),
    ) -> Result<[Option<Sums>; 2], StepError>
    where
        L: Loss<M::Output, T>,
    {
        self.check_parameters(parameters)?;
        check_batch(batch)?;
        let evaluated = parts.map(
            batch,
            || self.layers.isolated(model.clone(), parameters),
            |model, part| self.part_sums(&model, part),
        );
        let mut halves = [None, None];
        for (number, part) in evaluated.enumerate() {
            let half: &mut Option<Sums> = &mut halves[number % 2];
            let part = part?;
            *half = Some(match half.take() {
                None => part,
                Some(sums) => sums.with(part),
            });
        }
        Ok(halves)
    }

    fn penalised_mean(
        &self,
        parameters: &ParameterVector,
        sums: Sums,
    ) -> Result<(f64, ParameterVector), StepError> {
        let value = sums.loss / sums.cases as f64;
        Penalised {
            layers: self.layers,
            l2: self.l2,
            parameters,
        }
        .finite(value, &sums.mean_gradient())
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
    fn part_sums<M: Network, T: Cases>(
        &self,
        model: &M,
        part: Batch<M::Input, T>,
    ) -> Result<Sums, StepError>
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
        let gradient = if rows.is_tracked() {
            let mut gradients = (rows * seed.into_rows().autodiff()).sum().backward();
            self.layers.gradients(model, &mut gradients)
        } else {
            self.layers.parameters(model).zeros_like()
        };
        Ok(Sums {
            cases,
            loss,
            gradient,
        })
    }
}

/// The sums over two halves, of which the second may be empty.
fn joined(first: Option<Sums>, second: Option<Sums>) -> Result<Sums, StepError> {
    let first = first.ok_or(StepError::EmptyBatch)?;
    Ok(match second {
        None => first,
        Some(second) => first.with(second),
    })
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

    fn gradient_by_halves(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<Descent, StepError> {
        self.by_halves(model, parameters, batch)
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

    /// Without halves: an objective of the user's own need not be a mean over cases.
    fn gradient_by_halves(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input, T>,
    ) -> Result<Descent, StepError> {
        self.gradient(model, parameters, batch).map(Descent::whole)
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
