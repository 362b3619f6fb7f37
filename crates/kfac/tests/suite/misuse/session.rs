//! A model, an optimizer, and calls in any order.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};
use kfac::{
    Batch, Bernoulli, Cases, Categorical, CategoricalSequence, CoveragePolicy, CurvatureConfig,
    DampingScheme, DirectionalDerivatives, Eigenvalues, Extensions, FisherEstimate, Gaussian, Head,
    InverseMethod, InverseStructure, IterateAveraging, Kfac, KfacConfig, LambdaAdaptation, Loss,
    Momentum, Network, PiNorm, Preconditioner, PreconditionerConfig, PredictiveDistribution,
    RandomStream, RefreshTiming, ScaleShiftBlock, StepError, Subsets, Tape, WeightSharing,
    Weighted,
    blocks::{BlockOptions, Blocks},
    curvature::FisherEstimator,
    directional_derivatives,
};

use super::{
    draw::Draw,
    parts::{AnyDamping, AnyLambda, AnyObjective, altered, any_gradients, any_structure, changed},
};
use crate::support::{
    FEATURES, Kind, KindNetwork, SEVERAL_POSITIONS, SEVERAL_TOKENS, Several, TwoLayers, bits,
    randomised,
};

/// A call that was made.
#[derive(Debug)]
pub(super) struct Call {
    #[expect(dead_code, reason = "shown where a call panics")]
    what: String,
    pub(super) refused: bool,
}

/// Calls so far; the last one is the one under way.
type Log = Vec<Call>;

fn begin(log: &mut Log, what: &str) {
    log.push(Call {
        what: what.to_owned(),
        refused: false,
    });
}

fn end<T, E: std::fmt::Display>(log: &mut Log, result: Result<T, E>) -> Option<T> {
    if let (Err(error), Some(call)) = (&result, log.last_mut()) {
        assert!(!error.to_string().is_empty());
        call.refused = true;
    }
    result.ok()
}

/// Draws the data of so many cases.
type Drawn<T> = Box<dyn Fn(&mut Draw, usize) -> T>;

/// What is trained, and how its data are drawn.
struct Subject<M: Network, T, L> {
    model: M,
    loss: L,
    inputs: Drawn<M::Input>,
    targets: Drawn<T>,
}

/// A session of one model.
pub(super) fn session(draw: &mut Draw, log: &mut Log) {
    match draw.within(0..10) {
        0..5 => kinds(draw, log),
        5 => classes(draw, log),
        6 => weighted(draw, log),
        7 => heads(draw, log),
        8 => tokens(draw, log),
        _ => pairs(draw, log),
    }
}

fn kind(draw: &mut Draw) -> (KindNetwork, Drawn<Tensor<2>>) {
    let dtype = draw.precision();
    let model = draw.of(&Kind::ALL).model_in(dtype, draw.number());
    let inputs = move |draw: &mut Draw, n| draw.floats([n, FEATURES], dtype);
    (model, Box::new(inputs))
}

fn kinds(draw: &mut Draw, log: &mut Log) {
    let sequence = CategoricalSequence {
        classes: draw.within(0..4),
    };
    let losses: [Arc<dyn PredictiveDistribution>; 4] = [
        Arc::new(Gaussian),
        Arc::new(Bernoulli),
        Arc::new(Categorical),
        Arc::new(sequence),
    ];
    let (model, inputs) = kind(draw);
    let subject = Subject {
        model,
        loss: draw.of(&losses),
        inputs,
        targets: Box::new(rows),
    };
    drive(draw, log, subject);
}

/// Targets beside the two outputs of a network.
fn rows(draw: &mut Draw, n: usize) -> Tensor<2> {
    let (n, width, dtype) = (draw.about(n), draw.about(2), draw.precision());
    draw.probabilities([n, width], dtype)
}

fn indices(draw: &mut Draw, n: usize) -> Tensor<1, Int> {
    let n = draw.about(n);
    draw.classes([n], 2)
}

fn classes(draw: &mut Draw, log: &mut Log) {
    let (model, inputs) = kind(draw);
    let subject = Subject {
        model,
        loss: Categorical,
        inputs,
        targets: Box::new(indices),
    };
    drive(draw, log, subject);
}

fn weighted(draw: &mut Draw, log: &mut Log) {
    let (model, inputs) = kind(draw);
    let subject = Subject {
        model,
        loss: Weighted(Categorical),
        inputs,
        targets: Box::new(|draw, n| {
            let (count, dtype) = (draw.about(n), draw.precision());
            (indices(draw, n), draw.probabilities([count], dtype))
        }),
    };
    drive(draw, log, subject);
}

/// Two heads on a network of two layers.
#[derive(Module, Debug)]
struct Forked {
    network: TwoLayers,
}

