//! Tests of what users extend: layers, blocks, rules, objectives, heads and targets of their own.
#![cfg(test)]

#[path = "suite/classes.rs"]
mod classes;
#[path = "suite/edges_support.rs"]
mod edges_support;
#[path = "suite/estimator.rs"]
mod estimator;
#[path = "suite/examples.rs"]
mod examples;
#[path = "suite/heads.rs"]
mod heads;
#[path = "suite/own_block.rs"]
mod own_block;
#[path = "suite/own_layer.rs"]
mod own_layer;
#[path = "suite/own_objective.rs"]
mod own_objective;
#[path = "suite/own_rules.rs"]
mod own_rules;
#[path = "suite/records.rs"]
mod records;
#[path = "suite/run_time_loss.rs"]
mod run_time_loss;
#[path = "suite/samples.rs"]
mod samples;
