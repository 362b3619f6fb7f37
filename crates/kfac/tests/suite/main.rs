//! Tests of the library from outside: one program, because each program holds a copy of Burn.
#![cfg(test)]

mod algorithm;
mod blocks;
mod calls;
mod capture;
mod contract;
mod convolutions;
mod derivatives;
mod eigenvalues;
mod exactness;
mod failure;
mod fisher;
mod identities;
mod invariance;
mod layers;
mod likelihood;
mod model;
mod padding;
mod positions;
mod preconditioner;
mod preconditioner_contract;
mod refresh;
mod sharing;
mod structure;
mod subsets;
mod support;
mod tridiagonal;
