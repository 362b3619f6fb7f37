//! Is every rung of the ladder of repairs taken, at every factorisation, and does the run go on?

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    nn::{
        Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{DType, Device, Distribution, Int, Tensor},
};

use crate::{
    Batch, Categorical, CurvatureConfig, DampingScheme, Eigenvalues, InverseMethod,
    InverseStructure, Kfac, KfacConfig, Network, ScaleShiftBlock, StepError, StepReport, Tape,
    blocks::{FactorAction, FactorRepair},
    linalg::{factorisations, inject},
    workers::alone,
};

/// A small network that is trained to tell two classes.
trait Classifier: Network<Output = Tensor<2>> {
    const LAYERS: [&str; 3];

    fn new(device: &Device) -> Self;

    fn inputs(cases: usize, dtype: DType) -> Self::Input;
}

/// Tokens, two dense layers in a chain.
#[derive(Module, Debug)]
struct Tokens {
    embedding: Embedding,
    hidden: Linear,
    last: Linear,
}

impl Network for Tokens {
    type Input = Tensor<2, Int>;
    type Output = Tensor<2>;

    fn forward(&self, tokens: Tensor<2, Int>, tape: &mut Tape) -> Tensor<2> {
        let embedded = tape.embedding(&self.embedding, tokens).flatten(1, 2);
        let hidden = tape.linear(&self.hidden, embedded).tanh();
        tape.linear(&self.last, hidden)
    }
}

impl Classifier for Tokens {
    const LAYERS: [&str; 3] = ["embedding", "hidden", "last"];

    fn new(device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(5, 4).init(device),
            hidden: LinearConfig::new(4, 3).init(device),
            last: LinearConfig::new(3, 2).init(device),
        }
    }

    fn inputs(cases: usize, _: DType) -> Tensor<2, Int> {
        let tokens =
            Tensor::<2>::random([cases, 1], Distribution::Uniform(0.0, 5.0), &Device::flex());
        tokens.int()
    }
}

/// A convolution of two groups, a normalisation, a dense layer.
#[derive(Module, Debug)]
struct Images {
    grouped: Conv2d,
    norm: LayerNorm,
    last: Linear,
}

impl Network for Images {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, images: Tensor<4>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tape.conv2d(&self.grouped, images).flatten(1, 3);
        let hidden = tape.layer_norm(&self.norm, hidden).tanh();
        tape.linear(&self.last, hidden)
    }
}

impl Classifier for Images {
    const LAYERS: [&str; 3] = ["grouped", "norm", "last"];

    fn new(device: &Device) -> Self {
        let grouped = Conv2dConfig::new([2, 4], [2, 2]).with_groups(2);
        Self {
            grouped: grouped.init(device),
            norm: LayerNormConfig::new(8).init(device),
            last: LinearConfig::new(8, 2).init(device),
        }
    }

    fn inputs(cases: usize, dtype: DType) -> Tensor<4> {
        let place = (&Device::flex(), dtype);
        Tensor::random([cases, 2, 2, 3], Distribution::Default, place)
    }
}

fn model<M: Classifier>(dtype: DType) -> M {
    let device = Device::flex().autodiff();
    device.seed(3);
    M::new(&device).map(&mut In(dtype))
}

fn batch<M: Classifier>(step: u64, dtype: DType) -> Batch<M::Input, Tensor<1, Int>> {
    let device = Device::flex();
    device.seed(step);
    let inputs = M::inputs(32, dtype);
    let classes = Tensor::<2>::random([32, 1], Distribution::Uniform(0.0, 2.0), &device);
    Batch::new(inputs, classes.int().squeeze_dim(1))
}

struct In(DType);

impl ModuleMapper for In {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.inner().cast(self.0).autodiff().require_grad())
    }
}

struct IsFinite(bool);

impl ModuleVisitor for IsFinite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().into_data();
        self.0 &= values.iter::<f64>().all(f64::is_finite);
    }
}

/// Four steps, with a refresh in the first and the last: what they report.
fn steps<M: Classifier>(config: &KfacConfig, dtype: DType) -> Vec<StepReport> {
    let mut model: M = model(dtype);
    let mut kfac: Kfac<Categorical> = config
        .init(&model, Categorical, &batch::<M>(0, dtype).inputs)
        .expect("the configuration is good");
    let reports = (1..=4).map(|step| {
        let report = kfac
            .step(&mut model, &batch::<M>(step, dtype))
            .or_else(|refused| {
                // The 2 × 2 system of the quadratic model has no other remedy than the next try.
                assert!(matches!(refused, StepError::NonFinite { .. }), "{refused}");
                kfac.step(&mut model, &batch::<M>(step, dtype))
            });
        let report = report.expect("a factorisation that fails ends no run");
        let mut finite = IsFinite(true);
        model.visit(&mut finite);
        assert!(finite.0, "step {step}: {report:?}");
        report
    });
    reports.collect()
}