impl Network for Forked {
    type Input = Tensor<2>;
    type Output = (Tensor<2>, Tensor<2>);

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Self::Output {
        let outputs = self.network.forward(inputs, tape);
        let left = outputs.clone().slice_dim(1, 0..2);
        (left, outputs.slice_dim(1, 2..4))
    }
}

fn heads(draw: &mut Draw, log: &mut Log) {
    let dtype = draw.precision();
    let weight = draw.setting(0.5);
    let subject = Subject {
        model: randomised(
            Forked {
                network: TwoLayers::new([3, 4, 4], 1),
            },
            dtype,
            draw.number(),
        ),
        loss: (
            Head::new("class", Categorical),
            Head::new("value", Gaussian).with_weight(weight),
        ),
        inputs: Box::new(move |draw: &mut Draw, n| draw.floats([n, 3], dtype)),
        targets: Box::new(|draw, n| (indices(draw, n), rows(draw, n))),
    };
    drive(draw, log, subject);
}

fn tokens(draw: &mut Draw, log: &mut Log) {
    let subject = Subject {
        model: Several::new(),
        loss: Categorical,
        inputs: Box::new(|draw: &mut Draw, n| {
            let tokens = draw.of(&[1, 3, u32::try_from(SEVERAL_TOKENS).unwrap()]);
            draw.tokens([n, SEVERAL_POSITIONS], tokens)
        }),
        targets: Box::new(|draw, n| {
            let (n, positions) = (draw.about(n), draw.about(SEVERAL_POSITIONS - 1));
            draw.classes([n, positions], 3)
        }),
    };
    drive(draw, log, subject);
}

/// Two inputs a case.
#[derive(Module, Debug)]
struct Two {
    network: TwoLayers,
}

impl Network for Two {
    type Input = (Tensor<2>, Tensor<2>);
    type Output = Tensor<2>;

    fn forward(&self, (a, b): Self::Input, tape: &mut Tape) -> Tensor<2> {
        self.network.forward(a * b, tape)
    }
}

fn pairs(draw: &mut Draw, log: &mut Log) {
    let dtype = draw.precision();
    let subject = Subject {
        model: randomised(
            Two {
                network: TwoLayers::new([3, 4, 2], 1),
            },
            dtype,
            draw.number(),
        ),
        loss: Weighted(Gaussian),
        inputs: Box::new(move |draw: &mut Draw, n| {
            let other = draw.about(n);
            (draw.floats([n, 3], dtype), draw.floats([other, 3], dtype))
        }),
        targets: Box::new(|draw, n| {
            let (count, dtype) = (draw.about(n), draw.precision());
            (rows(draw, n), draw.probabilities([count], dtype))
        }),
    };
    drive(draw, log, subject);
}

fn curvature(draw: &mut Draw, config: CurvatureConfig) -> CurvatureConfig {
    let pi = draw.of(&[PiNorm::Trace, PiNorm::Frobenius, PiNorm::One]);
    let factored = DampingScheme::FactoredTikhonov { pi };
    let mut config = config
        .with_fisher(draw.of(&[
            FisherEstimate::MonteCarlo,
            FisherEstimate::Exact,
            FisherEstimate::Empirical,
        ]))
        .with_samples(draw.of(&[1, 1, 1, 2, 0]))
        .with_structure(draw.of(&[
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ]))
        .with_damping(draw.of(&[factored, factored, DampingScheme::ExactTikhonov]))
        .with_weight_sharing(draw.of(&[WeightSharing::Expand, WeightSharing::Reduce]))
        .with_scale_shift(draw.of(&[ScaleShiftBlock::Diagonal, ScaleShiftBlock::Full]))
        .with_subsets(draw.of(&[Subsets::Spread, Subsets::First]))
        .with_statistics_fraction(Some(draw.setting(0.5)))
        .with_statistics_cap(draw.setting(0.95))
        .with_initial_refreshes(draw.count(&[0, 1, 3]))
        .with_refresh_timing(draw.of(&[RefreshTiming::Ahead, RefreshTiming::AtOnce]))
        .with_chunk_size(draw.count(&[1, 4, 5000]) as usize)
        .with_seed(draw.number());
    let period = draw.count(&[1, 1, 2]);
    config = config
        .with_statistics_period(period)
        .with_inverse_period(draw.count(&[period, period.saturating_mul(3)]));
    if draw.chance(10) {
        config =
            config.with_inverse_method(draw.of(&[InverseMethod::Cholesky, InverseMethod::Eigen]));
    }
    if draw.chance(10) {
        config = config
            .with_eigenvalues(draw.of(&[Eigenvalues::PerCase, Eigenvalues::BatchMean]))
            .with_damping(DampingScheme::ExactTikhonov);
    }
    if draw.chance(5) {
        config = config.with_memory_limit(draw.of(&[0, 1000, u64::MAX]));
    }
    if draw.chance(5) {
        config = config.with_weight_sharing_of(vec![("last".to_owned(), WeightSharing::Reduce)]);
    }
    config.with_coverage(draw.of(&[CoveragePolicy::Strict, CoveragePolicy::Report]))
}

