//! Are gradient, directional derivatives and quadratic model what finite differences and dense
//! matrices say?

use burn::{
    module::Module,
    tensor::{DType, Tensor},
};
use faer::Mat;
use kfac::{
    Bernoulli, Categorical, DirectionalDerivatives, Gaussian, Network, ParameterVector,
    PredictiveDistribution, Tape, directional_derivatives,
};

use crate::support::{
    self, Activation, Mlp, Spec, assert_close, assert_near, column, dense, inner, random_vector,
};
use crate::support::{exact, kronecker::append_ones, layers_of};

/// Central differences with step 1e-5: truncation and rounding near 1e-10 of the derivative.
const DIFFERENCES: f64 = 1e-8;
/// Dense products of some hundred terms, and an LU solve of a well-conditioned 2 × 2 system.
const ROUNDING: f64 = 1e-10;
/// The library's own differences: ε^⅔ = 4e-11 in double precision, times the curvature.
const LIBRARY_F64: f64 = 1e-8;
/// ε^⅔ = 2.4e-5 in single precision, times the curvature.
const LIBRARY_F32: f64 = 1e-3;

const SPEC: Spec<'static> = Spec::new(&[3, 5, 4, 3], Activation::Tanh);

fn assert_gradient<L: PredictiveDistribution + Clone>(loss: &L, spec: Spec<'_>, l2: f64) {
    let model = spec.model(1);
    let batch = spec.batch(loss, 7, 2);
    let layers = layers_of(&model, &batch.inputs);
    let objective = support::objective(&layers, loss, l2);
    let parameters = layers.parameters(&model);
    let (value, gradient) = objective.gradient(&model, &parameters, &batch).unwrap();
    let again = objective.value(&model, &parameters, &batch).unwrap();
    assert_near("objective", value, again, ROUNDING);
    let expected = support::gradient_by_differences(&objective, &model, &batch);
    assert_close(
        &format!("{loss:?}, {spec:?}"),
        &column(&gradient),
        &expected,
        DIFFERENCES,
    );
}

#[test]
fn gradients_of_the_objective_are_central_differences() {
    for activation in [Activation::Tanh, Activation::Logistic, Activation::Linear] {
        for bias in [true, false] {
            let spec = Spec {
                activation,
                bias,
                ..SPEC
            };
            assert_gradient(&Bernoulli, spec, 0.1);
            assert_gradient(&Categorical, spec, 0.0);
            assert_gradient(&Gaussian, spec, 0.1);
        }
    }
}

#[test]
fn the_objective_is_the_mean_loss_plus_the_penalty() {
    let model = SPEC.model(1);
    let batch = SPEC.batch(&Gaussian, 7, 2);
    let layers = layers_of(&model, &batch.inputs);
    let parameters = layers.parameters(&model);
    let outputs = dense(
        &model
            .forward(batch.inputs.clone(), &mut Tape::off())
            .inner(),
    );
    let loss = 0.5 * (outputs - dense(&batch.targets)).squared_norm_l2() / 7.0;
    let penalty = 0.5 * 0.3 * column(&parameters).squared_norm_l2();
    let value = support::objective(&layers, &Gaussian, 0.3).value(&model, &parameters, &batch);
    assert_near("h", value.unwrap(), loss + penalty, ROUNDING);
}

/// Exact, central and one-sided derivatives along two directions; `scales` multiply the layers' weights.
fn derivatives(dtype: DType, scales: &[f64]) -> [Vec<Mat<f64>>; 3] {
    let model = SPEC.model_in(dtype, 4);
    let inputs = SPEC.batch(&Gaussian, 6, 5).inputs.cast(dtype);
    let layers = layers_of(&model, &inputs);
    let rescale = |vector: &ParameterVector| {
        let blocks = vector.blocks().iter().zip(scales);
        ParameterVector::new(
            blocks
                .map(|(block, &scale)| block.clone() * scale)
                .collect(),
        )
    };
    let parameters = rescale(&layers.parameters(&model));
    let model = layers.with_parameters(model, &parameters);
    let cast = |vector: ParameterVector| {
        ParameterVector::new(
            vector
                .blocks()
                .iter()
                .map(|b| b.clone().cast(dtype))
                .collect(),
        )
    };
    let directions = [6, 7].map(|seed| cast(rescale(&random_vector(&parameters, seed))));
    [
        DirectionalDerivatives::Automatic,
        DirectionalDerivatives::CentralDifferences,
        DirectionalDerivatives::OneSidedDifferences,
    ]
    .map(|method| {
        let jvp = directional_derivatives(&model, &layers, &inputs, &directions, method).unwrap();
        jvp.derivatives.iter().map(dense).collect()
    })
}

fn assert_derivatives(dtype: DType, scales: &[f64], tolerance: f64) {
    let [exact, central, one_sided] = derivatives(dtype, scales);
    // Rounding and curvature of one-sided differences, at the distance where both weigh the same, and where the outputs
    // moved sixteen times as far.
    let epsilon = if dtype == DType::F64 {
        f64::EPSILON
    } else {
        f64::from(f32::EPSILON)
    };
    let differences = [(central, tolerance), (one_sided, 16.0 * epsilon.sqrt())];
    for (differences, tolerance) in differences {
        for (exact, difference) in exact.iter().zip(&differences) {
            let what = format!("{dtype:?}, scales {scales:?}");
            assert_close(&what, difference, exact, tolerance);
        }
    }
}

