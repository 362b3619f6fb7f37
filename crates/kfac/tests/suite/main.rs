//! Tests of the library from outside: one program, because each program holds a copy of Burn.
#![cfg(test)]

mod algorithm;
mod blocks;
mod calls;
mod capture;
mod cases_apart;
mod changes;
mod classes;
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
mod run_time_loss;
mod samples;
mod sharing;
mod structure;
mod subsets;
mod support;
mod targets;
mod tridiagonal;
