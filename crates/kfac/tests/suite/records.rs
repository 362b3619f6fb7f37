//! Inverses written down and made again, estimates from their factors, and how large damped blocks are.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};
use faer::Mat;
use kfac::{
    Batch, Categorical, InverseMethod, Layer, Network, PiNorm, RandomStream, ScaleShiftBlock, Tape,
    blocks::{
        BlockEstimate, BlockInverse, BlockOptions, BlockStructure, Blocks, EigenInverse, Factor,
        FactorSet, IdentityInverse, Record, RecordError,
    },
    curvature::FisherEstimator,
    damping::{DampingRule, ExactTikhonov, FactoredTikhonov},
};

use crate::support::{
    SEVERAL_POSITIONS, SEVERAL_TOKENS, Several, assert_near, classes, matrix_of, normal, parameter,
    relative, shape_of, tensor_bits,
};

const FACTORED: FactoredTikhonov = FactoredTikhonov { pi: PiNorm::Trace };
const GAMMA: f64 = 0.3;

/// Sums over the eigenvalues of matrices of condition below a thousand.
const INVERSES: f64 = 1e-10;

/// A layer of each structure.
#[derive(Module, Debug)]
struct Every {
    several: Several,
    offset: Param<Tensor<1>>,
}

impl Every {
    fn new() -> Self {
        Self {
            several: Several::new(),
            offset: parameter([3], 1.0, 2),
        }
    }
}

impl Network for Every {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;

    fn forward(&self, tokens: Tensor<2, Int>, tape: &mut Tape) -> Tensor<3> {
        let logits = self.several.forward(tokens, tape); // [n, R − 1, 3]
        logits + tape.parameter(&self.offset).unsqueeze()
    }
}

/// Each layer with its structure and its estimate, normalisations with either of their structures.
fn for_each(mut check: impl FnMut(&Layer, &dyn BlockStructure, &dyn BlockEstimate)) {
    let model = Every::new();
    let tokens: Tensor<2, Int> = classes([40, SEVERAL_POSITIONS], SEVERAL_TOKENS, 4);
    let targets: Tensor<2, Int> = classes([40, SEVERAL_POSITIONS - 1], 3, 5);
    let batch = Batch::new(tokens, targets);
    for scale_shift in [ScaleShiftBlock::Diagonal, ScaleShiftBlock::Full] {
        let options = BlockOptions::default().with_scale_shift(scale_shift);
        let (blocks, _) = Blocks::discover(&model, &batch.inputs, &options);
        assert_eq!(blocks.layers().len(), 5);
        let estimator = FisherEstimator::new(&blocks, &Categorical);
        let random = &mut RandomStream::from_seed(6);
        let factors: FactorSet = estimator.factors(&model, &batch, random).unwrap();
        for ((layer, structure), estimate) in blocks.iter().zip(&factors.blocks) {
            check(layer, structure, &**estimate);
        }
    }
}

/// A damped inverse, how it was made, and the rule that it was made by.
type Way = (String, Arc<dyn BlockInverse>, Arc<dyn DampingRule>);

/// The damped inverses of an estimate, by either method and either damping.
fn inverses(estimate: &dyn BlockEstimate) -> Vec<Way> {
    let factored: Arc<dyn DampingRule> = Arc::new(FACTORED);
    let exact: Arc<dyn DampingRule> = Arc::new(ExactTikhonov);
    let ways = [
        (InverseMethod::Cholesky, factored.clone()),
        (InverseMethod::Eigen, factored),
        (InverseMethod::Eigen, exact),
    ];
    let inverse = |(method, rule): (InverseMethod, Arc<dyn DampingRule>)| {
        let inversion = estimate.prepare(&*rule, method).invert(&*rule, GAMMA);
        assert!(inversion.repairs.is_empty());
        let what = format!("{method:?}, {rule:?}");
        (what, inversion.inverse.unwrap(), rule)
    };
    ways.into_iter().map(inverse).collect()
}

#[test]
fn an_inverse_made_again_from_its_record_multiplies_with_the_same_bits() {
    let mut forms = Vec::new();
    for_each(|layer, structure, estimate| {
        let v = normal(shape_of(layer), 7);
        for (what, inverse, _) in inverses(estimate) {
            let record = inverse.record();
            let restored = structure.restore(layer, &record).unwrap();
            let expected = tensor_bits(&inverse.multiply(v.clone()));
            let actual = tensor_bits(&restored.multiply(v.clone()));
            assert_eq!(actual, expected, "{}: {what}", layer.path);
            assert_eq!(restored.magnitudes(), inverse.magnitudes());
            assert_eq!(restored.record().form, record.form);
            forms.push(record.form);
        }
    });
    forms.sort();
    forms.dedup();
    assert_eq!(
        forms,
        [
            "diagonal",
            "eigen",
            "full",
            "groups",
            "kronecker",
            "one-hot"
        ]
    );
}

