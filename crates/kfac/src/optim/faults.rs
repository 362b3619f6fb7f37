//! Is every rung of the ladder of repairs taken, at every factorisation, and does the run go on?

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{DType, Device, Distribution, Int, Tensor},
};

use crate::{
    Batch, Categorical, CurvatureConfig, DampingScheme, Eigenvalues, InverseMethod,
    InverseStructure, Kfac, KfacConfig, Network, StepError, StepReport, Tape,
    blocks::{FactorAction, FactorRepair},
    linalg::{factorisations, inject},
    workers::alone,
};

/// Tokens, two dense layers in a chain.
#[derive(Module, Debug)]
struct Tokens {
    embedding: Embedding,
    hidden: Linear,
    last: Linear,
}

impl Tokens {
    fn new(dtype: DType) -> Self {
        let device = Device::flex().autodiff();
        device.seed(3);
        let model = Self {
            embedding: EmbeddingConfig::new(5, 4).init(&device),
            hidden: LinearConfig::new(4, 3).init(&device),
            last: LinearConfig::new(3, 2).init(&device),
        };
        model.map(&mut In(dtype))
    }
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

fn batch(step: u64) -> Batch<Tensor<2, Int>, Tensor<1, Int>> {
    let device = Device::flex();
    device.seed(step);
    let tokens = Tensor::<2>::random([32, 1], Distribution::Uniform(0.0, 5.0), &device);
    let classes = Tensor::<2>::random([32, 1], Distribution::Uniform(0.0, 2.0), &device);
    Batch::new(tokens.int(), classes.int().squeeze_dim(1))
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
fn steps(config: &KfacConfig, dtype: DType) -> Vec<StepReport> {
    let mut model = Tokens::new(dtype);
    let mut kfac: Kfac<Categorical> = config
        .init(&model, Categorical, &batch(0).inputs)
        .expect("the configuration is good");
    let reports = (1..=4).map(|step| {
        let report = kfac.step(&mut model, &batch(step)).or_else(|refused| {
            // The 2 × 2 system of the quadratic model has no other remedy than the next try.
            assert!(matches!(refused, StepError::NonFinite { .. }), "{refused}");
            kfac.step(&mut model, &batch(step))
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
fn check(config: &KfacConfig, dtype: DType, attempts: u32) -> Vec<FactorRepair> {
    inject(None, 0);
    assert_eq!(repairs(&steps(config, dtype)), []);
    let count = factorisations();
    assert!(count > 8, "{count}");
    let mut found = Vec::new();
    for number in 0..count {
        inject(Some(number), attempts);
        let reports = steps(config, dtype);
        let all = repairs(&reports);
        for repair in &all {
            let layer = ["embedding", "hidden", "last"].contains(&&*repair.layer);
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
                .with_statistics_fraction(1.0)
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

#[test]
fn cholesky_factorisations_fall_back_to_double_precision_more_damping_and_the_last_inverse() {
    // Faults are injected into the factorisations of one thread.
    alone(|| {
        for structure in [
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ] {
            let config = config(|curvature| {
                let curvature = curvature.with_structure(structure);
                curvature.with_inverse_method(InverseMethod::Cholesky)
            });
            for dtype in [DType::F32, DType::F64] {
                for (attempts, rung) in [(1, 0), (2, 1), (5, 1), (11, 1), (12, 2), (100, 2)] {
                    let found = actions(&check(&config, dtype, attempts));
                    let mut others = found;
                    others[rung] = 0;
                    assert!(found[rung] > 0 && others == [0; 4], "{attempts}: {found:?}");
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
                let found = actions(&check(&config, DType::F32, attempts));
                let mut others = found;
                others[rung] = 0;
                assert!(found[rung] > 0 && others == [0; 4], "{attempts}: {found:?}");
            }
        }
        let chain =
            config(|curvature| eigen(curvature).with_structure(InverseStructure::BlockTridiagonal));
        // Its blocks are factorised by Cholesky, its links by eigendecompositions.
        let found = actions(&check(&chain, DType::F32, 1));
        assert!(found[0] > 0 && found[1..] == [0; 3], "{found:?}");
        let found = actions(&check(&chain, DType::F32, 2));
        assert!(
            found[1] > 0 && found[3] > 0 && found[0] + found[2] == 0,
            "{found:?}"
        );
    });
}
