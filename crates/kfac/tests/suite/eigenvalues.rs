//! Are corrected eigenvalues those of the Fisher in the Kronecker eigenbasis, and mixed as they say?

use std::sync::Arc;

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{
    Batch, Categorical, ConfigFault, DampingScheme, Eigenvalues, FisherEstimate, Gaussian,
    InitError, InverseMethod, InverseStructure, KfacConfig, Network, PiNorm,
    PredictiveDistribution, RandomStream, RefreshTiming, WeightSharing,
    blocks::{BlockInverse, EigenBasis, EigenInverse, FactorSet},
    curvature::{Correction, FisherInverse},
};

use crate::support::{
    self, Call, Estimate, Kind, SequenceNetwork, assert_close, assert_near, class_targets, damped,
    dense, exact_config, random_vector, sequences, solve,
};
use crate::support::{Estimates, exact, kronecker};

/// Products of a dense block of up to forty rows with orthogonal matrices, in double precision.
const ROUNDING: f64 = 1e-11;
const GAMMA: f64 = 0.3;

/// The kinds whose blocks have an eigenbasis, one of them at several positions with groups.
const KINDS: [Kind; 7] = [
    Kind::Dense,
    Kind::Conv1d,
    Kind::Conv2d,
    Kind::Grouped,
    Kind::Depthwise,
    Kind::Transposed,
    Kind::Embedding,
];

/// A batch's factors, their inverse with exact damping, and that with corrected eigenvalues.
struct Corrected {
    factors: Estimates,
    kronecker: FisherInverse,
    ekfac: FisherInverse,
}

fn corrected<M: Network<Output = Tensor<2>>, L: PredictiveDistribution + Clone>(
    (model, loss): (&M, &L),
    batch: &Batch<M::Input>,
    estimate: Estimate,
    eigenvalues: Eigenvalues,
) -> Corrected {
    let blocks = estimate.blocks(model, &batch.inputs);
    let estimator = estimate.estimator(&blocks, loss);
    let factors: FactorSet = estimator
        .factors(model, batch, &mut RandomStream::from_seed(1))
        .unwrap();
    let rule = DampingScheme::ExactTikhonov.rule();
    let kronecker = factors
        .damped_inverse(blocks.layers(), rule, InverseMethod::Automatic, GAMMA)
        .unwrap();
    let correction = Correction {
        inverse: &kronecker,
        eigenvalues,
        damping: GAMMA * GAMMA,
    };
    let mut random = RandomStream::from_seed(1);
    let corrected = estimator.corrected(correction, model, batch, &mut random);
    Corrected {
        factors: factors.blocks,
        kronecker,
        ekfac: corrected.unwrap(),
    }
}

/// The eigenvectors of a block as columns, in the order of the layer's matrix read row by row; group
/// by group.
fn basis(inverse: &EigenBasis, (groups, group): (usize, usize)) -> Mat<f64> {
    let gradient = dense(&inverse.gradient_basis);
    let [rows, width] = inverse.eigenvalues.dims();
    let activation = inverse.activation_basis.as_ref();
    let activation = activation.map_or_else(|| Mat::identity(rows, rows), dense);
    let own = kronecker::product(&activation, &gradient);
    // A group's columns lie among those of the others.
    let all = groups * width;
    let mut placed = Mat::zeros(rows * all, rows * width);
    for i in 0..rows * width {
        for j in 0..rows * width {
            placed[((i / width) * all + group * width + i % width, j)] = own[(i, j)];
        }
    }
    placed
}

/// The eigenbasis of each group; none where the inverse has no such.
fn bases(inverse: &Arc<dyn BlockInverse>) -> &[EigenBasis] {
    inverse.downcast().map_or(&[], EigenInverse::bases)
}

