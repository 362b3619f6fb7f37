//! The kernels of a step, each at growing sizes, so that a regression shows.
//!
//! `cargo bench -p kfac` measures all; `cargo bench -p kfac -- factorise` those with that name.

use burn::tensor::{Device, Distribution, Tensor};
use divan::{Bencher, counter::ItemsCount};
use faer::Mat;
use kfac::{
    linalg::{self, host},
    statistics::{cross_moment, second_moment},
};

/// Dimensions of a factor.
const SIZES: [usize; 4] = [64, 256, 1024, 4096];

/// Dimensions for what costs ten times as much.
const SMALLER_SIZES: [usize; 3] = [64, 256, 1024];

/// Cases that a factor is estimated from.
const CASES: usize = 500;

fn main() {
    divan::main();
}

fn random([rows, columns]: [usize; 2]) -> Tensor<2> {
    Tensor::random([rows, columns], Distribution::Default, &Device::flex())
}

/// A second moment, damped: positive definite.
fn factor(size: usize) -> Mat<f32> {
    let moment = second_moment(random([CASES, size])) / CASES as f64;
    let mut factor: Mat<f32> = host::to_host(&moment);
    for i in 0..size {
        factor[(i, i)] += 0.1;
    }
    factor
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

/// The factors' update between neighbours in a chain.
#[divan::bench(args = SIZES)]
fn cross_moments(bencher: Bencher<'_, '_>, size: usize) {
    let operations = (2 * CASES * size * size) as u64;
    bencher
        .counter(ItemsCount::new(operations))
        .with_inputs(|| (random([CASES, size]), random([CASES, size])))
        .bench_values(|(x, y)| cross_moment(x, y));
}

/// The refresh of one factor: Cholesky factor and inverse.
#[divan::bench(args = SIZES)]
fn factorise(bencher: Bencher<'_, '_>, size: usize) {
    let factor = factor(size);
    bencher
        .counter(cubic(1.0, size))
        .bench(|| linalg::factorise(&factor, 0.01));
}

/// The refresh of one factor in its eigenbasis.
#[divan::bench(args = SMALLER_SIZES)]
fn symmetric_eigen(bencher: Bencher<'_, '_>, size: usize) {
    let factor = factor(size);
    bencher
        .counter(cubic(9.0, size))
        .bench(|| linalg::symmetric_eigen(&factor));
}

/// The refresh of one link in a chain: whitened cross factor and canonical directions.
#[divan::bench(args = SMALLER_SIZES)]
fn canonical_directions(bencher: Bencher<'_, '_>, size: usize) {
    let lower = || linalg::factorise(&factor(size), 0.01).map(|(cholesky, _)| cholesky.lower);
    let (Ok(this), Ok(next)) = (lower(), lower()) else {
        return;
    };
    let cross: Mat<f32> = host::to_host(&cross_moment(
        random([CASES, size]),
        random([CASES, size]) / CASES as f64,
    ));
    bencher.counter(cubic(14.0, size)).bench(|| {
        let whitened = linalg::whitened_cross(&this, &cross, &next);
        linalg::canonical_directions(&this, &whitened, 1.0)
    });
}

/// Applying the inverse of one block: two products.
#[divan::bench(args = SIZES)]
fn kronecker_multiply(bencher: Bencher<'_, '_>, size: usize) {
    let inverse = kfac::curvature::KroneckerInverse {
        activation: random([size, size]),
        gradient: random([size, size]),
    };
    bencher
        .counter(cubic(4.0, size))
        .with_inputs(|| random([size, size]))
        .bench_values(|v| inverse.multiply(v));
}

/// Moving a factor to the host and its inverse back.
#[divan::bench(args = SIZES)]
fn to_host_and_back(bencher: Bencher<'_, '_>, size: usize) {
    let tensor = random([size, size]);
    bencher.counter(ItemsCount::new(2 * size * size)).bench(|| {
        let matrix: Mat<f32> = host::symmetric_to_host(&tensor);
        host::transposed_to_device(&matrix, &Device::flex(), tensor.dtype())
    });
}