fn kfac_config(draw: &mut Draw) -> KfacConfig {
    let start = draw.of(&[KfacConfig::new(), KfacConfig::paper()]);
    let period = draw.of(&[1, 2, 5]);
    let curvature = curvature(draw, start.curvature.clone());
    let gamma_period = curvature.inverse_period.saturating_mul(draw.of(&[1, 1, 2]));
    let config = KfacConfig { curvature, ..start }
        .with_l2(draw.setting(1e-5))
        .with_initial_lambda(draw.setting(1.0))
        .with_lambda_adaptation(draw.of(&[
            LambdaAdaptation::Calibrated,
            LambdaAdaptation::LevenbergMarquardt,
            LambdaAdaptation::Fixed,
        ]))
        .with_lambda_decay(draw.setting(0.95))
        .with_lambda_period(draw.count(&[period]))
        .with_gamma_decay(draw.setting(0.9))
        .with_gamma_period(draw.count(&[gamma_period]))
        .with_model_fraction(Some(draw.setting(0.25)))
        .with_momentum(draw.of(&[Momentum::Adaptive, Momentum::None]))
        .with_derivatives(draw.of(&[
            DirectionalDerivatives::Automatic,
            DirectionalDerivatives::CentralDifferences,
        ]))
        .with_averaging(draw.of(&[
            IterateAveraging::default(),
            IterateAveraging::From { start: 1, cap: 0.9 },
        ]));
    if draw.chance(5) {
        let bounds = [draw.setting(1e-3), draw.setting(1e3)];
        return config.with_lambda_min(bounds[0]).with_lambda_max(bounds[1]);
    }
    config
}

fn preconditioner_config(draw: &mut Draw) -> PreconditionerConfig {
    let start = PreconditionerConfig::new();
    let curvature = curvature(draw, start.curvature.clone());
    let constraint = draw.chance(50).then(|| draw.setting(1e-2));
    PreconditionerConfig { curvature, ..start }
        .with_lambda(draw.setting(1e-2))
        .with_kl_clip(constraint)
}

fn extensions(draw: &mut Draw) -> Extensions {
    let mut extensions = Extensions::new();
    if draw.chance(15) {
        let path = draw.of(&["first", "last", "network.hidden", "dense", "nowhere"]);
        extensions = extensions.with_structure(path, Arc::new(any_structure(draw)));
    }
    if draw.chance(15) {
        extensions = extensions.with_damping(Arc::new(AnyDamping::new(draw)));
    }
    extensions
}

impl<M: Network, T: Cases, L: Loss<M::Output, T> + Clone> Subject<M, T, L> {
    fn batch(&self, draw: &mut Draw) -> Batch<M::Input, T> {
        let n = draw.cases();
        Batch::new((self.inputs)(draw, n), (self.targets)(draw, n))
    }
}

fn drive<M, T, L>(draw: &mut Draw, log: &mut Log, mut subject: Subject<M, T, L>)
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T> + Clone,
{
    if draw.chance(10) {
        subject.model = altered(draw, subject.model);
    }
    let cases = draw.of(&[1, 2, 9, 0]);
    let example = (subject.inputs)(draw, cases);
    let (kfac, front) = (kfac_config(draw), preconditioner_config(draw));
    let (own, other) = (extensions(draw), extensions(draw));
    begin(log, &format!("init {kfac:?} {own:?} "));
    let kfac = kfac.init_with(own, &subject.model, subject.loss.clone(), &example);
    let kfac = end(log, kfac);
    begin(log, &format!("init {front:?} {other:?}"));
    let front = front.init_with(other, &subject.model, subject.loss.clone(), &example);
    let front = end(log, front);
    if let Some(kfac) = kfac {
        train(draw, log, &subject, kfac);
    }
    if let Some(front) = front {
        precondition(draw, log, &subject, front);
    }
    if draw.chance(20) {
        estimate(draw, log, &subject);
    }
}

