//! Settings of all kinds.

use kfac::{
    CurvatureConfig, DampingScheme, Eigenvalues, InverseMethod, InverseStructure, IterateAveraging,
    KfacConfig, Momentum, PreconditionerConfig, RefreshTiming, ScaleShiftBlock, WeightSharing,
};
use rand::{Rng, RngExt};

pub(super) fn any<T: Copy>(of: &[T], random: &mut impl Rng) -> T {
    of[random.random_range(0..of.len())]
}

pub(super) fn kfac(random: &mut impl Rng) -> KfacConfig {
    KfacConfig::new()
        .with_l2(any(&[0.0, 1e-5, 0.1], random))
        .with_initial_lambda(any(&[1e-6, 1.0, 150.0], random))
        .with_gamma_period(any(&[5, 20], random))
        .with_momentum(any(&[Momentum::Adaptive, Momentum::None], random))
        .with_averaging(any(
            &[
                IterateAveraging::Off,
                IterateAveraging::From { start: 5, cap: 0.9 },
            ],
            random,
        ))
        .map_curvature(|settings| {
            let settings = curvature(settings, random);
            // γ is searched where the inverse is made.
            settings.with_inverse_period(5)
        })
}

pub(super) fn preconditioner(random: &mut impl Rng) -> PreconditionerConfig {
    PreconditionerConfig::new()
        .with_lambda(any(&[1e-8, 3e-3, 10.0], random))
        .map_curvature(|settings| {
            curvature(settings, random).with_refresh_timing(RefreshTiming::AtOnce)
        })
}

fn curvature(settings: CurvatureConfig, random: &mut impl Rng) -> CurvatureConfig {
    let exact = random.random_bool(0.4);
    let settings = settings
        .with_inverse_period(any(&[2, 5, 8], random))
        .with_statistics_period(1)
        .with_statistics_fraction(Some(any(&[0.3, 1.0], random)))
        .with_refresh_timing(any(&[RefreshTiming::Ahead, RefreshTiming::AtOnce], random))
        .with_weight_sharing(any(&[WeightSharing::Expand, WeightSharing::Reduce], random))
        .with_scale_shift(any(
            &[ScaleShiftBlock::Diagonal, ScaleShiftBlock::Full],
            random,
        ))
        .with_seed(random.random());
    if exact {
        let corrected = any(&[Eigenvalues::Kronecker, Eigenvalues::PerCase], random);
        return settings
            .with_damping(DampingScheme::ExactTikhonov)
            .with_eigenvalues(corrected);
    }
    let method = any(
        &[
            InverseMethod::Automatic,
            InverseMethod::Cholesky,
            InverseMethod::Eigen,
        ],
        random,
    );
    let structure = any(
        &[
            InverseStructure::BlockDiagonal,
            InverseStructure::BlockTridiagonal,
        ],
        random,
    );
    settings
        .with_inverse_method(method)
        .with_structure(structure)
}
