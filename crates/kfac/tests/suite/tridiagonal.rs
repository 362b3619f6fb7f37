//! Is the block-tridiagonal inverse that of the matrix F̂ which section 4.3 defines?

use std::ops::Range;

use faer::Mat;
use kfac::{
    Block, Coverage, DampingScheme, Gaussian, InverseMethod, InverseStructure, Kfac, KfacConfig,
    KroneckerFactors, ParameterVector, PiNorm,
    blocks::{CrossFactors, FactorSet},
    curvature::{ChainLink, ExplainedPart, FisherApproximation},
};
use proptest::prelude::*;

use crate::support::{
    Activation, Setting, Spec, assert_close, cases, column, dense, exact_config, random_vector,
    relative, run, settings, solve, vector,
};
use crate::support::{exact, kronecker};

/// The bound of the specification: products and solves of matrices with condition numbers to 1e5.
const TOLERANCE: f64 = 1e-9;

/// One step of a random network, and everything dense that is compared with it.
struct Chain {
    optimizer: Kfac<Gaussian>,
    factors: FactorSet,
    like: ParameterVector,
    seed: u64,
}

fn tridiagonal(setting: &Setting) -> KfacConfig {
    setting
        .config()
        .map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal))
}

impl Chain {
    fn new(setting: &Setting, config: &KfacConfig) -> Self {
        let (optimizer, report, like) = setting.step(config);
        let rule = config.curvature.damping.rule();
        let factors = optimizer.factors().damped(&*rule, report.gamma).unwrap();
        Self {
            optimizer,
            factors,
            like,
            seed: setting.seed,
        }
    }

    /// The rows of each layer in a column of all parameters.
    fn ranges(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let range = |block: &burn::tensor::Tensor<2>| {
            let start = end;
            end += block.dims().iter().product::<usize>();
            start..end
        };
        self.like.blocks().iter().map(range).collect()
    }

    /// A product with each unit vector.
    fn dense(&self, product: impl Fn(&ParameterVector) -> ParameterVector) -> Mat<f64> {
        let n = column(&self.like).nrows();
        let unit = |j: usize| Mat::from_fn(n, 1, |i, _| f64::from(u8::from(i == j)));
        let columns: Vec<_> = (0..n)
            .map(|j| column(&product(&vector(&unit(j), &self.like))))
            .collect();
        Mat::from_fn(n, n, |i, j| columns[j][(i, 0)])
    }

    fn fisher(&self) -> Mat<f64> {
        let approximation = FisherApproximation::new(self.factors.clone()).unwrap();
        self.dense(|v| approximation.multiply(v))
    }

    fn inverse(&self, v: &ParameterVector) -> ParameterVector {
        self.optimizer.inverse().unwrap().multiply(v)
    }

    /// Block `(i, j)` of a dense matrix.
    fn block(&self, matrix: &Mat<f64>, (i, j): (usize, usize)) -> Mat<f64> {
        let (rows, columns) = (&self.ranges()[i], &self.ranges()[j]);
        matrix
            .submatrix(rows.start, columns.start, rows.len(), columns.len())
            .to_owned()
    }
}

fn own_block(factors: &KroneckerFactors) -> Mat<f64> {
    kronecker::product(&dense(&factors.activation), &dense(&factors.gradient))
}

fn cross_block(cross: &CrossFactors) -> Mat<f64> {
    kronecker::product(&dense(&cross.activation), &dense(&cross.gradient))
}

fn methods() -> impl Strategy<Value = InverseMethod> {
    prop::sample::select(vec![
        InverseMethod::Automatic,
        InverseMethod::Cholesky,
        InverseMethod::Eigen,
    ])
}

