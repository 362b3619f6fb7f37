//! The command as a user meets it.
#![cfg(test)]

use std::{fs, path::Path, process::Output};

fn kfac(arguments: &[&str], folder: &Path) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kfac"));
    command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn training_leaves_a_run_folder_with_pictures_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "train",
        "digits",
        "--iterations",
        "60",
        "--seed",
        "3",
        "--out",
        "run",
    ];
    let output = kfac(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    assert!(
        summary.contains("60 iterations") && summary.contains("run folder: run"),
        "{summary}"
    );
    let run = folder.path().join("run");
    for file in [
        "config.json",
        "error-iterations.svg",
        "error-seconds.svg",
        "weights.npy",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    let steps = fs::read_to_string(run.join("steps.jsonl")).unwrap();
    let steps: Vec<serde_json::Value> = steps
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.len(), 61);
    let error = |step: &serde_json::Value| step["evaluation"]["train_error"].as_f64().unwrap();
    // A network that always names one class misclassifies about nine digits in ten.
    assert!(error(&steps[0]) > 0.5 && error(&steps[60]) < 0.05);
    let again = kfac(
        &[
            "train",
            "digits",
            "--init",
            "run/weights.npy",
            "--iterations",
            "1",
        ],
        folder.path(),
    );
    assert!(again.status.success(), "{}", text(&again.stderr));
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    for run in ["a", "b"] {
        let arguments = [
            "train",
            "digits-autoencoder",
            "--iterations",
            "6",
            "--out",
            run,
        ];
        assert!(kfac(&arguments, folder.path()).status.success());
    }
    let weights = |run: &str| fs::read(folder.path().join(run).join("weights.npy")).unwrap();
    assert!(weights("a") == weights("b"));
}

#[test]
fn every_optimizer_trains() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in ["sgd", "nag", "adam"] {
        let arguments = [
            "train",
            "digits",
            "--optimizer",
            optimizer,
            "--iterations",
            "60",
            "--out",
            optimizer,
        ];
        let output = kfac(&arguments, folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let steps = fs::read_to_string(folder.path().join(optimizer).join("steps.jsonl")).unwrap();
        let objective = |line: &str| {
            let step: serde_json::Value = serde_json::from_str(line).unwrap();
            step["evaluation"]["train_objective"].as_f64().unwrap()
        };
        let (first, last) = (
            steps.lines().next().unwrap(),
            steps.lines().next_back().unwrap(),
        );
        assert!(objective(last) < objective(first), "{optimizer}");
    }
}

#[test]
fn a_missing_data_set_names_the_command_that_fetches_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = kfac(&["train", "mnist"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("data/fetch mnist"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_bad_configuration_lists_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "train",
        "digits",
        "--gamma-period",
        "7",
        "--statistics-fraction",
        "2",
    ];
    let output = kfac(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("gamma_period") && message.contains("statistics_fraction"),
        "{message}"
    );
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        kfac(&["train", "nonsense"], folder.path()).status.code(),
        Some(2)
    );
}

#[test]
fn the_help_is_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("kfac", vec!["--help"]),
        ("train", vec!["train", "--help"]),
        ("compare", vec!["compare", "--help"]),
        ("replay", vec!["replay", "--help"]),
        ("figures", vec!["figures", "--help"]),
    ] {
        let output = kfac(&arguments, folder.path());
        assert!(output.status.success());
        let expected = format!("{}/tests/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_test::expect_file![expected].assert_eq(&text(&output.stdout));
    }
}

#[test]
fn the_figures_support_the_papers_claims() {
    let folder = tempfile::tempdir().unwrap();
    let output = kfac(&["figures", "--out", "figures"], folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures = folder.path().join("figures");
    for picture in ["fisher.png", "approximations.png", "inverses.png"] {
        assert!(figures.join(picture).exists(), "{picture}");
    }
    let numbers = fs::read_to_string(figures.join("figures.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    for claim in numbers["claims"].as_array().unwrap() {
        assert_eq!(claim["holds"], true, "{claim}");
    }
    let evidence = &numbers["evidence"];
    assert!(evidence["total_error"].as_f64() <= evidence["cumulant_bound"].as_f64());
}