/// `Q S Qᵀ` summed over groups.
fn block_of(inverse: &Arc<dyn BlockInverse>) -> Mat<f64> {
    let groups = bases(inverse);
    let of_group = |(group, inverse): (usize, &EigenBasis)| {
        let q = basis(inverse, (groups.len(), group));
        let values = kronecker::vec_of_rows(&dense(&inverse.eigenvalues));
        let scaled = Mat::from_fn(q.nrows(), q.ncols(), |i, j| q[(i, j)] * values[(j, 0)]);
        scaled * q.transpose()
    };
    let blocks = groups.iter().enumerate().map(of_group);
    blocks.reduce(|sum, block| sum + block).unwrap()
}

/// `diag(Qᵀ F Q)` of each group.
fn diagonals(inverse: &Arc<dyn BlockInverse>, fisher: &Mat<f64>) -> Vec<Mat<f64>> {
    let groups = bases(inverse);
    let of_group = |(group, inverse): (usize, &EigenBasis)| {
        let q = basis(inverse, (groups.len(), group));
        let rotated = q.transpose() * fisher * &q;
        let columns = inverse.eigenvalues.dims()[1];
        Mat::from_fn(q.ncols() / columns, columns, |i, j| {
            let at = i * columns + j;
            rotated[(at, at)]
        })
    };
    groups.iter().enumerate().map(of_group).collect()
}

/// The columns of one of several groups, in a layer's matrix read row by row: all else made zero.
fn within_groups(block: &Mat<f64>, inverse: &Arc<dyn BlockInverse>) -> Mat<f64> {
    let groups = bases(inverse);
    let width = groups[0].eigenvalues.dims()[1];
    let all = groups.len() * width;
    let group = |i: usize| i % all / width;
    Mat::from_fn(block.nrows(), block.ncols(), |i, j| {
        if group(i) == group(j) {
            block[(i, j)]
        } else {
            0.0
        }
    })
}

fn trace(m: &Mat<f64>) -> f64 {
    (0..m.nrows()).map(|i| m[(i, i)]).sum()
}

fn own_block(fisher: &Mat<f64>, start: usize, size: usize) -> Mat<f64> {
    fisher.submatrix(start, start, size, size).to_owned()
}

/// Fails where the corrected eigenvalues of a model's layers are not those of `fisher`, the dense matrix
/// of all layers.
fn assert_corrected(what: &str, found: &Corrected, fisher: &Mat<f64>, sizes: &[usize]) {
    let mut start = 0;
    for (layer, size) in sizes.iter().enumerate() {
        let block = own_block(fisher, start, *size);
        start += size;
        let inverse = &found.ekfac.blocks()[layer];
        if bases(inverse).is_empty() {
            continue;
        }
        let what = format!("{what}, layer {layer}");
        let values = bases(inverse).iter().zip(diagonals(inverse, &block));
        for (inverse, expected) in values {
            assert_close(&what, &dense(&inverse.eigenvalues), &expected, ROUNDING);
        }
        let [ekfac, kfac] = [inverse, &found.kronecker.blocks()[layer]].map(block_of);
        assert_near(
            &format!("trace, {what}"),
            trace(&ekfac),
            trace(&block),
            ROUNDING,
        );
        // Blocks of groups say nothing of two groups together.
        let block = within_groups(&block, inverse);
        let [ekfac, kfac] = [ekfac, kfac].map(|approximate| (approximate - &block).norm_l2());
        let slack = ROUNDING * block.norm_l2();
        assert!(ekfac <= kfac + slack, "{what}: {ekfac:e}, K-FAC {kfac:e}");
    }
}

fn sizes<M: Network<Output = Tensor<2>>>(
    estimate: Estimate,
    model: &M,
    inputs: &M::Input,
) -> Vec<usize> {
    let layers = estimate.layers(model, inputs);
    layers
        .iter()
        .map(|layer| layer.activation_dimension() * layer.d_out)
        .collect()
}

