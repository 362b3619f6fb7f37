//! Do blocks that are no single product have the elements and the inverse that their definitions say?

use faer::Mat;
use kfac::{
    Coverage, DampingScheme, FisherEstimate, Gaussian, InverseMethod, PiNorm, RandomStream,
    WeightSharing,
    blocks::{BlockOptions, Blocks, DiagonalFactors, FactorSet, FullFactors},
};

use crate::support::{
    self, Estimate, Kind, assert_close, assert_same_factors, damped, dense, pairs, random_vector,
    solve,
};
use crate::support::{exact, kronecker};

/// Sums of some hundred products of order one, and solves of condition about 1e3, in double precision.
const ROUNDING: f64 = 1e-11;
const GAMMA: f64 = 0.3;

const EXACT: Estimate = Estimate::new(FisherEstimate::Exact, WeightSharing::Expand);
const EMPIRICAL: Estimate = Estimate::new(FisherEstimate::Empirical, WeightSharing::Expand);
const SAMPLED: Estimate = Estimate::new(FisherEstimate::MonteCarlo, WeightSharing::Expand);

/// Fails where a block that is no product is not that of `fisher`, the dense matrix of all layers.
/// Returns how many there are.
fn assert_blocks(what: &str, kind: Kind, estimate: Estimate, fisher: &Mat<f64>) -> usize {
    let (model, batch) = (kind.model(1), Kind::batch(6, 2));
    let layers = estimate.layers(&model, &batch.inputs);
    let factors = estimate.factors(&model, &Gaussian, &batch);
    let (mut start, mut blocks) = (0, 0);
    for (layer, factors) in layers.iter().zip(&factors) {
        let rows = layer.activation_dimension();
        let size = rows * layer.d_out;
        let block = fisher.submatrix(start, start, size, size);
        start += size;
        let what = format!("{what}, {}", layer.path);
        if let Some(FullFactors(found)) = factors.downcast() {
            assert_close(&what, &dense(found), &block.to_owned(), ROUNDING);
        } else if let Some(DiagonalFactors(found)) = factors.downcast() {
            let of = |i: usize| block[(i, i)];
            let expected = Mat::from_fn(rows, layer.d_out, |i, j| of(i * layer.d_out + j));
            assert_close(&what, &dense(found), &expected, ROUNDING);
        } else {
            continue;
        }
        blocks += 1;
    }
    blocks
}

#[test]
fn blocks_that_are_no_products_are_those_of_the_fisher() {
    let kinds = Kind::ALL.into_iter();
    for kind in kinds.filter(|kind| kind.scales() || *kind == Kind::Parameter) {
        let (model, batch) = (kind.model(1), Kind::batch(6, 2));
        let layers = EXACT.layers(&model, &batch.inputs);
        let exact = exact::fisher(&model, &layers, &Gaussian, &batch);
        let empirical = exact::empirical_fisher(&model, &layers, &Gaussian, &batch);
        for (estimate, fisher) in [(EXACT, &exact), (EMPIRICAL, &empirical)] {
            for estimate in [estimate, estimate.with_full_scale_shift()] {
                let what = format!("{kind:?}, {estimate:?}");
                assert!(assert_blocks(&what, kind, estimate, fisher) > 0, "{what}");
            }
        }
    }
}

/// The batch's gradient has the Fisher as its second moment, times the number of cases: a mean of 4000
/// squares of normal numbers is off by √(2 / 4000) = 2 %, and five times that is never seen.
#[test]
fn sampled_targets_give_a_parameters_block_in_the_mean() {
    let (model, batch) = (Kind::Parameter.model(1), Kind::batch(4, 2));
    let blocks = SAMPLED.blocks(&model, &batch.inputs);
    let estimator = SAMPLED.estimator(&blocks, &Gaussian);
    let mut random = RandomStream::from_seed(5);
    let mut sum = Mat::zeros(1, support::FEATURES);
    let runs = 4000;
    for _ in 0..runs {
        let factors = estimator.factors(&model, &batch, &mut random).unwrap();
        sum += pairs(&factors.blocks[0])[0][1].as_ref();
    }
    let mean = sum * faer::Scale(1.0 / f64::from(runs));
    let exact = EXACT.factors(&model, &Gaussian, &batch);
    assert_close("diagonal", &mean, &pairs(&exact[0])[0][1], 0.1);
}