/// Calls of the optimizer.
fn train<M, T, L>(draw: &mut Draw, log: &mut Log, subject: &Subject<M, T, L>, mut kfac: Kfac<L>)
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T> + Clone,
{
    let mut model = subject.model.clone();
    let _ = kfac.parameter_table().to_string();
    for _ in 0..draw.within(1..9) {
        if draw.chance(8) {
            model = changed(draw, model);
        } else if draw.chance(20) {
            model = subject.model.clone();
        }
        let batch = subject.batch(draw);
        let (before, iteration) = (bits(&model), kfac.iteration());
        let refused = match draw.within(0..10) {
            0..6 => {
                begin(log, "step");
                end(log, kfac.step(&mut model, &batch)).is_none()
            }
            6 | 7 => {
                begin(log, "step_with");
                let objective = AnyObjective::new(draw);
                end(log, kfac.step_with(&mut model, &batch, &objective)).is_none()
            }
            8 => {
                begin(log, "objective");
                end(log, kfac.objective(&model, &batch));
                true
            }
            _ => {
                begin(log, "averaged_model, with_lambda_rule");
                let _ = kfac.averaged_model(&model);
                kfac = kfac.with_lambda_rule(Arc::new(AnyLambda::new(draw)));
                true
            }
        };
        if refused {
            assert_eq!(bits(&model), before, "a refused step moved the model");
            assert_eq!(kfac.iteration(), iteration);
        }
    }
    begin(log, "damped");
    let gamma = draw.setting(0.1);
    let _ = kfac
        .factors()
        .damped(&*DampingScheme::default().rule(), gamma);
    invert(draw, log, kfac.factors(), kfac.layers());
}

/// Calls of the preconditioner.
fn precondition<M, T, L>(
    draw: &mut Draw,
    log: &mut Log,
    subject: &Subject<M, T, L>,
    mut front: Preconditioner<L>,
) where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T> + Clone,
{
    let mut model = subject.model.clone();
    for _ in 0..draw.within(1..9) {
        if draw.chance(8) {
            model = changed(draw, model);
        } else if draw.chance(20) {
            model = subject.model.clone();
        }
        let observations = front.observations();
        if draw.chance(50) {
            begin(log, "observe");
            let before = bits(&model);
            let observed = front.observe(&model, &subject.batch(draw));
            if end(log, observed).is_none() {
                assert_eq!(front.observations(), observations);
            }
            assert_eq!(bits(&model), before, "an observation moved the model");
        } else {
            begin(log, "precondition");
            let gradients = any_gradients(draw, &model);
            end(log, front.precondition(&model, gradients, 1.0));
        }
    }
    let _ = (front.repairs().len(), front.unreached().len());
}

/// Calls without an optimizer.
fn estimate<M, T, L>(draw: &mut Draw, log: &mut Log, subject: &Subject<M, T, L>)
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T> + Clone,
{
    let batch = subject.batch(draw);
    if batch.is_empty() {
        return;
    }
    begin(log, "estimate");
    let options = BlockOptions::default();
    let (blocks, table) = Blocks::discover(&subject.model, &batch.inputs, &options);
    let _ = table.to_string();
    let estimator = FisherEstimator::new(&blocks, &subject.loss)
        .with_chunk_size(draw.of(&[0, 1, 3, usize::MAX]))
        .with_samples(draw.of(&[0, 1, 3]))
        .with_structure(draw.of(&[
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ]));
    let mut random = RandomStream::from_seed(draw.number());
    let factors = estimator.factors(&subject.model, &batch, &mut random);
    let factors = end(log, factors);
    if let Some(factors) = factors {
        invert(draw, log, &factors, blocks.layers());
    }
    begin(log, "directional_derivatives");
    let directions = vec![blocks.layers().parameters(&subject.model); draw.within(0..3)];
    let method = draw.of(&[
        DirectionalDerivatives::Automatic,
        DirectionalDerivatives::CentralDifferences,
    ]);
    let inputs = batch.inputs.detached();
    let layers = blocks.layers();
    if batch_is_sound(&batch) {
        end(
            log,
            directional_derivatives(&subject.model, layers, &inputs, &directions, method)
                .map(|_| ()),
        );
    }
}

fn batch_is_sound<I: Cases, T: Cases>(batch: &Batch<I, T>) -> bool {
    batch
        .inputs
        .lengths()
        .windows(2)
        .all(|pair| pair[0] == pair[1])
}

fn invert(
    draw: &mut Draw,
    log: &mut Log,
    factors: &kfac::blocks::FactorSet,
    layers: &kfac::Layers,
) {
    if factors.blocks.is_empty() {
        return;
    }
    begin(log, "damped_inverse");
    let rule = DampingScheme::default().rule();
    let gamma = draw.setting(0.1);
    let method = draw.of(&[
        InverseMethod::Automatic,
        InverseMethod::Cholesky,
        InverseMethod::Eigen,
    ]);
    let inverse: Result<_, StepError> = factors.damped_inverse(layers, rule, method, gamma);
    if let Some(inverse) = end(log, inverse) {
        for block in inverse.blocks() {
            let _ = (block.magnitudes(), block.record());
        }
    }
}
