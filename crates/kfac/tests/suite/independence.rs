//! Results do not depend on how a batch is cut, nor on the number of threads, beyond rounding.

use std::sync::Arc;

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use faer::Mat;
use kfac::{
    CurvatureConfig, DirectionalDerivatives, FisherEstimate, Gaussian, InverseStructure,
    KfacConfig, PreconditionerConfig, RandomStream,
    blocks::{BlockOptions, BlockStructure, Blocks, Diagonal, Full, SummedDiagonal},
    curvature::FisherEstimator,
};

use crate::support::{
    Kind, KindNetwork, assert_same_factors, column, exact_config, of_values, relative,
};

/// Two steps multiply the rounding of sums in another order by the condition of the damped blocks and of the
/// quadratic model: below 10⁵ with γ² above 0.01.
const STEPS: f64 = 1e-9;

/// How a batch is worked through.
#[derive(Clone, Copy, Debug)]
struct Way {
    cases: usize,
    chunk_size: usize,
    threads: usize,
}

/// What the curvature is made of.
#[derive(Clone, Copy, Debug)]
struct Made {
    fisher: FisherEstimate,
    structure: InverseStructure,
}

impl Made {
    fn all() -> Vec<Self> {
        let structures = [
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ];
        let estimates = [
            FisherEstimate::MonteCarlo,
            FisherEstimate::Exact,
            FisherEstimate::Empirical,
        ];
        let of = |structure| estimates.map(|fisher| Self { fisher, structure });
        structures.into_iter().flat_map(of).collect()
    }

    fn set(self, curvature: CurvatureConfig, way: Way) -> CurvatureConfig {
        curvature
            .with_fisher(self.fisher)
            .with_structure(self.structure)
            .with_chunk_size(way.chunk_size)
    }
}

/// The parameters after two steps, and a preconditioned gradient; both from the same network and cases.
fn results(kind: Kind, made: Made, way: Way) -> [Mat<f64>; 2] {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(way.threads)
        .build();
    pool.unwrap().install(|| {
        let (model, batch) = (kind.model(1), Kind::batch(way.cases, 2));
        // One-sided differences would make a hundred million times as much of rounding.
        let config: KfacConfig = exact_config()
            .with_derivatives(DirectionalDerivatives::CentralDifferences)
            .map_curvature(|c| made.set(c, way));
        let mut optimizer = config.init(&model, Gaussian, &batch.inputs).unwrap();
        let mut stepped: KindNetwork = model.clone();
        for _ in 0..2 {
            optimizer.step(&mut stepped, &batch).unwrap();
        }
        let config = PreconditionerConfig::new().map_curvature(|c| made.set(c, way));
        let mut front = config.init(&model, Gaussian, &batch.inputs).unwrap();
        front.observe(&model, &batch).unwrap();
        // Any gradient will do: these are the parameters.
        let gradients = front
            .precondition(&model, of_values(&model), 1.0)
            .unwrap()
            .gradients;
        let preconditioned = model_with(&model, &gradients);
        [stepped, preconditioned].map(|model| column(&optimizer.layers().parameters(&model)))
    })
}

/// The model with gradients in the place of its parameters.
fn model_with<M: Module>(model: &M, gradients: &GradientsParams) -> M {
    struct Write<'a>(&'a GradientsParams);
    impl ModuleMapper for Write<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = self.0.get::<D>(param.id);
            param.map(|old| {
                gradient
                    .unwrap_or_else(|| old.inner().zeros_like())
                    .autodiff()
            })
        }
    }
    model.clone().map(&mut Write(gradients))
}

fn assert_independent(kind: Kind, made: Made, [one, other]: [Way; 2]) {
    let (found, expected) = (results(kind, made, other), results(kind, made, one));
    for (what, (found, expected)) in ["two steps", "a preconditioned gradient"]
        .into_iter()
        .zip(found.iter().zip(&expected))
    {
        let error = relative(found, expected);
        assert!(
            error < STEPS,
            "{kind:?}, {made:?}, {other:?}: {what}: {error:e}"
        );
    }
}

#[test]
fn chunks_change_no_result_of_any_layer_beyond_rounding() {
    let whole = Way {
        cases: 11,
        chunk_size: 1000,
        threads: 1,
    };
    for kind in Kind::ALL {
        for made in Made::all() {
            for chunk_size in [1, 4] {
                let cut = Way {
                    chunk_size,
                    ..whole
                };
                assert_independent(kind, made, [whole, cut]);
            }
        }
    }
}

#[test]
fn threads_change_no_result_of_any_layer_beyond_rounding() {
    // More than a thousand cases are cut for the statistics, more than 64 for the objective.
    let one = Way {
        cases: 1100,
        chunk_size: 5000,
        threads: 1,
    };
    let sampled = Made::all()
        .into_iter()
        .filter(|made| made.fisher == FisherEstimate::MonteCarlo);
    for made in sampled {
        for kind in Kind::ALL {
            let two = Way { threads: 2, ..one };
            assert_independent(kind, made, [one, two]);
        }
    }
}

#[test]
fn chunks_change_no_block_of_any_structure_beyond_rounding() {
    let structures: [Arc<dyn BlockStructure>; 3] =
        [Arc::new(Full), Arc::new(Diagonal), Arc::new(SummedDiagonal)];
    for kind in Kind::ALL {
        let (model, batch) = (kind.model(1), Kind::batch(9, 2));
        let (blocks, _) = Blocks::discover(&model, &batch.inputs, &BlockOptions::default());
        for structure in &structures {
            let mut options = BlockOptions::default();
            for layer in blocks.layers() {
                options = options.with_structure(layer.path.as_str(), structure.clone());
            }
            let (blocks, _) = Blocks::discover(&model, &batch.inputs, &options);
            let factors = |chunk_size| {
                let estimator = FisherEstimator::new(&blocks, &Gaussian)
                    .with_samples(2)
                    .with_chunk_size(chunk_size);
                let random = &mut RandomStream::from_seed(3);
                estimator.factors(&model, &batch, random).unwrap().blocks
            };
            let whole = factors(1000);
            for chunk_size in [1, 4] {
                let what = format!("{kind:?}, {structure:?}, chunks of {chunk_size}");
                assert_same_factors(&what, &factors(chunk_size), &whole, STEPS);
            }
        }
    }
}