#[test]
fn every_structure_restores_the_identity() {
    for_each(|layer, structure, _| {
        let [rows, columns] = shape_of(layer);
        let identity = IdentityInverse::new(rows * columns);
        let restored = structure.restore(layer, &identity.record()).unwrap();
        assert_eq!(restored.downcast(), Some(&identity));
    });
}

#[test]
fn a_record_of_another_form_is_refused_with_both_names() {
    for_each(|layer, structure, _| {
        let record = Record::new("circulant");
        let error = structure.restore(layer, &record).unwrap_err();
        let RecordError::Form { found, expected } = &error else {
            panic!("{}: {error}", layer.path);
        };
        assert_eq!(found, "circulant");
        assert!(expected.contains("`identity`"), "{expected}");
        let text = format!("the record is of the form `circulant`, expected {expected}");
        assert_eq!(error.to_string(), text);
    });
}

#[test]
fn what_a_record_lacks_is_named() {
    for_each(|layer, structure, estimate| {
        for (_, inverse, _) in inverses(estimate) {
            let record = Record::new(&inverse.record().form);
            match structure.restore(layer, &record) {
                Err(RecordError::Missing { form, .. }) => assert_eq!(form, record.form),
                // The groups are the parts that there are.
                Ok(_) => assert!(["groups", "eigen"].contains(&record.form.as_str())),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn an_estimate_is_what_its_factors_make_it() {
    for_each(|layer, structure, estimate| {
        let tensors = |factors: Vec<Factor<'_>>| -> Vec<Tensor<2>> {
            factors
                .into_iter()
                .map(|factor| factor.tensor.clone())
                .collect()
        };
        let factors = tensors(estimate.factors());
        let again = structure.estimate(layer, factors.clone()).unwrap();
        let other = estimate.with_factors(factors.clone());
        let v = normal(shape_of(layer), 8);
        let expected = tensor_bits(&estimate.multiply(v.clone()));
        for (what, same) in [("estimate", again), ("with_factors", other)] {
            let product = tensor_bits(&same.multiply(v.clone()));
            assert_eq!(product, expected, "{}: {what}", layer.path);
        }
        // Factors of another number or shape make no block.
        let path = &layer.path;
        assert!(structure.estimate(layer, Vec::new()).is_none(), "{path}");
        let mut more = factors.clone();
        more.push(factors[0].clone());
        assert!(structure.estimate(layer, more).is_none(), "{path}");
        for at in 0..factors.len() {
            let mut wrong = factors.clone();
            wrong[at] = normal([7, 7], 9);
            assert!(
                structure.estimate(layer, wrong).is_none(),
                "{path}, factor {at}"
            );
        }
    });
}

/// The damped block as a dense matrix.
fn damped_block(
    estimate: &dyn BlockEstimate,
    rule: &dyn DampingRule,
    shape: [usize; 2],
) -> Mat<f64> {
    match estimate.damped(rule, GAMMA) {
        Some(damped) => matrix_of(shape, |v| damped.multiply(v)),
        None => matrix_of(shape, |v| {
            estimate.multiply(v.clone()) + v * rule.block(GAMMA)
        }),
    }
}

#[test]
fn magnitudes_are_those_of_the_dense_damped_block() {
    for_each(|layer, _, estimate| {
        for (what, inverse, rule) in inverses(estimate) {
            let what = format!("{}: {what}", layer.path);
            let block = damped_block(estimate, &*rule, shape_of(layer));
            let size = block.nrows();
            let product = &block * matrix_of(shape_of(layer), |v| inverse.multiply(v));
            let identity = Mat::<f64>::identity(size, size);
            assert!(relative(&product, &identity) < INVERSES, "{what}");
            let eigenvalues = block.self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
            let actual = inverse.magnitudes();
            assert_eq!(actual.dimension, size, "{what}");
            let logarithms: f64 = eigenvalues.iter().map(|value| value.ln()).sum();
            assert_near(&what, actual.log_determinant, logarithms, INVERSES);
            let trace: f64 = (0..size).map(|i| block[(i, i)]).sum();
            assert_near(&what, actual.trace, trace, INVERSES);
            assert_near(&what, actual.frobenius_norm, block.norm_l2(), INVERSES);
        }
    });
}

#[test]
fn eigen_inverses_have_a_basis_for_each_group() {
    for_each(|layer, _, estimate| {
        let rule: &dyn DampingRule = &ExactTikhonov;
        let inverse = estimate
            .prepare(rule, InverseMethod::Eigen)
            .invert(rule, GAMMA);
        let inverse = inverse.inverse.unwrap();
        if let Some(eigen) = inverse.downcast::<EigenInverse>() {
            assert_eq!(eigen.bases().len(), layer.action.groups());
        }
    });
}