fn norms() -> impl Strategy<Value = PiNorm> {
    prop::sample::select(vec![PiNorm::Trace, PiNorm::Frobenius, PiNorm::One])
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn f_hat_agrees_with_the_factored_fisher_on_the_tridiagonal(setting in settings()) {
        let chain = Chain::new(&setting, &tridiagonal(&setting));
        let fisher = chain.fisher();
        for (layer, factors) in chain.factors.kronecker().into_iter().enumerate() {
            let found = chain.block(&fisher, (layer, layer));
            assert_close("diagonal block", &found, &own_block(factors), TOLERANCE);
        }
        let linked = chain.factors.links.iter().flatten().count();
        prop_assert_eq!(linked, chain.factors.blocks.len() - 1);
        for (layer, link) in chain.factors.links.iter().enumerate() {
            if let Some(cross) = link {
                let expected = cross_block(cross);
                let scale = fisher.norm_l2() * TOLERANCE;
                let upper = chain.block(&fisher, (layer, layer + 1)) - &expected;
                let lower = chain.block(&fisher, (layer + 1, layer)) - expected.transpose();
                prop_assert!(upper.norm_l2() < scale && lower.norm_l2() < scale);
            }
        }
    }

    #[test]
    fn the_inverse_is_block_tridiagonal_and_that_of_f_hat(
        setting in settings(),
        method in methods(),
        pi in norms(),
    ) {
        let config = tridiagonal(&setting)
            .map_curvature(|c| c.with_inverse_method(method).with_damping(DampingScheme::FactoredTikhonov { pi }));
        let chain = Chain::new(&setting, &config);
        let fisher = chain.fisher();
        let inverse = chain.dense(|v| chain.inverse(v));
        let n = fisher.nrows();
        assert_close("F̂ F̂⁻¹", &(&fisher * &inverse), &Mat::identity(n, n), TOLERANCE);
        assert_close("symmetric", &inverse.transpose().to_owned(), &inverse, TOLERANCE);
        let layers = chain.factors.blocks.len();
        let apart = (0..layers).flat_map(|i| (0..layers).map(move |j| (i, j)));
        for at in apart.filter(|(i, j)| i.abs_diff(*j) > 1) {
            let size = chain.block(&inverse, at).norm_max();
            prop_assert!(size.to_bits() == 0, "block {:?} of the inverse: {}", at, size);
        }
        let v = random_vector(&chain.like, chain.seed);
        let expected = solve(&fisher, &column(&v));
        assert_close("F̂⁻¹ v", &column(&chain.inverse(&v)), &expected, TOLERANCE);
    }

    #[test]
    fn blocks_off_the_tridiagonal_are_products_of_regressions(setting in settings()) {
        let chain = Chain::new(&setting, &tridiagonal(&setting));
        let fisher = chain.fisher();
        let psi = |layer: usize| {
            let cross = cross_block(chain.factors.links[layer].as_ref().unwrap());
            let next = own_block(chain.factors.kronecker()[layer + 1]);
            // Ψ = F̃_{i,i+1} F̃_{i+1,i+1}⁻¹
            solve(&next, &cross.transpose().to_owned()).transpose().to_owned()
        };
        for i in 0..chain.factors.blocks.len().saturating_sub(2) {
            let expected = psi(i) * psi(i + 1) * own_block(chain.factors.kronecker()[i + 2]);
            let error = (chain.block(&fisher, (i, i + 2)) - expected).norm_l2();
            prop_assert!(error < TOLERANCE * fisher.norm_l2(), "{error:e}");
        }
    }

    #[test]
    fn two_layers_are_solved_exactly(setting in settings(), widths in prop::collection::vec(1usize..6, 3)) {
        let setting = Setting { widths, ..setting };
        let chain = Chain::new(&setting, &tridiagonal(&setting));
        let own: Vec<_> = chain.factors.kronecker().into_iter().map(own_block).collect();
        let cross = cross_block(chain.factors.links[0].as_ref().unwrap());
        let first = own[0].nrows();
        let n = first + own[1].nrows();
        let fisher = Mat::from_fn(n, n, |i, j| match (i < first, j < first) {
            (true, true) => own[0][(i, j)],
            (false, false) => own[1][(i - first, j - first)],
            (true, false) => cross[(i, j - first)],
            (false, true) => cross[(j, i - first)],
        });
        let v = random_vector(&chain.like, chain.seed);
        let expected = solve(&fisher, &column(&v));
        assert_close("F̃⁻¹ v", &column(&chain.inverse(&v)), &expected, TOLERANCE);
    }

    #[test]
    fn all_methods_take_the_same_step(setting in settings()) {
        let after = |method| {
            let (.., parameters) = setting.step(&tridiagonal(&setting).map_curvature(|c| c.with_inverse_method(method)));
            column(&parameters)
        };
        let expected = after(InverseMethod::Eigen);
        assert_close("series", &after(InverseMethod::Cholesky), &expected, TOLERANCE);
        assert_close("automatic", &after(InverseMethod::Automatic), &expected, TOLERANCE);
    }
}