/// A sample's square has the same variance as any, so the mean squared error falls to 1 / 8. Of 300 runs
/// each mean is off by about 10 %: half of the fall is never missed.
#[test]
fn several_samples_make_a_parameters_block_less_noisy() {
    let (model, batch) = (Kind::Parameter.model(1), Kind::batch(4, 2));
    let exact = &pairs(&EXACT.factors(&model, &Gaussian, &batch)[0])[0][1];
    let blocks = SAMPLED.blocks(&model, &batch.inputs);
    let error = |samples: usize| {
        let estimator = SAMPLED.estimator(&blocks, &Gaussian).with_samples(samples);
        let mut random = RandomStream::from_seed(7);
        let squares = (0..300).map(|_| {
            let factors = estimator.factors(&model, &batch, &mut random).unwrap();
            (&pairs(&factors.blocks[0])[0][1] - exact).squared_norm_l2()
        });
        squares.sum::<f64>()
    };
    let (one, eight) = (error(1), error(8));
    assert!(
        eight < one / 4.0,
        "{eight:e} with eight samples, {one:e} with one"
    );
}

/// The same random numbers make the same targets, whatever the parts.
#[test]
fn a_batch_with_sampled_targets_is_the_sum_of_its_parts() {
    for kind in Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Parameter)
    {
        let (model, batch) = (kind.model(1), Kind::batch(6, 2));
        for whole in [SAMPLED, SAMPLED.with_full_scale_shift()] {
            let expected = whole.factors(&model, &Gaussian, &batch);
            let parts = whole.in_chunks_of(4);
            let found = parts.factors(&model, &Gaussian, &batch);
            assert_same_factors(&format!("{kind:?}, {whole:?}"), &found, &expected, ROUNDING);
        }
    }
}

/// So they do with several samples, each of which goes through all cases before the next.
#[test]
fn parts_change_no_draw_of_several_samples() {
    for kind in [Kind::Dense, Kind::Parameter] {
        let (model, batch) = (kind.model(1), Kind::batch(6, 2));
        let blocks = SAMPLED.blocks(&model, &batch.inputs);
        let of = |chunk_size: usize| {
            let estimator = SAMPLED.estimator(&blocks, &Gaussian).with_samples(3);
            let estimator = estimator.with_chunk_size(chunk_size);
            let mut random = RandomStream::from_seed(1);
            estimator
                .factors(&model, &batch, &mut random)
                .unwrap()
                .blocks
        };
        assert_same_factors(&format!("{kind:?}"), &of(4), &of(1000), ROUNDING);
    }
}

#[test]
fn parts_of_a_batch_have_its_gradient_in_a_parameter() {
    let (model, batch) = (Kind::Parameter.model(1), Kind::batch(6, 2));
    let expected = SAMPLED.factors(&model, &Gaussian, &batch);
    let found = SAMPLED.in_chunks_of(4).factors(&model, &Gaussian, &batch);
    assert_same_factors("parameter", &found, &expected, ROUNDING);
}

/// The balance of two factors, of which a diagonal one is a column.
fn balance(norm: PiNorm, [a, g]: [&Mat<f64>; 2]) -> f64 {
    let size = |m: &Mat<f64>| {
        let diagonal = |i: usize| if m.ncols() == 1 { m[(i, 0)] } else { m[(i, i)] };
        let d = m.nrows() as f64;
        match norm {
            PiNorm::Trace => (0..m.nrows()).map(diagonal).sum::<f64>() / d,
            PiNorm::Frobenius => m.norm_l2() / d.sqrt(),
            PiNorm::One => 1.0,
        }
    };
    (size(a) / size(g)).sqrt()
}

