//! The examples do what they show.

use std::{fs, path::Path, sync::Arc};

// A module for each file, whose main function is not called here.
macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[expect(dead_code, reason = "only the example's own main is unused")]
        mod $name;
    };
}

#[cfg(feature = "train")]
example!(learner_kfac, "../../examples/learner_kfac.rs");
#[cfg(feature = "train")]
example!(
    learner_preconditioner,
    "../../examples/learner_preconditioner.rs"
);
example!(language_model, "../../examples/language_model.rs");
example!(loss_at_run_time, "../../examples/loss_at_run_time.rs");
example!(low_rank_adapter, "../../examples/low_rank_adapter.rs");
example!(mini_batches, "../../examples/mini_batches.rs");
example!(own_block, "../../examples/own_block.rs");
example!(own_damping, "../../examples/own_damping.rs");
example!(own_lambda, "../../examples/own_lambda.rs");
example!(own_objective, "../../examples/own_objective.rs");
example!(two_heads, "../../examples/two_heads.rs");

#[test]
fn an_adapter_learns_a_difference_of_its_rank() {
    let outcome = low_rank_adapter::adapt().unwrap();
    let [first, .., last] = outcome.objectives[..] else {
        panic!("no steps");
    };
    assert!(last < 0.01 * first, "{first} -> {last}");
    assert!(outcome.frozen_change.abs() < f64::MIN_POSITIVE);
    assert!(outcome.table.contains("down") && outcome.table.contains("none: frozen"));
}

#[test]
fn mini_batches_train_as_the_readme_says() {
    assert!(mini_batches::accuracy().unwrap() > 0.95);
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let example = read("examples/mini_batches.rs");
    let (_, from) = example.split_once("pub(crate) fn train<M").unwrap();
    let (function, _) = from.split_once("/// Pixels").unwrap();
    assert!(read("../../README.md").contains(function.trim_end()));
}

#[test]
fn a_block_of_the_users_own_trains() {
    let (table, objectives) = own_block::train().unwrap();
    assert!(table.contains("6 blocks of 4"), "{table}");
    let [first, .., last] = objectives[..] else {
        panic!("no steps");
    };
    assert!(last < 0.5 * first, "{first} -> {last}");
}

#[test]
fn a_damping_rule_of_the_users_own_bounds_the_balance() {
    let free = own_damping::train(Arc::new(own_damping::BoundedBalance {
        largest: f64::INFINITY,
    }));
    let free = free.unwrap();
    assert!(free.pi[0] > 8.0, "{:?}", free.pi);
    let bounded = own_damping::train(Arc::new(own_damping::BoundedBalance { largest: 8.0 }));
    let bounded = bounded.unwrap();
    assert!(
        bounded.pi.iter().all(|pi| (0.125..=8.0).contains(pi)),
        "{:?}",
        bounded.pi
    );
    for [first, last] in [free.objectives, bounded.objectives] {
        assert!(last < first, "{first} -> {last}");
    }
}

#[test]
fn lambda_rules_of_the_users_own_train() {
    let nielsen = own_lambda::train(Arc::new(own_lambda::Nielsen { initial: 1.0 }));
    let scheduled = own_lambda::train(Arc::new(own_lambda::schedule())).unwrap();
    let lambdas: Vec<f64> = scheduled.iter().map(|(lambda, _)| *lambda).collect();
    assert!((lambdas[5] - 0.5).abs() < 1e-12 && (lambdas[10] - 0.25).abs() < 1e-12);
    for steps in [nielsen.unwrap(), scheduled] {
        let (first, last) = (steps[0].1, steps[steps.len() - 1].1);
        assert!(last < 0.5 * first, "{first} -> {last}");
    }
}

#[test]
fn a_policy_gradient_earns_more_than_chance() {
    let rewards = own_objective::learn().unwrap();
    let last = rewards[rewards.len() - 10..].iter().sum::<f64>() / 10.0;
    assert!(last > rewards[0] + 0.2, "{} -> {last}", rewards[0]);
}

#[test]
fn two_heads_learn_both() {
    let [before, after] = two_heads::train().unwrap();
    assert!(after.accuracy > 0.9 && after.accuracy > before.accuracy);
    assert!(after.squared_error < 0.5 * before.squared_error);
}

#[test]
fn the_language_model_learns_its_language() {
    let perplexities = language_model::train().unwrap();
    let (first, last) = (perplexities[0], perplexities[perplexities.len() - 1]);
    assert!(first > 5.0 && last < 1.5, "{perplexities:?}");
}

#[test]
fn a_loss_of_each_name_is_trained_and_others_are_refused() {
    for name in ["bernoulli", "categorical", "gaussian"] {
        let [first, last] = loss_at_run_time::train(name).unwrap();
        assert!(last < 0.8 * first, "{name}: {first} -> {last}");
    }
    let error = loss_at_run_time::train("poisson").unwrap_err().to_string();
    assert!(error.starts_with("the loss is `poisson`"), "{error}");
}

/// Less than chance, which has a loss of `ln 8`.
#[cfg(feature = "train")]
const LEARNED: f64 = 1.0;

#[test]
#[cfg(feature = "train")]
fn a_learner_trains_by_kfac_and_logs_what_it_reports() {
    let folder = tempfile::tempdir().unwrap();
    let loss = learner_kfac::train(folder.path()).unwrap();
    assert!(loss < LEARNED, "{loss}");
    let logged = fs::read_to_string(folder.path().join("train/epoch-1/K-FAC_Lambda.log"));
    assert!(logged.unwrap().starts_with("150,1\n"));
    assert!(folder.path().join("checkpoint/model-5.bpk").exists());
}

#[test]
#[cfg(feature = "train")]
fn a_learner_trains_behind_the_preconditioner() {
    let folder = tempfile::tempdir().unwrap();
    let loss = learner_preconditioner::train(folder.path()).unwrap();
    assert!(loss < LEARNED, "{loss}");
    let logged = fs::read_to_string(folder.path().join("train/epoch-1/K-FAC_Clipped.log"));
    assert!(logged.unwrap().starts_with("1,1\n"));
}