#[test]
fn strong_damping_takes_the_series_and_weak_damping_the_eigenvectors() {
    let spec = Spec::new(&[4, 5, 3, 4], Activation::Tanh);
    let blocks = |lambda: f64| {
        let mut model = spec.model(1);
        let batch = spec.batch(&Gaussian, 20, 2);
        let config = exact_config()
            .map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal))
            .with_initial_lambda(lambda);
        let (optimizer, _) = run(&config, Gaussian, &mut model, &batch, 1);
        optimizer.inverse().unwrap().links().to_vec()
    };
    let series = |link: &Option<ChainLink>| {
        let link = link.as_ref().map(|link| &link.conditional);
        link.map(|inverse| matches!(inverse.explained, ExplainedPart::Series(_)))
    };
    let strong: Vec<_> = blocks(1e9).iter().map(series).collect();
    assert_eq!(strong, [Some(true), Some(true), None]);
    let weak: Vec<_> = blocks(1e-3).iter().map(series).collect();
    assert_eq!(weak, [Some(false), Some(false), None]);
}

#[test]
fn a_chain_names_its_layers() {
    let spec = Spec::new(&[4, 5, 3, 4], Activation::Tanh);
    let mut model = spec.model(1);
    let batch = spec.batch(&Gaussian, 20, 2);
    let config =
        exact_config().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    let (optimizer, _) = run(&config, Gaussian, &mut model, &batch, 1);
    let table = optimizer.parameter_table();
    let chained = |row: &kfac::ParameterRow| {
        matches!(row.coverage, Coverage::Block(Block { chain: Some(1), .. }))
    };
    assert!(table.rows().iter().all(chained), "{table}");
    assert!(table.to_string().contains("chain 1"));
    let links = optimizer.inverse().unwrap().links();
    let linked: Vec<bool> = links.iter().map(Option::is_some).collect();
    assert_eq!(linked, [true, true, false]);
    // The block-diagonal optimizer of the same network accumulates no cross-layer factors.
    let (diagonal, _) = run(&exact_config(), Gaussian, &mut spec.model(1), &batch, 1);
    assert!(diagonal.factors().links.iter().all(Option::is_none));
    assert!(!diagonal.parameter_table().to_string().contains("chain"));
}

#[test]
fn cross_layer_factors_are_those_of_the_oracle() {
    // For one case the exact Fisher is the factored one, block by block and between layers.
    let spec = Spec::new(&[3, 4, 2], Activation::Logistic);
    let mut model = spec.model(3);
    let batch = spec.batch(&Gaussian, 1, 4);
    let before = model.clone();
    let config =
        exact_config().map_curvature(|c| c.with_structure(InverseStructure::BlockTridiagonal));
    let (optimizer, _) = run(&config, Gaussian, &mut model, &batch, 1);
    let fisher = exact::fisher(&before, optimizer.layers(), &Gaussian, &batch);
    let cross = cross_block(optimizer.factors().links[0].as_ref().unwrap());
    let expected = fisher
        .submatrix(0, cross.nrows(), cross.nrows(), cross.ncols())
        .to_owned();
    assert!(relative(&cross, &expected) < 1e-12);
}