#[test]
fn eigenvalues_of_each_case_are_the_diagonal_of_the_fisher_in_the_eigenbasis() {
    for kind in KINDS {
        let (model, batch) = (kind.model(1), Kind::batch(5, 2));
        for chunk_size in [1000, 2] {
            for sharing in [WeightSharing::Expand, WeightSharing::Reduce] {
                let of = |fisher| Estimate::new(fisher, sharing).in_chunks_of(chunk_size);
                let exact = of(FisherEstimate::Exact);
                let layers = exact.layers(&model, &batch.inputs);
                let sizes = sizes(exact, &model, &batch.inputs);
                let found = corrected((&model, &Gaussian), &batch, exact, Eigenvalues::PerCase);
                let fisher = exact::fisher(&model, &layers, &Gaussian, &batch);
                assert_corrected(&format!("{kind:?}, {exact:?}"), &found, &fisher, &sizes);
                let empirical = of(FisherEstimate::Empirical);
                let found = corrected((&model, &Gaussian), &batch, empirical, Eigenvalues::PerCase);
                let fisher = exact::empirical_fisher(&model, &layers, &Gaussian, &batch);
                assert_corrected(&format!("{kind:?}, {empirical:?}"), &found, &fisher, &sizes);
            }
        }
    }
}

#[test]
fn padded_and_folded_positions_are_corrected_like_any() {
    let padded = |case: usize, position: usize| position > case % 4;
    let batch = Batch::new(sequences([5, 4], 3, padded), class_targets(5, 3));
    // Folded, the network masks itself, and the layers' gradients are zero at padded positions.
    for call in [Call::Positions, Call::Folded] {
        let model = SequenceNetwork::new(call, 1);
        for sharing in [WeightSharing::Expand, WeightSharing::Reduce] {
            let estimate = Estimate::new(FisherEstimate::Exact, sharing);
            let layers = estimate.layers(&model, &batch.inputs);
            let found = corrected(
                (&model, &Categorical),
                &batch,
                estimate,
                Eigenvalues::PerCase,
            );
            let fisher = exact::fisher(&model, &layers, &Categorical, &batch);
            let sizes = sizes(estimate, &model, &batch.inputs);
            assert_corrected(&format!("{call:?}, {estimate:?}"), &found, &fisher, &sizes);
        }
    }
}

/// The block of a single case at one position is the product of its factors.
#[test]
fn a_single_case_at_one_position_needs_no_correction() {
    let spec = support::Spec::new(&[3, 4, 2], support::Activation::Tanh);
    let (model, batch) = (spec.model(1), spec.batch(&Gaussian, 1, 2));
    let estimate = Estimate::new(FisherEstimate::Exact, WeightSharing::Expand);
    let found = corrected((&model, &Gaussian), &batch, estimate, Eigenvalues::PerCase);
    for (new, old) in found.ekfac.blocks().iter().zip(found.kronecker.blocks()) {
        assert_close("block", &block_of(new), &block_of(old), ROUNDING);
    }
}

#[test]
fn eigenvalues_of_the_batch_mean_are_its_squares() {
    let n = 6;
    for kind in KINDS {
        let (model, batch) = (kind.model(1), Kind::batch(n, 2));
        let estimate = Estimate::new(FisherEstimate::MonteCarlo, WeightSharing::Expand);
        let found = corrected(
            (&model, &Gaussian),
            &batch,
            estimate,
            Eigenvalues::BatchMean,
        );
        // The targets that the estimator draws, and the objective's gradient with these.
        let outputs = model
            .forward(batch.inputs.clone(), &mut kfac::Tape::off())
            .inner();
        let targets = Gaussian.sample(outputs, &mut RandomStream::from_seed(1));
        let sampled = Batch::new(batch.inputs.clone(), targets);
        let layers = estimate.layers(&model, &batch.inputs);
        let objective = support::objective(&layers, &Gaussian, 0.0);
        let parameters = layers.parameters(&model);
        let (_, mean) = objective.gradient(&model, &parameters, &sampled).unwrap();
        for (layer, mean) in mean.blocks().iter().enumerate() {
            let inverse = &found.ekfac.blocks()[layer];
            let d = kronecker::vec_of_rows(&dense(mean));
            let square = &d * d.transpose() * faer::Scale(n as f64);
            let values = bases(inverse).iter();
            for (inverse, expected) in values.zip(diagonals(inverse, &square)) {
                let what = format!("{kind:?}, layer {layer}");
                assert_close(&what, &dense(&inverse.eigenvalues), &expected, ROUNDING);
            }
        }
    }
}

