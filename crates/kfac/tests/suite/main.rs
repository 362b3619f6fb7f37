//! Tests of the library from outside: one program, because each program holds a copy of Burn.
#![cfg(test)]
#![expect(
    clippy::duplicate_mod,
    reason = "each example is a program of its own, and two of them share a file"
)]

mod accumulation;
mod algorithm;
mod blocks;
mod calls;
mod capture;
mod cases_apart;
mod changes;
mod classes;
mod clip_and_lambda;
mod contract;
mod convolutions;
mod derivatives;
mod eigenvalues;
mod estimator;
mod exactness;
mod examples;
mod failure;
mod fisher;
mod heads;
mod identities;
mod independence;
mod invariance;
mod layer_sums;
mod layers;
#[cfg(feature = "train")]
mod learner;
mod likelihood;
mod misuse;
mod model;
mod own_block;
mod own_faults;
mod own_layer;
mod own_objective;
mod own_rules;
mod padding;
mod positions;
mod preconditioner;
mod preconditioner_contract;
mod records;
mod refresh;
mod resume;
mod run_time_loss;
mod samples;
mod sharing;
mod soak;
mod structure;
mod subsets;
mod support;
mod targets;
mod tridiagonal;