fn repairs(reports: &[StepReport]) -> Vec<FactorRepair> {
    reports
        .iter()
        .flat_map(|report| report.repairs.clone())
        .collect()
}

/// The remedies that a factorisation may find where so many attempts fail.
fn is_remedy(action: FactorAction, attempts: u32) -> bool {
    match action {
        FactorAction::DoublePrecision { smallest_pivot } => attempts == 1 && smallest_pivot > -1e-6,
        FactorAction::MoreDamping { asked, used, .. } => {
            // The second attempt is in double precision with the damping asked for; each after it doubles that.
            let doublings = f64::from(attempts - 1);
            attempts > 1 && (used / asked - doublings.exp2()).abs() < 1e-9
        }
        FactorAction::KeptLastInverse { .. } | FactorAction::CutFromNextLayer => attempts > 1,
    }
}

/// Each factorisation of the four steps in turn fails, so many times: the repairs that were reported.
fn check<M: Classifier>(config: &KfacConfig, dtype: DType, attempts: u32) -> Vec<FactorRepair> {
    inject(None, 0);
    assert_eq!(repairs(&steps::<M>(config, dtype)), []);
    let count = factorisations();
    assert!(count > 8, "{count}");
    let mut found = Vec::new();
    for number in 0..count {
        inject(Some(number), attempts);
        let reports = steps::<M>(config, dtype);
        let all = repairs(&reports);
        for repair in &all {
            let layer = M::LAYERS.contains(&&*repair.layer);
            assert!(
                layer && is_remedy(repair.action, attempts),
                "{number}, {attempts}: {repair:?}"
            );
        }
        found.extend(all);
    }
    inject(None, 0);
    found
}

fn config(curvature: impl FnOnce(CurvatureConfig) -> CurvatureConfig) -> KfacConfig {
    let config = KfacConfig::new().with_gamma_period(3).with_lambda_period(1);
    config.map_curvature(|settings| {
        curvature(
            settings
                .with_statistics_fraction(Some(1.0))
                .with_inverse_period(3),
        )
    })
}

fn actions(repairs: &[FactorRepair]) -> [usize; 4] {
    let mut count = [0; 4];
    for repair in repairs {
        count[match repair.action {
            FactorAction::DoublePrecision { .. } => 0,
            FactorAction::MoreDamping { .. } => 1,
            FactorAction::KeptLastInverse { .. } => 2,
            FactorAction::CutFromNextLayer => 3,
        }] += 1;
    }
    count
}

/// That such repairs were made, and no others.
fn assert_only(rung: usize, repairs: &[FactorRepair], attempts: u32) {
    let found = actions(repairs);
    let mut others = found;
    others[rung] = 0;
    assert!(found[rung] > 0 && others == [0; 4], "{attempts}: {found:?}");
}

#[test]
fn cholesky_factorisations_fall_back_to_double_precision_more_damping_and_the_last_inverse() {
    // Faults are injected into the factorisations of one thread.
    alone(|| {
        for structure in [
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ] {
            let config = config(|curvature| {
                let curvature = curvature.with_scale_shift(ScaleShiftBlock::Full);
                let curvature = curvature.with_structure(structure);
                curvature.with_inverse_method(InverseMethod::Cholesky)
            });
            for dtype in [DType::F32, DType::F64] {
                for (attempts, rung) in [(1, 0), (2, 1), (5, 1), (11, 1), (12, 2), (100, 2)] {
                    assert_only(rung, &check::<Tokens>(&config, dtype, attempts), attempts);
                    assert_only(rung, &check::<Images>(&config, dtype, attempts), attempts);
                }
            }
        }
    });
}

#[test]
fn eigendecompositions_fall_back_to_double_precision_and_the_last_inverse_or_a_cut_chain() {
    alone(|| {
        let exact =
            |curvature: CurvatureConfig| curvature.with_damping(DampingScheme::ExactTikhonov);
        let eigen =
            |curvature: CurvatureConfig| curvature.with_inverse_method(InverseMethod::Eigen);
        let corrected = |curvature| exact(curvature).with_eigenvalues(Eigenvalues::PerCase);
        for config in [config(eigen), config(exact), config(corrected)] {
            for (attempts, rung) in [(1, 0), (2, 2)] {
                let dtype = DType::F32;
                assert_only(rung, &check::<Tokens>(&config, dtype, attempts), attempts);
                assert_only(rung, &check::<Images>(&config, dtype, attempts), attempts);
            }
        }
        let chain =
            config(|curvature| eigen(curvature).with_structure(InverseStructure::BlockTridiagonal));
        // Its blocks are factorised by Cholesky, its links by eigendecompositions.
        let found = actions(&check::<Tokens>(&chain, DType::F32, 1));
        assert!(found[0] > 0 && found[1..] == [0; 3], "{found:?}");
        let found = actions(&check::<Tokens>(&chain, DType::F32, 2));
        assert!(
            found[1] > 0 && found[3] > 0 && found[0] + found[2] == 0,
            "{found:?}"
        );
    });
}