#[test]
fn parts_of_a_batch_have_its_mean() {
    let (model, batch) = (Kind::Dense.model(1), Kind::batch(6, 2));
    let whole = Estimate::new(FisherEstimate::MonteCarlo, WeightSharing::Expand);
    let of = |estimate| {
        let network = (&model, &Gaussian);
        corrected(network, &batch, estimate, Eigenvalues::BatchMean).ekfac
    };
    let pairs = eigenvalues(&of(whole.in_chunks_of(2)));
    for (found, expected) in pairs.iter().zip(eigenvalues(&of(whole))) {
        let [found, expected] = [found, &expected].map(|inverse| dense(&inverse.eigenvalues));
        assert_close("eigenvalues", &found, &expected, ROUNDING);
    }
}

/// `(Q (S + γ² I) Qᵀ)⁻¹ v` by a dense solve, for each layer with an eigenbasis.
#[test]
fn the_corrected_inverse_is_a_dense_solve() {
    for kind in KINDS {
        let (model, batch) = (kind.model(1), Kind::batch(5, 2));
        let estimate = Estimate::new(FisherEstimate::Exact, WeightSharing::Expand);
        let found = corrected((&model, &Gaussian), &batch, estimate, Eigenvalues::PerCase);
        let layers = estimate.layers(&model, &batch.inputs);
        let v = random_vector(&layers.parameters(&model), 3);
        let product = found.ekfac.multiply(&v);
        for (layer, inverse) in found.ekfac.blocks().iter().enumerate() {
            let block = damped(&block_of(inverse), GAMMA * GAMMA);
            let expected = solve(&block, &kronecker::vec_of_rows(&dense(&v.blocks()[layer])));
            let product = kronecker::vec_of_rows(&dense(&product.blocks()[layer]));
            assert_close(
                &format!("{kind:?}, layer {layer}"),
                &product,
                &expected,
                ROUNDING,
            );
        }
        assert_eq!(found.factors.len(), found.ekfac.blocks().len());
    }
}

fn ekfac_config() -> KfacConfig {
    exact_config().map_curvature(|c| {
        c.with_damping(DampingScheme::ExactTikhonov)
            .with_eigenvalues(Eigenvalues::PerCase)
    })
}

/// The eigenvalues of all eigenbases of an inverse, layer by layer and group by group.
fn eigenvalues(inverse: &FisherInverse) -> Vec<EigenBasis> {
    let blocks = inverse.blocks().iter();
    blocks.flat_map(|block| bases(block).to_vec()).collect()
}

#[test]
fn between_refreshes_eigenvalues_follow_their_running_average() {
    assert_eigenvalues_follow(RefreshTiming::AtOnce);
    assert_eigenvalues_follow(RefreshTiming::Ahead);
}

fn assert_eigenvalues_follow(timing: RefreshTiming) {
    let (cap, period) = (0.8, 4);
    let config = ekfac_config()
        .map_curvature(|c| {
            c.with_statistics_cap(cap)
                .with_initial_refreshes(1)
                .with_inverse_period(period)
        })
        .with_gamma_period(period)
        .map_curvature(|c| c.with_refresh_timing(timing));
    for kind in KINDS {
        let mut model = kind.model(1);
        let example: Tensor<2> = Kind::batch(1, 0).inputs;
        let mut optimizer = config.init(&model, Gaussian, &example).unwrap();
        for iteration in 1..=2 * period {
            let batch = Kind::batch(5, 10 + iteration);
            let before = (model.clone(), optimizer.inverse().cloned());
            let gamma = optimizer.gamma();
            let report = optimizer.step(&mut model, &batch).unwrap();
            let after = optimizer.inverse().unwrap();
            assert_eq!(report.refreshed, iteration == 1 || iteration % period == 0);
            let (model, Some(old)) = before else { continue };
            if report.refreshed {
                continue;
            }
            let fisher = exact::fisher(&model, optimizer.layers(), &Gaussian, &batch);
            let mut start = 0;
            let mut new = Vec::new();
            for (layer, inverse) in optimizer.layers().iter().zip(old.blocks()) {
                let size = layer.activation_dimension() * layer.d_out;
                new.extend(diagonals(inverse, &own_block(&fisher, start, size)));
                start += size;
            }
            let pairs = eigenvalues(&old)
                .into_iter()
                .zip(eigenvalues(after))
                .zip(new);
            for ((old, after), new) in pairs {
                let what = format!("{kind:?}, {timing:?}, iteration {iteration}");
                let mean =
                    dense(&old.eigenvalues) * faer::Scale(cap) + new * faer::Scale(1.0 - cap);
                assert_close(&what, &dense(&after.eigenvalues), &mean, ROUNDING);
                let expected = Mat::from_fn(mean.nrows(), mean.ncols(), |i, j| {
                    1.0 / (mean[(i, j)] + gamma * gamma)
                });
                assert_close(&what, &dense(&after.reciprocals), &expected, ROUNDING);
                let same = (dense(&old.gradient_basis), dense(&after.gradient_basis));
                assert_eq!(same.0, same.1, "{what}: the basis changed");
            }
        }
    }
}

