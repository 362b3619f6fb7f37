//! Parts of the user's own that break their promises are refused by name, and leave no trace.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    nn::Linear,
    optim::GradientsParams,
    tensor::Tensor,
};
use kfac::{
    Batch, Extensions, FactorAction, FactorKind, Gaussian, InitError, InverseStructure, Kfac,
    LayerParameters, Network, Objective, ObjectiveError, Preconditioner, PreconditionerConfig,
    StepError, Tape, WeightLayout,
    blocks::Full,
    damping::{
        DampingRule, Evidence, FactorNorms, FixedLambda, LambdaRule, LambdaState, LambdaUpdate,
        ProductDamping,
    },
};

use crate::support::{
    Fault, Faulty, TwoLayers, bits, dense_layer, exact_config, gradients, normal, of_values,
    parameter,
};

fn batch() -> Batch<Tensor<2>> {
    Batch::new(normal([12, 3], 1), normal([12, 2], 2))
}

/// Both optimizers of a model, which is theirs.
struct Both {
    model: TwoLayers,
    kfac: Kfac<Gaussian>,
    front: Preconditioner<Gaussian>,
}

fn both(extensions: &Extensions) -> Both {
    let (model, batch) = (TwoLayers::new([3, 4, 2], 3), batch());
    let kfac = exact_config().init_with(extensions.clone(), &model, Gaussian, &batch.inputs);
    let config = PreconditionerConfig::new();
    let front = config.init_with(extensions.clone(), &model, Gaussian, &batch.inputs);
    Both {
        model,
        kfac: kfac.unwrap(),
        front: front.unwrap(),
    }
}

/// The errors of a step, and of the calls in front of another optimizer.
fn errors(extensions: &Extensions) -> [StepError; 2] {
    let Both {
        mut model,
        mut kfac,
        mut front,
    } = both(extensions);
    let (before, batch) = (bits(&model), batch());
    let error = kfac.step(&mut model, &batch).unwrap_err();
    assert_eq!(bits(&model), before);
    assert_eq!(kfac.iteration(), 0);
    let called = front.observe(&model, &batch).and_then(|_| {
        let gradients = gradients(&model, &batch);
        front.precondition(&model, gradients, 1.0).map(|_| ())
    });
    [error, called.unwrap_err()]
}

/// A damping rule that gives what it is told.
#[derive(Clone, Debug)]
struct Given {
    pi: f64,
    product: ProductDamping,
    block: f64,
}

impl DampingRule for Given {
    fn balance(&self, _activation: &dyn FactorNorms, _gradient: &dyn FactorNorms) -> f64 {
        self.pi
    }

    fn product(&self, _gamma: f64, _pi: f64) -> ProductDamping {
        self.product
    }

    fn block(&self, _gamma: f64) -> f64 {
        self.block
    }
}

#[test]
fn a_damping_that_damps_nothing_is_named() {
    let factored = |activation, gradient| ProductDamping::Factored {
        activation,
        gradient,
    };
    let given = |pi, product, block| Given { pi, product, block };
    let rules = [
        (given(f64::NAN, factored(0.1, 0.1), 0.1), "the balance"),
        (given(1.0, factored(-0.1, 0.1), 0.1), "a damping"),
        (given(1.0, factored(0.1, f64::NAN), 0.1), "a damping"),
        (given(1.0, ProductDamping::Exact(-1e-9), 0.1), "a damping"),
        (given(1.0, factored(0.1, 0.1), f64::INFINITY), "a damping"),
    ];
    for (rule, expected) in rules {
        let extensions = Extensions::new().with_damping(Arc::new(rule));
        for error in errors(&extensions) {
            assert!(
                matches!(&error, StepError::Damping { layer, quantity, .. }
                    if layer == "hidden" && *quantity == expected),
                "{error}"
            );
        }
    }
}

fn with_fault(fault: Fault) -> Extensions {
    Extensions::new().with_structure(
        "last",
        Arc::new(Faulty {
            of: Arc::new(Full),
            fault,
        }),
    )
}

#[test]
fn a_block_of_another_shape_is_named_with_both() {
    let shapes = [
        (Fault::OtherFactor, "factor", [10, 10], [20, 10]),
        (
            Fault::Transposed,
            "product with the inverse",
            [5, 2],
            [2, 5],
        ),
    ];
    for (fault, quantity, expected, found) in shapes {
        for error in errors(&with_fault(fault)) {
            let layer = "last".to_owned();
            let shape = StepError::BlockShape {
                layer,
                quantity,
                expected,
                found,
            };
            assert_eq!(error, shape);
        }
    }
}

#[test]
fn a_negative_block_is_told_by_the_product_with_the_gradient() {
    let Both {
        mut model,
        mut kfac,
        mut front,
    } = both(&with_fault(Fault::Negative));
    let batch = batch();
    front.observe(&model, &batch).unwrap();
    let gradients = gradients(&model, &batch);
    let error = front.precondition(&model, gradients, 1.0).unwrap_err();
    assert!(
        matches!(error, StepError::Indefinite { value } if value < 0.0),
        "{error}"
    );
    // A step chooses how far and which way to go by the quadratic model.
    let before = kfac.objective(&model, &batch).unwrap();
    kfac.step(&mut model, &batch).unwrap();
    assert!(kfac.objective(&model, &batch).unwrap() < before);
}

