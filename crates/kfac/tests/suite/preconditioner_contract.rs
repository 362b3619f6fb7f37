//! Does a preconditioner keep its schedule, leave alone what is not its own, and refuse by name what it
//! cannot use?

use std::collections::HashSet;

use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    nn::Linear,
    optim::GradientsParams,
    tensor::{DType, Tensor},
};
use kfac::{
    Batch, ConfigFault, Coverage, CoveragePolicy, Eigenvalues, FactorKind, FisherEstimate,
    Gaussian, InitError, InverseMethod, InverseStructure, Network, Preconditioner,
    PreconditionerConfig, Quantity, StepError, Tape, WeightSharing, blocks::EigenInverse,
    curvature::FisherInverse,
};

use crate::support::preconditioning::{SPEC, batch, config, ekfac, exact_damping, preconditioner};
use crate::support::{self, Mlp, column, gradients, linear, normal, of_values, tensor_bits};

fn factor_bits(kfac: &Preconditioner<Gaussian>) -> Vec<Vec<u64>> {
    let factors = kfac.factors().kronecker();
    factors
        .into_iter()
        .flat_map(|layer| [&layer.activation, &layer.gradient].map(tensor_bits))
        .collect()
}

/// The bits of a product with the inverse.
fn inverse_bits(kfac: &Preconditioner<Gaussian>, model: &Mlp) -> Vec<u64> {
    let parameters = kfac.layers().parameters(model);
    let vector = support::random_vector(&parameters, 5);
    let product = kfac
        .inverse()
        .map(|inverse| column(&inverse.multiply(&vector)));
    product.map_or_else(Vec::new, |product| {
        (0..product.nrows())
            .map(|i| product[(i, 0)].to_bits())
            .collect()
    })
}

fn basis_bits(kfac: &Preconditioner<Gaussian>) -> Vec<Vec<u64>> {
    let blocks = kfac.inverse().into_iter().flat_map(FisherInverse::blocks);
    blocks
        .filter_map(|block| block.downcast::<EigenInverse>())
        .flat_map(EigenInverse::bases)
        .map(|basis| tensor_bits(&basis.gradient_basis))
        .collect()
}

#[test]
fn statistics_and_inverse_change_only_when_they_are_due() {
    for config in [config(), ekfac()] {
        let corrected = config.curvature.eigenvalues == Eigenvalues::PerCase;
        let config = config.map_curvature(|c| c.with_statistics_period(2).with_inverse_period(4));
        let model = SPEC.model(1);
        let mut kfac = preconditioner(&config, &model);
        assert!(kfac.inverse().is_none() && kfac.factors().blocks.is_empty());
        for call in 1..=10 {
            let before = (
                factor_bits(&kfac),
                inverse_bits(&kfac, &model),
                basis_bits(&kfac),
            );
            kfac.observe(&model, &batch(call)).unwrap();
            assert_eq!(kfac.observations(), call);
            let (statistics, refresh) = (call % 2 == 1, call % 4 == 1);
            let what = format!("call {call}, corrected {corrected}");
            assert_eq!(before.0 != factor_bits(&kfac), statistics, "{what}");
            let inverse = refresh || (corrected && statistics);
            assert_eq!(before.1 != inverse_bits(&kfac, &model), inverse, "{what}");
            assert_eq!(
                before.2 != basis_bits(&kfac),
                corrected && refresh,
                "{what}"
            );
            assert!(kfac.repairs().is_empty());
        }
    }
}

/// Layers of which one is frozen, one is off the tape and one has a frozen bias.
#[derive(Module, Debug)]
struct Partial {
    frozen: Linear,
    off: Linear,
    unbiased: Linear,
    last: Linear,
}

impl Network for Partial {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.linear(&self.frozen, inputs).tanh();
        let hidden = self.off.forward(hidden).tanh();
        let hidden = tape.linear(&self.unbiased, hidden).tanh();
        tape.linear(&self.last, hidden)
    }
}

fn partial() -> Partial {
    let layer = |sizes, seed| linear(sizes, true, (DType::F64, seed));
    let unbiased: Linear = layer([4, 3], 3);
    let bias = unbiased
        .bias
        .map(|bias| bias.map(|value| value.set_require_grad(false)));
    Partial {
        frozen: layer([3, 3], 1).no_grad(),
        off: layer([3, 4], 2),
        unbiased: Linear { bias, ..unbiased },
        last: layer([3, 2], 4),
    }
}

impl Partial {
    fn gradients(&self, batch: &Batch<Tensor<2>>) -> GradientsParams {
        let outputs = self.forward(batch.inputs.clone(), &mut Tape::off());
        GradientsParams::from_grads((outputs.clone() * outputs).sum().backward(), self)
    }

    fn observed(&self, config: &PreconditionerConfig) -> Preconditioner<Gaussian> {
        let mut kfac = config.init(self, Gaussian, &batch(1).inputs).unwrap();
        kfac.observe(self, &batch(1)).unwrap();
        kfac
    }
}