/// `(Ā + πγI)⁻¹ V (G + γ/π I)⁻¹`
fn damped_product([a, g]: &[Mat<f64>; 2], v: &Mat<f64>, norm: PiNorm) -> Mat<f64> {
    let pi = balance(norm, [a, g]);
    let a = if a.ncols() == 1 && a.nrows() > 1 {
        Mat::from_fn(
            a.nrows(),
            a.nrows(),
            |i, j| if i == j { a[(i, 0)] } else { 0.0 },
        )
    } else {
        a.clone()
    };
    let block = kronecker::product(&damped(&a, pi * GAMMA), &damped(g, GAMMA / pi));
    let solution = solve(&block, &kronecker::vec_of_rows(v));
    Mat::from_fn(v.nrows(), v.ncols(), |i, j| {
        solution[(i * v.ncols() + j, 0)]
    })
}

#[test]
fn groups_and_embeddings_balance_their_own_damping() {
    for kind in [Kind::Dense, Kind::Grouped, Kind::Depthwise, Kind::Embedding] {
        let (model, batch) = (kind.model(1), Kind::batch(6, 2));
        let layers = EXACT.layers(&model, &batch.inputs);
        let factors = EXACT.factors(&model, &Gaussian, &batch);
        let set = FactorSet {
            links: vec![None; factors.len()],
            blocks: factors,
        };
        let v = random_vector(&layers.parameters(&model), 3);
        for norm in [PiNorm::Trace, PiNorm::Frobenius, PiNorm::One] {
            for method in [InverseMethod::Cholesky, InverseMethod::Eigen] {
                let damping = DampingScheme::FactoredTikhonov { pi: norm };
                let inverse = set
                    .damped_inverse(&layers, damping.rule(), method, GAMMA)
                    .unwrap();
                let product = inverse.multiply(&v);
                let found = dense(&product.blocks()[0]);
                let v = dense(&v.blocks()[0]);
                let pairs = pairs(&set.blocks[0]);
                let width = v.ncols() / pairs.len();
                for (group, factors) in pairs.iter().enumerate() {
                    let own = |m: &Mat<f64>| m.subcols(group * width, width).to_owned();
                    let expected = damped_product(factors, &own(&v), norm);
                    let what = format!("{kind:?}, {norm:?}, {method:?}, group {group}");
                    assert_close(&what, &own(&found), &expected, ROUNDING);
                }
            }
        }
    }
}

#[test]
fn each_kind_has_the_block_that_it_should() {
    let structure = |kind: Kind, estimate: Estimate| {
        let (model, batch) = (kind.model(1), Kind::batch(1, 2));
        let options = BlockOptions::default().with_scale_shift(estimate.scale_shift);
        let (_, table) = Blocks::discover(&model, &batch.inputs, &options);
        let first = table.rows().iter().find_map(|row| match &row.coverage {
            Coverage::Block(block) if block.layer == 0 => Some(block.description.structure.clone()),
            _ => None,
        });
        first.unwrap()
    };
    for kind in Kind::ALL {
        // The first layers of attention and of an encoder layer are dense.
        let (diagonal, full) = match kind {
            Kind::Embedding => ["one-hot kronecker"; 2].into(),
            Kind::Parameter => ["diagonal"; 2].into(),
            Kind::Grouped | Kind::Depthwise => ["grouped kronecker"; 2].into(),
            _ if kind.scales() && kind != Kind::Encoder => ("diagonal", "full"),
            _ => ["kronecker"; 2].into(),
        };
        assert_eq!(structure(kind, EXACT), diagonal, "{kind:?}");
        assert_eq!(
            structure(kind, EXACT.with_full_scale_shift()),
            full,
            "{kind:?}"
        );
    }
}
