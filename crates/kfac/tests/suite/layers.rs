//! The contract of every kind of block: positive definite, at ease with no gradient and with one case,
//! the same after a record, the same in both precisions, and of use.

use std::sync::Arc;

use burn::{
    module::Module,
    store::ModuleRecord,
    tensor::{DType, Tensor},
};
use faer::Mat;
use kfac::{
    Batch, DampingScheme, Eigenvalues, FactorKind, FisherEstimate, Gaussian, InverseMethod, Kfac,
    KfacConfig, PiNorm, PredictiveDistribution, RandomStream, ScaleShiftBlock, StepOutcome,
    blocks::BlockEstimate,
};

use crate::support::host;
use crate::support::{
    self, Kind, KindNetwork, assert_close, assert_near, bits, column, dense, exact_config,
    random_vector,
};

/// Products with symmetric matrices of condition at most 1e4, in double precision.
const ROUNDING: f64 = 1e-11;
/// Single precision, 6e-8, through sums of a hundred terms, and the gain of a normalisation of a few
/// features.
const SINGLE: f64 = 6e-6;
/// A step's coefficients come from central differences, of relative error 1e-9; only the rounding of
/// sums over cases differs.
const DIFFERENCES: f64 = 1e-9;
const STEPS: usize = 10;

/// Every kind, with every block that it may have.
fn kinds() -> impl Iterator<Item = (Kind, ScaleShiftBlock)> {
    Kind::ALL.into_iter().flat_map(|kind| {
        let full = kind.scales().then_some(ScaleShiftBlock::Full);
        std::iter::once(ScaleShiftBlock::Diagonal)
            .chain(full)
            .map(move |block| (kind, block))
    })
}

/// A refresh in the first iteration and then none for a while, so that eigenvalues are corrected.
fn config(damping: DampingScheme, method: InverseMethod) -> KfacConfig {
    exact_config().map_curvature(|c| {
        c.with_damping(damping)
            .with_inverse_method(method)
            .with_initial_refreshes(1)
    })
}

/// Each way to invert a block.
fn inverses() -> [KfacConfig; 5] {
    let factored = DampingScheme::FactoredTikhonov { pi: PiNorm::Trace };
    let exact = config(DampingScheme::ExactTikhonov, InverseMethod::Automatic);
    [
        config(factored, InverseMethod::Automatic),
        config(factored, InverseMethod::Eigen),
        exact.clone(),
        exact
            .clone()
            .map_curvature(|c| c.with_eigenvalues(Eigenvalues::PerCase)),
        exact.map_curvature(|c| {
            c.with_eigenvalues(Eigenvalues::BatchMean)
                .with_fisher(FisherEstimate::MonteCarlo)
        }),
    ]
}

/// An optimizer after some steps on one batch, none of which may fail or be rejected.
fn stepped<L: PredictiveDistribution + Clone>(
    config: &KfacConfig,
    loss: L,
    (model, batch): (&mut KindNetwork, &Batch<Tensor<2>>),
    steps: usize,
) -> Kfac<L> {
    let (optimizer, reports) = support::run(config, loss, model, batch, steps);
    for report in reports {
        assert_eq!(report.outcome, StepOutcome::Taken);
        assert!(report.repairs.is_empty(), "{:?}", report.repairs);
    }
    optimizer
}

/// `vᵀ F⁻¹ v > 0` and `uᵀ F⁻¹ v = vᵀ F⁻¹ u` for each layer.
fn assert_positive_definite<L: PredictiveDistribution + Clone>(
    what: &str,
    optimizer: &Kfac<L>,
    model: &KindNetwork,
) {
    let shape = optimizer.layers().parameters(model);
    let inverse = optimizer.inverse().unwrap();
    for seed in 0..5 {
        let (u, v) = (random_vector(&shape, seed), random_vector(&shape, seed + 9));
        for (layer, block) in inverse.blocks().iter().enumerate() {
            let (u, v) = (&u.blocks()[layer], &v.blocks()[layer]);
            let product =
                |x: &Tensor<2>, y: &Tensor<2>| host::sum(x.clone() * block.multiply(y.clone()));
            let (own, other) = (product(u, u), product(v, v));
            assert!(own > 0.0 && own.is_finite(), "{what}, layer {layer}: {own}");
            // Relative to the bound of Cauchy and Schwarz, since the two may be nearly orthogonal.
            let difference = (product(u, v) - product(v, u)).abs() / (own * other).sqrt();
            assert!(
                difference < ROUNDING,
                "{what}, layer {layer}: {difference:e}"
            );
        }
    }
}