#[test]
fn a_block_without_an_inverse_is_reported() {
    let Both {
        mut model,
        mut kfac,
        mut front,
    } = both(&with_fault(Fault::NoInverse));
    let repairs = kfac.step(&mut model, &batch()).unwrap().repairs;
    front.observe(&model, &batch()).unwrap();
    for repairs in [&repairs[..], front.repairs()] {
        assert_eq!(repairs.len(), 1);
        assert_eq!(repairs[0].layer, "last");
        assert_eq!(repairs[0].factor, FactorKind::Block);
        let kept = FactorAction::KeptLastInverse { pivot: None };
        assert_eq!(repairs[0].action, kept);
    }
}

type Gradients = fn(&TwoLayers) -> GradientsParams;

/// An objective whose gradients are not its own.
struct Other(Gradients);

impl Objective<TwoLayers, Tensor<2>> for Other {
    fn value(&self, _: &TwoLayers, _: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        Ok(1.0)
    }

    fn value_and_gradients(
        &self,
        model: &TwoLayers,
        _: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        Ok((1.0, (self.0)(model)))
    }
}

#[test]
fn gradients_that_are_not_the_models_are_refused() {
    let transposed = |model: &TwoLayers| {
        let mut gradients = of_values(model);
        let id = model.last.weight.id;
        gradients.register(id, model.last.weight.val().inner().transpose());
        gradients
    };
    let misshapen = StepError::GradientShape {
        parameter: "last.weight".to_owned(),
        expected: vec![4, 2],
        found: vec![2, 4],
    };
    let cases: [(Gradients, StepError); 3] = [
        (|_| GradientsParams::new(), StepError::NoGradients),
        (
            |_| of_values(&TwoLayers::new([3, 4, 2], 9)),
            StepError::NoGradients,
        ),
        (transposed, misshapen),
    ];
    for (gradients, expected) in cases {
        let Both {
            mut model,
            mut kfac,
            mut front,
        } = both(&Extensions::new());
        let (before, batch) = (bits(&model), batch());
        let error = kfac
            .step_with(&mut model, &batch, &Other(gradients))
            .unwrap_err();
        assert_eq!(error, expected);
        assert_eq!(bits(&model), before);
        front.observe(&model, &batch).unwrap();
        let error = front
            .precondition(&model, gradients(&model), 1.0)
            .unwrap_err();
        assert_eq!(error, expected);
    }
    // A layer that the objective does not reach has a gradient of zero.
    let hidden = |model: &TwoLayers| of_values(&model.hidden);
    let Both {
        mut model,
        mut kfac,
        ..
    } = both(&Extensions::new());
    kfac.step_with(&mut model, &batch(), &Other(hidden))
        .unwrap();
}

/// A layer of its own that may say something wrong about itself.
#[derive(Module, Debug)]
struct Own {
    weight: Param<Tensor<2>>,
    last: Linear,
    #[module(skip)]
    shape: [usize; 2],
    #[module(skip)]
    rows: usize,
}

impl Own {
    fn new(shape: [usize; 2], rows: usize) -> Self {
        Self {
            weight: parameter([3, 4], 0.5, 1),
            last: dense_layer([4, 2], 2),
            shape,
            rows,
        }
    }
}

impl Network for Own {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let parameters = LayerParameters {
            name: "own",
            weight: &self.weight,
            bias: None,
            layout: WeightLayout::InputsFirst,
            shape: self.shape,
        };
        let rows = |x: Tensor<2>| x.inner().unsqueeze_dim::<3>(1).repeat_dim(1, self.rows);
        let hidden = tape.layer(parameters, x, |x| x.matmul(self.weight.val()), rows);
        tape.linear(&self.last, hidden.tanh())
    }
}

#[test]
fn a_layer_that_misdescribes_itself_is_refused() {
    let config = exact_config();
    let error = config.init(&Own::new([4, 4], 1), Gaussian, &batch().inputs);
    let shape = InitError::LayerShape {
        parameter: "weight".to_owned(),
        found: vec![3, 4],
        layer: [4, 4],
    };
    assert_eq!(error.unwrap_err(), shape);
    for structure in [
        InverseStructure::BlockDiagonal,
        InverseStructure::BlockTridiagonal,
    ] {
        let config = exact_config().map_curvature(|c| c.with_structure(structure));
        let mut model = Own::new([3, 4], 2);
        let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
        let error = optimizer.step(&mut model, &batch()).unwrap_err();
        let rows = StepError::LayerRows {
            layer: "weight".to_owned(),
            rows: [12, 2],
            outputs: [12, 1],
        };
        assert!(error == rows, "{error}");
        let mut right = Own::new([3, 4], 1);
        let mut optimizer = config.init(&right, Gaussian, &batch().inputs).unwrap();
        optimizer.step(&mut right, &batch()).unwrap();
    }
}

/// A rule whose λ is none once a step was taken back.
#[derive(Debug)]
struct LostAfterwards;

impl LambdaRule for LostAfterwards {
    fn start(&self) -> LambdaState {
        FixedLambda(1e-3).start()
    }

    fn wants_evidence(&self, _: LambdaState, _: u64) -> bool {
        false
    }

    fn update(
        &self,
        state: LambdaState,
        iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        FixedLambda(1e-3).update(state, iteration, evidence)
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        LambdaState {
            lambda: f64::NAN,
            ..state
        }
    }
}

#[test]
fn a_lambda_lost_when_a_step_is_taken_back_is_named() {
    let Both {
        mut model, kfac, ..
    } = both(&Extensions::new());
    let mut optimizer = kfac.with_lambda_rule(Arc::new(LostAfterwards));
    optimizer.step(&mut model, &batch()).unwrap();
    let bad = Batch::new(batch().inputs, batch().targets * 1e300);
    let error = optimizer.step(&mut model, &bad).unwrap_err();
    assert!(
        matches!(error, StepError::Lambda { lambda } if lambda.is_nan()),
        "{error}"
    );
}