#[test]
fn differences_of_outputs_equal_the_exact_forward_mode() {
    assert_derivatives(DType::F64, &[1.0, 1.0, 1.0], LIBRARY_F64);
    assert_derivatives(DType::F32, &[1.0, 1.0, 1.0], LIBRARY_F32);
}

#[test]
fn differences_hold_for_badly_scaled_parameters() {
    // Large weights only in the last layer: elsewhere they saturate the units, and differences of a
    // nearly discontinuous function are poor for a reason that has nothing to do with scales.
    for scales in [
        [1e-3, 1.0, 1e3],
        [1.0, 1e-4, 1.0],
        [0.1, 0.1, 1e6],
        [1e-2, 1.0, 1e-6],
    ] {
        assert_derivatives(DType::F64, &scales, LIBRARY_F64);
        assert_derivatives(DType::F32, &scales, LIBRARY_F32);
    }
}

#[test]
fn differences_do_not_depend_on_the_length_of_the_direction() {
    let model = SPEC.model(4);
    let inputs = SPEC.batch(&Gaussian, 6, 5).inputs;
    let layers = layers_of(&model, &inputs);
    let direction = random_vector(&layers.parameters(&model), 9);
    let along = |scale: f64| {
        let method = DirectionalDerivatives::CentralDifferences;
        let scaled = [direction.scaled(scale)];
        let jvp = directional_derivatives(&model, &layers, &inputs, &scaled, method).unwrap();
        dense(&jvp.derivatives[0])
    };
    for scale in [1e-12, 1e-3, 1e6] {
        assert_close(
            "scaled",
            &along(scale),
            &(along(1.0) * faer::Scale(scale)),
            LIBRARY_F64,
        );
    }
    assert!(along(0.0).norm_max() < f64::MIN_POSITIVE);
}

#[test]
fn the_exact_forward_mode_is_the_dense_jacobian() {
    // With one output and one case under squared error F = JᵀJ, so |J v|² is vᵀ F v.
    let spec = Spec::new(&[3, 4, 1], Activation::Logistic);
    let model = spec.model(4);
    let batch = spec.batch(&Gaussian, 1, 5);
    let layers = layers_of(&model, &batch.inputs);
    let v = random_vector(&layers.parameters(&model), 3);
    let method = DirectionalDerivatives::Automatic;
    let jvp = directional_derivatives(
        &model,
        &layers,
        &batch.inputs,
        std::slice::from_ref(&v),
        method,
    )
    .unwrap();
    let derivative = dense(&jvp.derivatives[0])[(0, 0)];
    let fisher = exact::fisher(&model, &layers, &Gaussian, &batch);
    let x = column(&v);
    assert_near(
        "|J v|²",
        derivative * derivative,
        inner(&x, &(&fisher * &x)),
        ROUNDING,
    );
}

#[test]
fn outputs_of_zero_have_directional_derivatives_too() {
    // ‖z‖ = 0 leaves no scale for the differences; they must fall back to one of their own.
    let spec = Spec::new(&[2, 2], Activation::Linear).without_jvp();
    let model = spec.model(1);
    let inputs = spec.batch(&Gaussian, 3, 1).inputs;
    let layers = layers_of(&model, &inputs);
    let zero = layers.parameters(&model).zeros_like();
    let model = layers.with_parameters(model, &zero);
    let v = random_vector(&zero, 2);
    let method = DirectionalDerivatives::CentralDifferences;
    let jvp = directional_derivatives(&model, &layers, &inputs, std::slice::from_ref(&v), method)
        .unwrap();
    let weights: &Tensor<2> = &v.blocks()[0];
    let expected = dense(&append_ones(inputs).matmul(weights.clone()));
    assert_close(
        "linear",
        &dense(&jvp.derivatives[0]),
        &expected,
        LIBRARY_F64,
    );
    assert!(dense(&jvp.outputs).norm_max() < f64::MIN_POSITIVE);
}

/// An output more, that is large and never moves: a finite mask.
#[derive(Module, Debug)]
struct WithMask {
    network: Mlp,
    #[module(skip)]
    value: f64,
}

impl Network for WithMask {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let outputs = self.network.forward(inputs, tape);
        let mask = outputs.clone().slice_dim(1, 0..1).zeros_like() + self.value;
        Tensor::cat(vec![outputs, mask], 1)
    }
}

#[test]
fn outputs_that_are_large_and_do_not_move_leave_the_derivatives_as_they_are() {
    let network = SPEC.model(1);
    let inputs = support::normal([9, 3], 2);
    let layers = layers_of(&network, &inputs);
    let direction = random_vector(&layers.parameters(&network), 3);
    let of = |value: f64| {
        let model = WithMask {
            network: network.clone(),
            value,
        };
        let method = DirectionalDerivatives::CentralDifferences;
        let directions = std::slice::from_ref(&direction);
        let jvp = directional_derivatives(&model, &layers, &inputs, directions, method).unwrap();
        dense(&jvp.derivatives[0])
    };
    let expected = of(0.0);
    for value in [-1e4, -1e9] {
        // Outputs of 1e9 keep seven digits, of which a change of 1e-4 takes four.
        assert_close(
            &format!("a mask of {value:e}"),
            &of(value),
            &expected,
            LIBRARY_F32,
        );
    }
}