fn weight_bits(gradients: &GradientsParams, layer: &Linear) -> Vec<u64> {
    tensor_bits(&gradients.get::<2>(layer.weight.id).unwrap())
}

fn bias_bits(gradients: &GradientsParams, layer: &Linear) -> Vec<u64> {
    let bias = layer.bias.as_ref().unwrap().id;
    tensor_bits(&gradients.get::<1>(bias).unwrap().unsqueeze())
}

fn has(gradients: &GradientsParams, id: ParamId) -> bool {
    gradients.get::<1>(id).is_some()
}

#[test]
fn parameters_without_a_block_keep_their_gradients() {
    let model = partial();
    let mut kfac = model.observed(&config().with_kl_clip(Some(1e-3)));
    let table = kfac.parameter_table();
    let uncovered: HashSet<&str> = table.uncovered().collect();
    assert_eq!(uncovered, HashSet::from(["off.weight", "off.bias"]));
    let frozen = table.rows().iter();
    let frozen = frozen.filter(|row| row.coverage == Coverage::Frozen);
    let frozen: HashSet<&str> = frozen.map(|row| row.path.as_str()).collect();
    let expected = ["frozen.weight", "frozen.bias", "unbiased.bias"];
    assert_eq!(frozen, HashSet::from(expected));

    let plain = model.gradients(&batch(2));
    let found = kfac
        .precondition(&model, model.gradients(&batch(2)), 1.0)
        .unwrap()
        .gradients;
    assert_eq!((plain.len(), found.len()), (5, 5));
    for bits in [weight_bits, bias_bits] {
        assert_eq!(bits(&plain, &model.off), bits(&found, &model.off));
        assert_ne!(bits(&plain, &model.last), bits(&found, &model.last));
    }
    let unbiased = &model.unbiased;
    assert_ne!(weight_bits(&plain, unbiased), weight_bits(&found, unbiased));
    assert!(!has(&found, unbiased.bias.as_ref().unwrap().id));
    assert!(!has(&found, model.frozen.bias.as_ref().unwrap().id));
}

#[test]
fn a_missing_gradient_counts_as_zero_and_stays_missing() {
    let model = partial();
    let mut kfac = model.observed(&config());
    let bias = model.last.bias.as_ref().unwrap().id;
    let without = || {
        let mut gradients = model.gradients(&batch(2));
        let missing: Option<Tensor<1>> = gradients.remove(bias);
        (gradients, missing.unwrap().zeros_like())
    };
    let (gradients, _) = without();
    let found = kfac.precondition(&model, gradients, 1.0).unwrap().gradients;
    let (mut gradients, zero) = without();
    gradients.register(bias, zero);
    let expected = kfac.precondition(&model, gradients, 1.0).unwrap().gradients;
    assert!(!has(&found, bias) && has(&expected, bias));
    for layer in [&model.off, &model.unbiased, &model.last] {
        assert_eq!(weight_bits(&found, layer), weight_bits(&expected, layer));
    }
}

#[test]
fn a_refused_observation_leaves_no_trace() {
    let corrected = ekfac().map_curvature(|c| c.with_fisher(FisherEstimate::MonteCarlo));
    for config in [config(), corrected] {
        let config = config.map_curvature(|c| c.with_inverse_period(2));
        let model = SPEC.model(1);
        let mut kfac = preconditioner(&config, &model);
        let mut undisturbed = kfac.clone();
        let bad = Batch::new(batch(1).inputs * f64::NAN, batch(1).targets);
        let inputs = batch(1).inputs;
        let too_few = Batch::new(inputs.clone(), batch(1).targets.slice_dim(0, 0..5));
        let empty = batch(1).slice(0..0);
        for call in 1..=5 {
            let error = kfac.observe(&model, &bad).unwrap_err();
            let expected = StepError::NonFinite {
                quantity: Quantity::Factor(FactorKind::Activation),
                layer: Some("layers.0".to_owned()),
            };
            assert_eq!(error, expected);
            let error = kfac.observe(&model, &too_few).unwrap_err();
            let (inputs, targets) = (9, 5);
            assert_eq!(error, StepError::CaseCount { inputs, targets });
            let error = kfac.observe(&model, &empty).unwrap_err();
            assert_eq!(error, StepError::EmptyBatch);
            assert_eq!(kfac.observations(), call - 1);
            kfac.observe(&model, &batch(call)).unwrap();
            undisturbed.observe(&model, &batch(call)).unwrap();
            assert_eq!(factor_bits(&kfac), factor_bits(&undisturbed));
            let inverse = |kfac| inverse_bits(kfac, &model);
            assert_eq!(inverse(&kfac), inverse(&undisturbed), "call {call}");
        }
    }
}

