//! Which cases, chunks, random numbers and past steps does each quantity of a step see?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Batch, Bernoulli, Categorical, FisherEstimate, Gaussian, IterateAveraging, Kfac, KfacConfig,
    PredictiveDistribution, StepReport, Subsets, WeightSharing,
};

use crate::support::{
    Activation, Estimate, Mlp, Spec, assert_close, assert_near, assert_same_factors, bits, column,
    damped, dense, exact_config, inner, mean_outer, normal, run,
};
use crate::support::{exact, kronecker::append_ones};

/// Sums of some hundred double precision products.
const ROUNDING: f64 = 1e-11;

const SPEC: Spec<'static> = Spec::new(&[3, 4, 2], Activation::Tanh);

#[test]
fn factors_are_a_mean_for_twenty_steps_and_decay_afterwards() {
    let mut model = SPEC.model(1);
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &normal([1, 3], 0))
        .unwrap();
    let moment = |batch: &Batch<Tensor<2>>| mean_outer(&dense(&append_ones(batch.inputs.clone())));
    let mut sum = Mat::<f64>::zeros(4, 4);
    for k in 1..=21u64 {
        let batch = SPEC.batch(&Gaussian, 6, 10 + k);
        let before = if k == 21 {
            &sum * faer::Scale(0.05)
        } else {
            sum.clone()
        };
        optimizer.step(&mut model, &batch).unwrap();
        sum += moment(&batch);
        // The first layer's inputs are the data, whatever the parameters.
        let expected = if k == 21 {
            before * faer::Scale(0.95) + moment(&batch) * faer::Scale(0.05)
        } else {
            &sum * faer::Scale(1.0 / k as f64)
        };
        let found = dense(&optimizer.factors().kronecker()[0].activation);
        assert_close(&format!("Ā after {k} steps"), &found, &expected, ROUNDING);
    }
}

#[test]
fn the_average_of_the_iterates_starts_late_and_forgets() {
    let averaging = IterateAveraging::From { start: 3, cap: 0.6 };
    let mut model = SPEC.model(1);
    let batch = SPEC.batch(&Gaussian, 9, 2);
    let config = exact_config().with_averaging(averaging);
    let mut optimizer = config.init(&model, Gaussian, &batch.inputs).unwrap();
    let place =
        |model: &Mlp, optimizer: &Kfac<Gaussian>| column(&optimizer.layers().parameters(model));
    let mut expected = place(&model, &optimizer);
    // ξ of iterations 3 to 6: 0, 1/2, then the cap instead of 2/3 and 3/4.
    for (k, xi) in [
        (1, None),
        (2, None),
        (3, Some(0.0)),
        (4, Some(0.5)),
        (5, Some(0.6)),
        (6, Some(0.6)),
    ] {
        optimizer.step(&mut model, &batch).unwrap();
        let average = optimizer.averaged_model(&model);
        assert_eq!(average.is_some(), xi.is_some(), "iteration {k}");
        if let (Some(average), Some(xi)) = (average, xi) {
            let iterate = place(&model, &optimizer);
            expected = &expected * faer::Scale(xi) + iterate * faer::Scale(1.0 - xi);
            assert_close("average", &place(&average, &optimizer), &expected, ROUNDING);
        }
    }
    let off = exact_config().with_averaging(IterateAveraging::Off);
    let (optimizer, _) = run(&off, Gaussian, &mut model, &batch, 3);
    assert!(optimizer.averaged_model(&model).is_none());
}

fn assert_chunks<L: PredictiveDistribution + Clone>(loss: &L, fisher: FisherEstimate) {
    let batch = SPEC.batch(loss, 20, 2);
    let trained = |chunk_size: usize| {
        let mut model = SPEC.model(1);
        let config =
            exact_config().map_curvature(|c| c.with_fisher(fisher).with_chunk_size(chunk_size));
        let config = config
            .with_model_fraction(Some(0.65))
            .with_model_min_cases(0);
        let (optimizer, reports) = run(&config, loss.clone(), &mut model, &batch, 5);
        (
            column(&optimizer.layers().parameters(&model)),
            reports[4].objective,
        )
    };
    let (whole, objective) = trained(20);
    for size in [1, 7, 100] {
        let (parameters, chunked) = trained(size);
        assert_close(
            &format!("{loss:?}, chunks of {size}"),
            &parameters,
            &whole,
            ROUNDING,
        );
        assert_near("objective", chunked, objective, ROUNDING);
    }
}

#[test]
fn chunks_change_a_step_by_rounding_only() {
    for fisher in [FisherEstimate::Exact, FisherEstimate::Empirical] {
        assert_chunks(&Bernoulli, fisher);
        assert_chunks(&Categorical, fisher);
        assert_chunks(&Gaussian, fisher);
    }
}

/// Beyond a thousand cases the passes for the factors are cut into parts, of which several run at once on
/// more than one thread: the sampled targets stay those of the cases, and only rounding differs.
#[test]
fn threads_change_the_factors_of_many_cases_by_rounding_only() {
    let spec = Spec::new(&[3, 4, 2], Activation::Tanh);
    let (model, batch) = (spec.model(1), spec.batch(&Bernoulli, 2500, 2));
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let estimate = Estimate::new(FisherEstimate::MonteCarlo, WeightSharing::Expand);
        let estimate = estimate.in_chunks_of(5000);
        pool.unwrap()
            .install(|| estimate.factors(&model, &Bernoulli, &batch))
    };
    assert_same_factors("2 threads", &of(2), &of(1), 1e-12);
    assert_same_factors("3 threads", &of(3), &of(1), 1e-12);
}

