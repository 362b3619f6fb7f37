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

/// `J v` for each direction `v`, with `J` the Jacobian of the outputs in the parameters.
///
/// # Definition
///
/// Exact where the network has a [`jvp`](Network::jvp) and `method` allows it, otherwise
///
/// ```text
/// J v ≈ (z(θ + c v) − z(θ − c v)) / (2 c),   c = ε^⅓ min(‖z‖ / ‖J v‖, 10 (1 + ‖θ‖) / ‖v‖)
/// ```
///
/// with the machine's ε and a first estimate of `‖J v‖` from a one-sided difference: the outputs
/// then move by about half a percent in `f32`, where rounding and curvature weigh the same. The second bound is
/// for outputs that are large and hardly move, as finite masks are: the parameters move by a few percent at most.
///
/// # Errors
///
/// [`StepError::Derivatives`] where the network's own `jvp` returns something else.
///
/// # Cost
///
/// Differences: three forward passes a direction, and one for the outputs.
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
    let outputs = model.forward(inputs.clone(), &mut Tape::evaluating());
    let parameters = layers.parameters(&model);
    let (rows, masked) = without_masks(outputs.clone().into_rows());
    let moved = |direction: &ParameterVector, distance: f64| {
        let parameters = parameters.add_scaled(direction, distance);
        let model = layers.with_parameters(model.clone(), &parameters);
        let moved = model.forward(inputs.clone(), &mut Tape::evaluating());
        match &masked {
            None => moved.into_rows(),
            Some(masked) => moved.into_rows().mask_fill(masked.clone(), 0.0),
        }
    };
    let epsilon = host::machine_epsilon(rows.dtype());
    let parameter_norm = parameters.norm();
    let output_norm = host::norm(&rows);
    let difference = |direction: &ParameterVector| {
        let length = direction.norm();
        if length <= 0.0 || !length.is_finite() {
            return outputs.with_rows(rows.zeros_like() * length);
        }
        let probe = epsilon.sqrt() * (1.0 + parameter_norm) / length;
        let rate = host::norm(&(moved(direction, probe) - rows.clone())) / probe;
        let ideal = epsilon.cbrt() * output_norm / rate;
        let most = epsilon.cbrt() * FARTHEST * (1.0 + parameter_norm) / length;
        let distance = if ideal.is_finite() && ideal > 0.0 {
            ideal.min(most)
        } else {
            probe
        };
        let difference = moved(direction, distance) - moved(direction, -distance);
        outputs.with_rows(difference / (2.0 * distance))
    };
    let derivatives = directions.iter().map(difference).collect();
    Ok(Jvp {
        outputs,
        derivatives,
    })
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