#[test]
fn inverses_are_symmetric_and_positive_definite() {
    for (kind, block) in kinds() {
        for config in inverses() {
            let config = config.map_curvature(|c| c.with_scale_shift(block));
            let mut model = kind.model(1);
            let batch = Kind::batch(9, 2);
            let optimizer = stepped(&config, Gaussian, (&mut model, &batch), 4);
            let what = format!("{kind:?}, {block:?}, {config:?}");
            assert_positive_definite(&what, &optimizer, &model);
        }
    }
}

#[test]
fn exact_damping_inverts_the_block_plus_the_damping() {
    for (kind, block) in kinds() {
        let config = config(DampingScheme::ExactTikhonov, InverseMethod::Automatic);
        let mut model = kind.model(1);
        let batch = Kind::batch(9, 2);
        let config = config.map_curvature(|c| c.with_scale_shift(block));
        let optimizer = stepped(&config, Gaussian, (&mut model, &batch), 1);
        let v = random_vector(&optimizer.layers().parameters(&model), 3);
        let found = optimizer.inverse().unwrap().multiply(&v);
        let damping = optimizer.gamma().powi(2);
        for (layer, factors) in optimizer.factors().blocks.iter().enumerate() {
            let (found, expected) = (&found.blocks()[layer], &v.blocks()[layer]);
            let back = factors.multiply(found.clone()) + found.clone() * damping;
            let what = format!("{kind:?}, {block:?}, layer {layer}");
            assert_close(&what, &dense(&back), &dense(expected), ROUNDING);
        }
    }
}

/// A loss that does not depend on the outputs.
#[derive(Clone, Copy, Debug)]
struct Dead;

impl PredictiveDistribution for Dead {
    fn negative_log_likelihood(&self, outputs: Tensor<2>, _targets: Tensor<2>) -> Tensor<1> {
        (outputs.sum_dim(1) * 0.0).squeeze_dim(1)
    }

    fn output_gradient(&self, outputs: Tensor<2>, _targets: Tensor<2>) -> Tensor<2> {
        outputs.zeros_like()
    }

    fn sample(&self, outputs: Tensor<2>, _random: &mut RandomStream) -> Tensor<2> {
        outputs
    }

    fn fisher_factor_product(&self, outputs: Tensor<2>, _vectors: Tensor<2>) -> Tensor<2> {
        outputs.zeros_like()
    }

    fn fisher_factor_transpose_product(
        &self,
        outputs: Tensor<2>,
        _vectors: Tensor<2>,
    ) -> Tensor<2> {
        outputs.zeros_like()
    }
}

/// The factors of the gradients, or the block where it is no product.
fn of_gradients(factors: &Arc<dyn BlockEstimate>) -> Vec<Mat<f64>> {
    let factors = factors.factors().into_iter();
    let own = factors.filter(|factor| factor.kind != FactorKind::Activation);
    own.map(|factor| dense(factor.tensor)).collect()
}

/// The factors of the inputs; none where the block is no product.
fn of_inputs(factors: &Arc<dyn BlockEstimate>) -> Vec<Mat<f64>> {
    let factors = factors.factors().into_iter();
    let own = factors.filter(|factor| factor.kind == FactorKind::Activation);
    own.map(|factor| dense(factor.tensor)).collect()
}

#[test]
fn gradients_of_zero_leave_a_finite_inverse() {
    for (kind, block) in kinds() {
        for config in inverses() {
            let config = config.map_curvature(|c| c.with_scale_shift(block));
            let mut model = kind.model(1);
            let batch = Kind::batch(6, 2);
            let optimizer = stepped(&config, Dead, (&mut model, &batch), 3);
            let what = format!("{kind:?}, {block:?}, {config:?}");
            for factors in &optimizer.factors().blocks {
                let gradients = of_gradients(factors).into_iter();
                // Zeros in, zeros out, without rounding.
                assert!(
                    gradients
                        .map(|g| g.norm_max())
                        .all(|g| g < f64::MIN_POSITIVE),
                    "{what}"
                );
            }
            assert_positive_definite(&what, &optimizer, &model);
            assert!(
                column(&optimizer.layers().parameters(&model))
                    .norm_l2()
                    .is_finite()
            );
        }
    }
}

#[test]
fn a_batch_of_one_case_is_enough() {
    for (kind, block) in kinds() {
        for config in inverses() {
            let config = config.map_curvature(|c| c.with_scale_shift(block));
            let mut model = kind.model(1);
            let batch = Kind::batch(1, 2);
            let optimizer = stepped(&config, Gaussian, (&mut model, &batch), 4);
            let what = format!("{kind:?}, {block:?}, {config:?}");
            assert_positive_definite(&what, &optimizer, &model);
            let after = optimizer.objective(&model, &batch).unwrap();
            assert!(after.is_finite(), "{what}: {after}");
        }
    }
}

