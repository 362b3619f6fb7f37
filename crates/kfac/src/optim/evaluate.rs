//! The objective and its gradient (section 2).

use crate::{
    capture::{Layers, Tape},
    cases::{Batch, Cases, check_batch, check_shapes},
    error::{Quantity, StepError},
    linalg::host,
    loss::PredictiveDistribution,
    network::Network,
    parts::Parts,
    vector::ParameterVector,
};

/// The objective of a network on a batch.
///
/// # Definition
///
/// ```text
/// h(θ) = mean over cases of L(y, z) + ½ η ‖θ‖²
/// ```
///
/// with θ the parameters of the given layers, biases included.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a, L> {
    /// The layers whose parameters count.
    pub layers: &'a Layers,
    /// The loss.
    pub loss: &'a L,
    /// η, the weight of the penalty.
    pub l2: f64,
    /// At most this many cases are evaluated at once.
    pub chunk_size: usize,
}

impl<L: PredictiveDistribution> Objective<'_, L> {
    /// `h(θ)`; `parameters` are the model's, see [`Layers::parameters`].
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed.
    pub fn value<M: Network>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input>,
    ) -> Result<f64, StepError> {
        check_batch(batch)?;
        let model = model.valid();
        let parts = self.parts(parameters, batch);
        let losses = parts.map(
            batch,
            || model.clone(),
            |model, part| {
                let outputs = model.forward(part.inputs, &mut Tape::evaluating()).inner();
                let targets = part.targets.inner();
                check_shapes(&outputs, &targets)?;
                Ok(host::sum(
                    self.loss.negative_log_likelihood(outputs, targets),
                ))
            },
        );
        let mut sum = 0.0;
        for loss in losses {
            sum += loss?;
        }
        Ok(sum / batch.len() as f64 + 0.5 * self.l2 * parameters.dot(parameters))
    }

    /// `h(θ)` and `∇h(θ)`; `parameters` are the model's.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed, or either is not finite.
    pub fn gradient<M: Network>(
        &self,
        model: &M,
        parameters: &ParameterVector,
        batch: &Batch<M::Input>,
    ) -> Result<(f64, ParameterVector), StepError> {
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
        let objective = loss / batch.len() as f64 + 0.5 * self.l2 * parameters.dot(parameters);
        if !objective.is_finite() {
            return Err(StepError::NonFinite {
                quantity: Quantity::Objective,
                layer: None,
            });
        }
        let sum = sum.ok_or(StepError::EmptyBatch)?;
        let gradient = sum
            .scaled(1.0 / batch.len() as f64)
            .add_scaled(parameters, self.l2);
        self.layers.check_finite(&gradient, Quantity::Gradient)?;
        Ok((objective, gradient))
    }

    fn parts<I: Cases>(&self, parameters: &ParameterVector, batch: &Batch<I>) -> Parts {
        Parts::new(batch.len(), self.chunk_size, &parameters.device())
    }

    /// The summed loss of a part and its gradient.
    fn part_gradient<M: Network>(
        &self,
        model: &M,
        part: Batch<M::Input>,
    ) -> Result<(f64, ParameterVector), StepError> {
        let outputs = model.forward(part.inputs, &mut Tape::evaluating());
        let plain = outputs.clone().inner();
        let targets = part.targets.inner();
        check_shapes(&plain, &targets)?;
        // The closed form of the output gradient seeds the backward pass: differentiating the loss
        // would walk its six element-wise operations backwards for the same numbers.
        let seed = self.loss.output_gradient(plain.clone(), targets.clone());
        let loss = host::sum(self.loss.negative_log_likelihood(plain, targets));
        if !outputs.is_tracked() {
            return Ok((loss, self.layers.parameters(model).zeros_like()));
        }
        let mut gradients = (outputs * seed.autodiff()).sum().backward();
        Ok((loss, self.layers.gradients(model, &mut gradients)))
    }
}
