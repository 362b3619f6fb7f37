//! What a step costs, phase by phase, beside what its arithmetic needs.

mod contestant;
mod flops;
mod report;
mod statistics;
mod table;

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Distribution, Tensor};
use faer::{Mat, Side, linalg::solvers::DenseSolveCore};
use kfac::{
    InverseStructure, KfacConfig, RefreshRule,
    blocks::{BlockOptions, Blocks},
};

use crate::{
    methods::{FirstOrderConfig, FirstOrderOptimizer, MethodConfig, RateSchedule},
    precision::Precision,
    task::{Task, TaskData},
    train::Batches,
    version::VERSIONS,
};
use contestant::Contestant;
use report::Measured;
pub use report::{BatchBench, Bench, MethodBench, PhaseBench};
pub use statistics::{Kind, StatisticsBench, StatisticsCost};

/// Rows and columns of the matrix product that rates are compared with.
const PRODUCT: usize = 2048;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The task whose network and data are used.
    pub task: Task,
    /// Sizes of the batches, one table each.
    pub batches: Vec<usize>,
    /// Rounds, each of one period of K-FAC.
    pub rounds: usize,
    /// K-FAC's settings; the structure of the inverse is overwritten.
    pub kfac: KfacConfig,
    /// Seed of initial weights, batches and sampled targets.
    pub seed: u64,
    /// Precision of the tensors.
    pub precision: Precision,
}

/// Measures SGD with momentum and K-FAC with both inverses, step by step in turn; of classifiers, which are trained
/// on mini-batches, what K-FAC costs in front of another optimizer.
///
/// # Errors
/// Where a batch is larger than the training set, or a step is refused.
pub fn run(options: &BenchOptions, data: &TaskData) -> Result<Bench> {
    let cases = data.train.len();
    for &size in &options.batches {
        ensure!(
            (1..=cases).contains(&size),
            "--batch {size}: the training set has {cases} cases"
        );
    }
    reserve_scratch()?;
    let sizes = options.batches.iter();
    let (mut batches, mut statistics) = (Vec::new(), Vec::new());
    for &size in sizes {
        if options.task.is_classifier() {
            statistics.push(statistics::run(options, data, size)?);
        } else {
            batches.push(bench_batch(options, data, size)?);
        }
    }
    Ok(Bench {
        version: VERSIONS,
        task: options.task.name,
        data: data.description.clone(),
        seed: options.seed,
        precision: options.precision,
        threads: rayon::current_num_threads(),
        period: period(&options.kfac),
        rounds: options.rounds,
        batches,
        statistics,
    })
}

/// Makes each thread reserve the scratch memory of the linear algebra now: address space, most of which
/// is never used, and which would else be counted to whoever comes first.
fn reserve_scratch() -> Result<()> {
    let reserve = || {
        let factor = Mat::<f32>::identity(128, 128).llt(Side::Lower);
        factor.map(|factor| drop(factor.inverse()))
    };
    let reserved = std::iter::once(reserve()).chain(rayon::broadcast(|_| reserve()));
    let reserved: Result<(), _> = reserved.collect();
    reserved.map_err(|error| anyhow::anyhow!("the identity cannot be factorised: {error:?}"))
}

fn bench_batch(options: &BenchOptions, data: &TaskData, size: usize) -> Result<BatchBench> {
    let device = Device::flex();
    let place = (device.clone(), options.precision);
    let mut batches = Batches::new(&data.train, options.seed, place);
    let example = batches.rows(&[0]).inputs;
    let task = &options.task;
    let place = (&device.clone().autodiff(), options.precision);
    let model = || task.architecture.build((None, options.seed), place);
    let mut contestants = Vec::new();
    for config in methods(options) {
        let mut contestant = Contestant::new(config, model, task.loss, &example)?;
        contestant.warm_up(|| batches.next(size))?;
        contestants.push(contestant);
    }
    let factors = product_factors(&device, options.precision);
    let mut products = Vec::new();
    for _ in 0..options.rounds {
        for _ in 0..period(&options.kfac) {
            products.push(product_rate(&factors));
            for contestant in &mut contestants {
                contestant.step(|| batches.next(size))?;
            }
        }
    }
    let (blocks, _) = Blocks::discover(&model()?, &example, &BlockOptions::default());
    let measured = Measured {
        layers: blocks.layers(),
        batch: size,
        products: &products,
        contestants: &contestants,
    };
    Ok(BatchBench::new(options, &measured))
}

/// Iterations after which K-FAC's refreshes, searches and updates of λ repeat.
fn period(config: &KfacConfig) -> u64 {
    config
        .gamma_period
        .max(config.curvature.inverse_period)
        .max(config.lambda_period)
}

fn methods(options: &BenchOptions) -> [MethodConfig; 3] {
    let kfac = |structure| {
        // As in the long run, where inverses go stale slowly: steps then repeat after a period.
        let config = options.kfac.clone().with_refresh(RefreshRule::Periodic);
        let config = config.map_curvature(|curvature| curvature.with_structure(structure));
        MethodConfig::Kfac(Box::new(config))
    };
    let sgd = MethodConfig::FirstOrder(FirstOrderConfig {
        optimizer: FirstOrderOptimizer::Sgd { momentum: 0.9 },
        rate: 0.01,
        schedule: RateSchedule::CONSTANT,
        decay: options.task.l2,
    });
    [
        sgd,
        kfac(InverseStructure::BlockDiagonal),
        kfac(InverseStructure::BlockTridiagonal),
    ]
}

/// The two square matrices whose product the rates are compared with.
fn product_factors(device: &Device, precision: Precision) -> [Tensor<2>; 2] {
    [(); 2].map(|()| {
        let options = (device, precision.dtype());
        Tensor::random([PRODUCT, PRODUCT], Distribution::Default, options)
    })
}

/// Operations a second of a plain product of two square matrices, the best of three.
fn product_rate([a, b]: &[Tensor<2>; 2]) -> f64 {
    let seconds = (0..3).map(|_| {
        let start = Instant::now();
        let _ = std::hint::black_box(a.clone().matmul(b.clone()));
        start.elapsed().as_secs_f64()
    });
    2.0 * (PRODUCT as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
}