#[test]
fn a_refresh_starts_again_from_the_factors_products() {
    let config = ekfac_config().map_curvature(|c| c.with_initial_refreshes(3));
    for kind in KINDS {
        let (mut model, batch) = (kind.model(1), Kind::batch(5, 2));
        let (optimizer, _) = support::run(&config, Gaussian, &mut model, &batch, 3);
        let fresh = optimizer
            .factors()
            .damped_inverse(
                optimizer.layers(),
                DampingScheme::ExactTikhonov.rule(),
                InverseMethod::Automatic,
                optimizer.gamma(),
            )
            .unwrap();
        let pairs = eigenvalues(optimizer.inverse().unwrap())
            .into_iter()
            .zip(eigenvalues(&fresh));
        for (found, expected) in pairs {
            let [found, expected] = [found, expected].map(|inverse| dense(&inverse.eigenvalues));
            assert_close(&format!("{kind:?}"), &found, &expected, ROUNDING);
        }
    }
}

#[test]
fn combinations_that_make_no_sense_are_faults() {
    let factored = DampingScheme::FactoredTikhonov { pi: PiNorm::Trace };
    let good = ekfac_config();
    assert!(good.validate().is_empty());
    for eigenvalues in [Eigenvalues::PerCase, Eigenvalues::BatchMean] {
        let config = good.clone().map_curvature(|c| {
            c.with_eigenvalues(eigenvalues)
                .with_fisher(FisherEstimate::MonteCarlo)
        });
        assert!(config.validate().is_empty());
        let faults = config
            .clone()
            .map_curvature(|c| c.with_damping(factored))
            .validate();
        assert_eq!(faults, [ConfigFault::CorrectionOfFactoredDamping]);
        let faults = config
            .clone()
            .map_curvature(|c| c.with_inverse_method(InverseMethod::Cholesky))
            .validate();
        assert_eq!(faults, [ConfigFault::CholeskyOfExactDamping]);
        let faults = config
            .map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal))
            .validate();
        assert_eq!(faults, [ConfigFault::TridiagonalOfExactDamping]);
    }
    for fisher in [FisherEstimate::Exact, FisherEstimate::Empirical] {
        let mean = good.clone().map_curvature(|c| {
            c.with_fisher(fisher)
                .with_eigenvalues(Eigenvalues::BatchMean)
        });
        assert_eq!(mean.validate(), [ConfigFault::BatchMeanOfUnsampledTargets]);
    }
    let both = good.map_curvature(|c| {
        c.with_eigenvalues(Eigenvalues::BatchMean)
            .with_damping(factored)
    });
    let model = Kind::Dense.model(1);
    let error = both
        .init(&model, Gaussian, &Kind::batch(1, 1).inputs)
        .unwrap_err();
    let faults = vec![
        ConfigFault::CorrectionOfFactoredDamping,
        ConfigFault::BatchMeanOfUnsampledTargets,
    ];
    assert_eq!(error, InitError::Configuration(faults));
}
