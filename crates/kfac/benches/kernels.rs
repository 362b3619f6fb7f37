//! What a step does to one layer, each at growing sizes, so that a regression shows.
//!
//! `cargo bench -p kfac` measures all; `cargo bench -p kfac -- refresh` those with that name.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use divan::{Bencher, counter::ItemsCount};
use kfac::{
    InverseMethod, PiNorm,
    blocks::{BlockEstimate, BlockInverse, KroneckerFactors},
    damping::FactoredTikhonov,
};

/// Dimensions of the two factors of a layer.
const SIZES: [usize; 4] = [64, 256, 1024, 4096];

/// Dimensions for what costs ten times as much.
const SMALLER_SIZES: [usize; 3] = [64, 256, 1024];

/// Cases that a factor is estimated from.
const CASES: usize = 500;

const GAMMA: f64 = 0.1;
const RULE: FactoredTikhonov = FactoredTikhonov { pi: PiNorm::Trace };

fn main() {
    divan::main();
}

fn random([rows, columns]: [usize; 2]) -> Tensor<2> {
    Tensor::random([rows, columns], Distribution::Default, &Device::flex())
}

fn second_moment(rows: Tensor<2>) -> Tensor<2> {
    rows.clone().transpose().matmul(rows)
}

/// A layer with factors of one size.
fn layer(size: usize) -> KroneckerFactors {
    let factor = || second_moment(random([CASES, size])) / CASES as f64;
    KroneckerFactors {
        activation: factor(),
        gradient: factor(),
    }
}

fn inverse(factors: &KroneckerFactors, method: InverseMethod) -> Option<Arc<dyn BlockInverse>> {
    let prepared = factors.prepare(&RULE, method);
    prepared.invert(&RULE, GAMMA).inverse
}

/// Counts the operations of an algorithm that needs `coefficient · size³` of them.
fn cubic(coefficient: f64, size: usize) -> ItemsCount {
    ItemsCount::new((coefficient * (size as f64).powi(3)) as u64)
}

/// The factors' update: one second moment.
#[divan::bench(args = SIZES)]
fn second_moments(bencher: Bencher<'_, '_>, size: usize) {
    let operations = (2 * CASES * size * size) as u64;
    bencher
        .counter(ItemsCount::new(operations))
        .with_inputs(|| random([CASES, size]))
        .bench_values(second_moment);
}

/// The refresh of a layer: Cholesky factors and inverses, to the host and back.
#[divan::bench(args = SIZES)]
fn refresh(bencher: Bencher<'_, '_>, size: usize) {
    let factors = layer(size);
    bencher
        .counter(cubic(2.0, size))
        .bench(|| inverse(&factors, InverseMethod::Cholesky));
}

/// The refresh of a layer in its eigenbases.
#[divan::bench(args = SMALLER_SIZES)]
fn refresh_in_eigenbases(bencher: Bencher<'_, '_>, size: usize) {
    let factors = layer(size);
    bencher
        .counter(cubic(18.0, size))
        .bench(|| inverse(&factors, InverseMethod::Eigen));
}

/// Applying the inverse of one block: two products.
#[divan::bench(args = SIZES)]
fn multiply(bencher: Bencher<'_, '_>, size: usize) {
    let Some(inverse) = inverse(&layer(size), InverseMethod::Cholesky) else {
        return;
    };
    bencher
        .counter(cubic(4.0, size))
        .with_inputs(|| random([size, size]))
        .bench_values(|v| inverse.multiply(v));
}
