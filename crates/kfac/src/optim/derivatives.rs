//! Directional derivatives of the network's outputs (appendix C).

use burn::tensor::{Bool, Tensor};

use super::config::DirectionalDerivatives;
use crate::{
    capture::{Jvp, Network, Tape},
    error::StepError,
    linalg::host,
    network::{Layers, Outputs, ParameterVector},
};

/// How much farther the parameters may move, relative to their size, than the outputs should.
const FARTHEST: f64 = 10.0;

/// A one-sided difference whose outputs moved by `√ε` within this factor below, or its square above, is as good as can
/// be had: rounding and curvature are then both below a percent in `f32`.
const NEAR: f64 = 4.0;

/// `J v` for each direction `v`, with `J` the Jacobian of the outputs in the parameters.
///
/// # Definition
///
/// Exact where the network has a [`jvp`](Network::jvp) and `method` allows it. Otherwise by one-sided differences
///
/// ```text
/// J v ≈ (z(θ + c v) − z(θ)) / c,   c = √ε (1 + ‖θ‖) / ‖v‖
/// ```
///
/// with the machine's ε, again with `c = √ε ‖z‖ / ‖J v‖` where the outputs did not move by about `√ε` of their size, or by
/// central differences
///
/// ```text
/// J v ≈ (z(θ + c v) − z(θ − c v)) / (2 c),   c = ε^⅓ min(‖z‖ / ‖J v‖, 10 (1 + ‖θ‖) / ‖v‖)
/// ```
///
/// where `method` wants them, and where the second bound holds: for outputs that are large and hardly move, as finite
/// masks are, the parameters move by a few percent at most. Rounding and curvature weigh the same at these distances: in
/// `f32` they make an error of about a thousandth one-sided, where the outputs move by a few thousandths, and of a
/// ten-thousandth by central differences, where they move by half a percent. The coefficients of a step are means over
/// cases, whose own noise is a hundred times as large.
///
/// # Errors
///
/// [`StepError::Derivatives`] where the network's own `jvp` returns something else.
///
/// # Cost
///
/// A forward pass for the outputs, and for each direction one or two, by central differences three or four.
pub fn directional_derivatives<M: Network>(
    model: &M,
    layers: &Layers,
    inputs: &M::Input,
    directions: &[ParameterVector],
    method: DirectionalDerivatives,
) -> Result<Jvp<M::Output>, StepError> {
    let model = model.valid();
    if method == DirectionalDerivatives::Automatic {
        // Each from a model of its own: clones of one share their running statistics.
        let tangents: Vec<M> = directions
            .iter()
            .map(|v| layers.tangent(model.valid(), v))
            .collect();
        if let Some(jvp) = model.jvp(inputs.clone(), &tangents) {
            return checked(jvp, directions.len());
        }
    }
    let start = Start::new(&model, layers, inputs);
    let derivatives = directions
        .iter()
        .map(|direction| start.outputs.with_rows(start.derivative(direction, method)));
    let derivatives = derivatives.collect();
    Ok(Jvp {
        outputs: start.outputs,
        derivatives,
    })
}

/// Where differences start.
struct Start<'a, M: Network> {
    model: &'a M,
    layers: &'a Layers,
    inputs: &'a M::Input,
    parameters: ParameterVector,
    parameter_norm: f64,
    outputs: M::Output,
    /// The outputs, without those of minus infinity, and where these were.
    rows: Tensor<2>,
    masked: Option<Tensor<2, Bool>>,
    output_norm: f64,
    /// The machine's ε.
    epsilon: f64,
}

impl<'a, M: Network> Start<'a, M> {
    fn new(model: &'a M, layers: &'a Layers, inputs: &'a M::Input) -> Self {
        let outputs = model.forward(inputs.clone(), &mut Tape::evaluating());
        let parameters = layers.parameters(model);
        let (rows, masked) = without_masks(outputs.clone().into_rows());
        Self {
            model,
            layers,
            inputs,
            parameter_norm: parameters.norm(),
            parameters,
            outputs,
            output_norm: host::norm(&rows),
            epsilon: host::machine_epsilon(rows.dtype()),
            rows,
            masked,
        }
    }

    /// `J v`, by differences.
    fn derivative(&self, direction: &ParameterVector, method: DirectionalDerivatives) -> Tensor<2> {
        let length = direction.norm();
        if length <= 0.0 || !length.is_finite() {
            return self.rows.zeros_like() * length;
        }
        let aim = self.epsilon.sqrt();
        let probe = aim * (1.0 + self.parameter_norm) / length;
        let first = self.one_sided(direction, probe);
        let rate = host::norm(&first);
        // The distance at which the outputs move by a part of their size, and the farthest.
        let bounds = |aim: f64| {
            let farthest = aim * FARTHEST * (1.0 + self.parameter_norm) / length;
            [aim * self.output_norm / rate, farthest]
        };
        if method != DirectionalDerivatives::CentralDifferences {
            let movement = probe * rate / (aim * self.output_norm);
            if (1.0 / NEAR..=NEAR * NEAR).contains(&movement) {
                return first;
            }
            let [ideal, most] = bounds(aim);
            if ideal <= most && ideal > 0.0 {
                return self.one_sided(direction, ideal);
            }
        }
        let [ideal, most] = bounds(self.epsilon.cbrt());
        let distance = if ideal.is_finite() && ideal > 0.0 {
            ideal.min(most)
        } else {
            probe
        };
        let difference = self.moved(direction, distance) - self.moved(direction, -distance);
        difference / (2.0 * distance)
    }

    fn one_sided(&self, direction: &ParameterVector, distance: f64) -> Tensor<2> {
        (self.moved(direction, distance) - self.rows.clone()) / distance
    }

    /// The outputs at so far along a direction.
    fn moved(&self, direction: &ParameterVector, distance: f64) -> Tensor<2> {
        let parameters = self.parameters.add_scaled(direction, distance);
        let model = self.layers.with_parameters(self.model.clone(), &parameters);
        let moved = model.forward(self.inputs.clone(), &mut Tape::evaluating());
        match &self.masked {
            None => moved.into_rows(),
            Some(masked) => moved.into_rows().mask_fill(masked.clone(), 0.0),
        }
    }
}

/// The result of a network's own forward mode, where it has a derivative for each direction, shaped like
/// the outputs.
fn checked<O: Outputs>(jvp: Jvp<O>, directions: usize) -> Result<Jvp<O>, StepError> {
    let shape = |outputs: &O| outputs.clone().into_rows().dims();
    let outputs = shape(&jvp.outputs);
    let shapes: Vec<_> = jvp.derivatives.iter().map(shape).collect();
    if shapes.len() == directions && shapes.iter().all(|own| *own == outputs) {
        Ok(jvp)
    } else {
        Err(StepError::Derivatives {
            directions,
            outputs,
            shapes,
        })
    }
}

/// Outputs without those of minus infinity, which masks a class wherever the parameters are, and where
/// these were.
fn without_masks(rows: Tensor<2>) -> (Tensor<2>, Option<Tensor<2, Bool>>) {
    let masked = rows.clone().equal_elem(f64::NEG_INFINITY);
    if masked.clone().any().into_scalar::<bool>() {
        (rows.mask_fill(masked.clone(), 0.0), Some(masked))
    } else {
        (rows, None)
    }
}