/// A model read back from the bytes of another one's record.
fn read_back(model: &KindNetwork, into: KindNetwork) -> KindNetwork {
    let bytes = model.clone().into_record().into_bytes().unwrap();
    let record = ModuleRecord::from_bytes(bytes).unwrap();
    into.try_load_record(record).unwrap()
}

#[test]
fn a_record_written_and_read_back_goes_on_alike() {
    for (kind, block) in kinds() {
        let config =
            config(DampingScheme::ExactTikhonov, InverseMethod::Automatic).map_curvature(|c| {
                c.with_eigenvalues(Eigenvalues::PerCase)
                    .with_scale_shift(block)
            });
        let mut model = kind.model(1);
        let batch = Kind::batch(9, 2);
        let mut optimizer = stepped(&config, Gaussian, (&mut model, &batch), 2);
        let what = format!("{kind:?}, {block:?}");
        let (mut same, mut fresh) = (
            read_back(&model, kind.model(5)),
            read_back(&model, kind.model(6)),
        );
        assert_eq!(bits(&same), bits(&model), "{what}");
        // A new optimizer takes the same step from either, and the old one goes on with either.
        let mut copy = read_back(&model, kind.model(7));
        stepped(&config, Gaussian, (&mut copy, &batch), 1);
        stepped(&config, Gaussian, (&mut fresh, &batch), 1);
        assert_eq!(bits(&fresh), bits(&copy), "{what}");
        let mut going_on = optimizer.clone();
        going_on.step(&mut same, &batch).unwrap();
        optimizer.step(&mut model, &batch).unwrap();
        assert_eq!(bits(&same), bits(&model), "{what}");
    }
}

#[test]
fn factors_in_single_precision_are_those_in_double() {
    for (kind, block) in kinds() {
        let config = config(DampingScheme::ExactTikhonov, InverseMethod::Automatic);
        let config = config.map_curvature(|c| c.with_scale_shift(block));
        let double = Kind::batch(9, 2);
        let cast = |tensor: &Tensor<2>| tensor.clone().cast(DType::F32);
        let single = Batch::new(cast(&double.inputs), cast(&double.targets));
        let factors = |dtype, batch| {
            let mut model = kind.model_in(dtype, 1);
            let optimizer = stepped(&config, Gaussian, (&mut model, batch), 1);
            optimizer.factors().blocks.clone()
        };
        let pairs = factors(DType::F32, &single).into_iter();
        for (found, expected) in pairs.zip(factors(DType::F64, &double)) {
            let both = |factors| [of_inputs(factors), of_gradients(factors)].concat();
            for (found, expected) in both(&found).iter().zip(&both(&expected)) {
                let what = format!("{kind:?}, {block:?}");
                assert_close(&what, found, expected, SINGLE);
            }
        }
    }
}

#[test]
fn the_default_settings_train_each_kind() {
    for (kind, block) in kinds() {
        let config = KfacConfig::new().map_curvature(|c| c.with_scale_shift(block));
        let mut model = kind.model(1);
        let batch = Kind::batch(64, 2);
        let mut optimizer = config.init(&model, Gaussian, &batch.inputs).unwrap();
        let before = optimizer.objective(&model, &batch).unwrap();
        for _ in 0..STEPS {
            optimizer.step(&mut model, &batch).unwrap();
        }
        let after = optimizer.objective(&model, &batch).unwrap();
        assert!(
            after < 0.9 * before,
            "{kind:?}, {block:?}: {before} -> {after}"
        );
    }
}

#[test]
fn the_first_step_is_the_same_in_either_order_of_cases() {
    // Sums over cases, in another order; batch normalisation sees the same cases.
    for (kind, block) in kinds() {
        let config = exact_config().map_curvature(|c| c.with_scale_shift(block));
        let batch = Kind::batch(8, 2);
        let turned = |tensor: &Tensor<2>| tensor.clone().flip([0]);
        let flipped = Batch::new(turned(&batch.inputs), turned(&batch.targets));
        let step = |batch: &Batch<Tensor<2>>| {
            let mut model = kind.model(1);
            let optimizer = stepped(&config, Gaussian, (&mut model, batch), 1);
            let parameters = optimizer.layers().parameters(&model);
            (parameters.norm(), column(&parameters))
        };
        let ((norm, one), (other_norm, other)) = (step(&batch), step(&flipped));
        assert_close(&format!("{kind:?}, {block:?}"), &one, &other, DIFFERENCES);
        assert_near("‖θ‖", norm, other_norm, DIFFERENCES);
    }
}