#[test]
fn targets_of_another_shape_are_refused() {
    let model = SPEC.model(1);
    let wide = Batch::new(batch(1).inputs, normal([9, 3], 1));
    for estimate in [FisherEstimate::Empirical, FisherEstimate::MonteCarlo] {
        let config = config().map_curvature(|c| c.with_fisher(estimate));
        let error = preconditioner(&config, &model)
            .observe(&model, &wide)
            .unwrap_err();
        let (outputs, targets) = (vec![9, 2], vec![9, 3]);
        assert_eq!(error, StepError::OutputShape { outputs, targets });
    }
}

#[test]
fn bad_gradients_are_refused_by_name() {
    let model = SPEC.model(1);
    let mut kfac = preconditioner(&config(), &model);
    let plain = || gradients(&model, &batch(1));
    let error = kfac.precondition(&model, plain(), 1.0).unwrap_err();
    assert_eq!(error, StepError::NotObserved);
    assert!(error.to_string().contains("observe"), "{error}");

    kfac.observe(&model, &batch(1)).unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        let mut gradients = plain();
        let last = model.layers[1].weight.id;
        let gradient: Tensor<2> = gradients.remove(last).unwrap();
        gradients.register(last, gradient.slice_fill([0..1, 0..1], bad));
        let error = kfac.precondition(&model, gradients, 1.0).unwrap_err();
        let (quantity, layer) = (Quantity::Gradient, Some("layers.1".to_owned()));
        assert_eq!(error, StepError::NonFinite { quantity, layer });
    }

    let huge = of_values(&model.clone().map(&mut Scale(1e307)));
    let error = kfac.precondition(&model, huge, 1.0).unwrap_err();
    let StepError::NonFinite { quantity, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(quantity, Quantity::PreconditionedGradient);

    let other = SPEC.model(1);
    let foreign = gradients(&other, &batch(1));
    let error = kfac.precondition(&other, foreign, 1.0).unwrap_err();
    let parameter = "layers.0.weight".to_owned();
    assert_eq!(error, StepError::OtherParameter { parameter });
    kfac.precondition(&model, plain(), 1.0).unwrap();
}

/// Makes all parameters larger.
struct Scale(f64);

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| (value.inner() * self.0).autodiff().require_grad())
    }
}

#[test]
fn faults_are_told_before_anything_is_made() {
    let model = SPEC.model(1);
    let inputs = batch(1).inputs;
    let error = |config: &PreconditionerConfig| config.init(&model, Gaussian, &inputs).unwrap_err();
    let faulty = PreconditionerConfig::new()
        .with_lambda(0.0)
        .map_curvature(|c| {
            c.with_statistics_period(3)
                .with_inverse_period(10)
                .with_statistics_cap(1.0)
                .with_chunk_size(0)
        })
        .with_kl_clip(Some(-1.0))
        .map_curvature(|c| {
            c.with_eigenvalues(Eigenvalues::BatchMean)
                .with_fisher(FisherEstimate::Exact)
        });
    let found = error(&faulty);
    let InitError::Configuration(faults) = &found else {
        panic!("{found:?}")
    };
    assert_eq!(faults.len(), 7, "{faults:?}");
    let message = found.to_string();
    for setting in [
        "lambda is 0",
        "statistics_cap is 1",
        "chunk_size is 0",
        "kl_clip is -1",
        "inverse_period is 10, expected a multiple of statistics_period 3",
        "eigenvalues are corrected",
        "eigenvalues are batch_mean",
    ] {
        assert!(message.contains(setting), "no `{setting}` in: {message}");
    }
    let no_period = PreconditionerConfig::new().map_curvature(|c| c.with_statistics_period(0));
    assert_eq!(no_period.validate().len(), 1);
    let tridiagonal = exact_damping().map_curvature(|c| {
        c.with_inverse_method(InverseMethod::Cholesky)
            .with_structure(InverseStructure::BlockTridiagonal)
    });
    let expected = [
        ConfigFault::CholeskyOfExactDamping,
        ConfigFault::TridiagonalOfExactDamping,
    ];
    assert_eq!(tridiagonal.validate(), expected);

    let of = vec![("layers.7".to_owned(), WeightSharing::Reduce)];
    let paths = vec!["layers.7".to_owned()];
    let named = error(&config().map_curvature(|c| c.with_weight_sharing_of(of)));
    assert_eq!(named, InitError::UnknownLayers { paths });
    let plain = config().init(&model.valid(), Gaussian, &inputs);
    assert_eq!(plain.unwrap_err(), InitError::NoAutodiff);
    let strict = config().map_curvature(|c| c.with_coverage(CoveragePolicy::Strict));
    let found = strict.init(&partial(), Gaussian, &inputs).unwrap_err();
    let parameters = vec!["off.weight".to_owned(), "off.bias".to_owned()];
    assert_eq!(found, InitError::Uncovered { parameters });
}
