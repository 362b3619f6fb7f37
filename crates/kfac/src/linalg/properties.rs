//! Properties of the factorisations on random matrices.

use faer::Mat;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::{
    factorise, pseudo_inverse_solve,
    stein::{moment, random},
    symmetric_eigen,
};

/// Products and solves of small matrices, singular ones among them: of condition up to 1e4.
const ROUNDING: f64 = 1e-10;

/// Few cases, always the same ones.
pub(super) fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    }
}

fn close(what: &str, found: &Mat<f64>, expected: &Mat<f64>) {
    let scale = expected.norm_l2();
    let error = (found - expected).norm_l2() / if scale > 0.0 { scale } else { 1.0 };
    assert!(error <= ROUNDING, "{what}: {error:e}");
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn inverses_and_eigenvectors_of_random_matrices(d in 1usize..9, n in 1usize..12, seed in 0u64..100) {
        let m = moment(d, n, seed);
        let (cholesky, attempt) = factorise::<f64>(&m, 0.1).unwrap();
        let found = cholesky.inverse;
        let identity = Mat::<f64>::identity(d, d);
        close("M⁻¹ M", &(&found * (&m + &identity * faer::Scale(0.1))), &identity);
        prop_assert!(attempt.smallest_pivot >= 0.1 * (1.0 - 1e-12) && attempt.doublings == 0);
        let eigen = symmetric_eigen(&m).unwrap();
        let diagonal = Mat::from_fn(d, d, |i, j| if i == j { eigen.values[i] } else { 0.0 });
        close("Q D Qᵀ", &(&eigen.vectors * diagonal * eigen.vectors.transpose()), &m);
        close("Qᵀ Q", &(eigen.vectors.transpose() * &eigen.vectors), &identity);
        prop_assert!(eigen.values.is_sorted());
    }

    /// M M⁺ b is b projected on the range of M, so M x = b for every b = M c.
    #[test]
    fn the_pseudo_inverse_solves_singular_systems(rank in 0usize..3, seed in 0u64..100) {
        let root = random(2, 2, seed).get(.., ..rank).to_owned();
        let m = &root * root.transpose();
        let b = &m * random(2, 1, seed + 1);
        let x = pseudo_inverse_solve(&m, &[b[(0, 0)], b[(1, 0)]]).unwrap();
        let residual = (&m * Mat::from_fn(2, 1, |i, _| x[i]) - &b).norm_l2();
        prop_assert!(residual <= ROUNDING * b.norm_l2(), "residual {residual:e}");
    }
}