#[test]
fn the_seed_decides_every_bit() {
    let batch = SPEC.batch(&Bernoulli, 40, 2);
    let trained = |seed: u64| {
        let mut model = SPEC.model(1);
        let config = exact_config()
            .map_curvature(|c| c.with_fisher(FisherEstimate::MonteCarlo).with_seed(seed));
        run(&config, Bernoulli, &mut model, &batch, 4);
        bits(&model)
    };
    assert_eq!(trained(7), trained(7));
    assert_ne!(trained(7), trained(8));
}

/// The curvature of the first step, and its first input factor, of a batch of ten.
fn subset_step(config: &KfacConfig) -> (StepReport, Mat<f64>, Mat<f64>, Mat<f64>) {
    let mut model = SPEC.model(1);
    let batch = SPEC.batch(&Gaussian, 10, 2);
    let before = model.clone();
    let (optimizer, mut reports) = run(config, Gaussian, &mut model, &batch, 1);
    let layers = optimizer.layers();
    let step = column(&layers.parameters(&model)) - column(&layers.parameters(&before));
    let report = reports.remove(0);
    let proposal = step * faer::Scale(1.0 / report.alpha);
    let curvature = |cases: usize| {
        let fisher = exact::fisher(&before, layers, &Gaussian, &batch.slice(0..cases));
        let c = damped(&fisher, report.lambda.used + config.l2);
        inner(&proposal, &(c * &proposal))
    };
    let curvatures = Mat::from_fn(10, 1, |i, _| curvature(i + 1));
    let rows = dense(&append_ones(batch.inputs.clone()));
    (
        report,
        curvatures,
        rows,
        dense(&optimizer.factors().kronecker()[0].activation),
    )
}

#[test]
fn the_first_cases_are_the_subsets_where_that_is_asked_for() {
    // ⌈fraction · 10⌉ cases, but at least so many for the model.
    for (fraction, at_least, s1, s2) in [
        (0.25, 0, 3, 3),
        (0.5, 0, 5, 5),
        (0.3, 7, 3, 7),
        (1.0, 0, 10, 10),
        (0.01, 250, 1, 10),
    ] {
        let config = exact_config()
            .map_curvature(|c| {
                c.with_statistics_fraction(Some(fraction))
                    .with_subsets(Subsets::First)
            })
            .with_model_fraction(Some(fraction))
            .with_model_min_cases(at_least);
        let (report, curvatures, rows, factor) = subset_step(&config);
        let head = rows.submatrix(0, 0, s1, rows.ncols()).to_owned();
        assert_close(
            &format!("S₁ of {fraction}"),
            &factor,
            &mean_outer(&head),
            ROUNDING,
        );
        let (found, expected) = (report.quadratic.proposal_proposal, curvatures[(s2 - 1, 0)]);
        assert_near(&format!("S₂ of {fraction}"), found, expected, ROUNDING);
    }
}

/// The cases of S₁ and S₂ in each of four steps with the default settings.
fn chosen(spec: Spec<'_>, batch: &Batch<Tensor<2>>) -> Vec<[usize; 2]> {
    let mut model = spec.model(1);
    let (_, reports) = run(&KfacConfig::new(), Gaussian, &mut model, batch, 4);
    let sizes = reports.iter().map(|r| [r.statistics_cases, r.model_cases]);
    sizes.collect()
}

#[test]
fn subsets_have_as_many_cases_as_they_need() {
    // Where all cases are the same, the quadratic model needs no more than its least.
    let same = |inputs: usize, cases: usize| {
        let rows: Tensor<2> = Tensor::ones([cases, inputs], &burn::tensor::Device::flex());
        let targets: Tensor<2> = Tensor::zeros([cases, 2], &burn::tensor::Device::flex());
        let dtype = burn::tensor::DType::F64;
        Batch::new(rows.cast(dtype), targets.cast(dtype))
    };
    assert!(
        chosen(SPEC, &same(3, 600))
            .iter()
            .all(|sizes| *sizes == [32, 100])
    );
    // 2.5 · 1001 vectors in an average of 39 updates: 64.2.
    let wide = Spec::new(&[1000, 2], Activation::Linear);
    assert!(
        chosen(wide, &same(1000, 300))
            .iter()
            .all(|sizes| *sizes == [65, 100])
    );
    // A batch is used whole where it has no more.
    assert!(
        chosen(SPEC, &same(3, 20))
            .iter()
            .all(|sizes| *sizes == [20, 20])
    );

    // One case in 25 has nearly all of vᵀ F v: a spread of 24, for which, in a batch of 600 and with an inverse that costs
    // nothing, 24 + √(24² + 24 · 1800 / 4) = 131 are worth their time. The first hundred have one to eight of them.
    let uneven = same(3, 600);
    let heavy = (0..600).flat_map(|case| [if case * 367 % 600 < 24 { 100.0 } else { 0.01 }; 3]);
    let heavy: Vec<f64> = heavy.collect();
    let data = burn::tensor::TensorData::new(heavy, [600, 3]);
    let inputs = Tensor::from_data(
        data,
        (&burn::tensor::Device::flex(), burn::tensor::DType::F64),
    );
    let linear = Spec::new(&[3, 2], Activation::Linear);
    let sizes = chosen(linear, &Batch::new(inputs, uneven.targets));
    assert_eq!(sizes[0][1], 100);
    assert!((101..=350).contains(&sizes[3][1]), "{sizes:?}");
}
