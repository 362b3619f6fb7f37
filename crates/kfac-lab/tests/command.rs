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

/// The lines of a run's `steps.jsonl`.
fn steps(run: &Path) -> Vec<serde_json::Value> {
    let lines = fs::read_to_string(run.join("steps.jsonl")).unwrap();
    let step = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(step).collect()
}

/// The training objective where a step was evaluated.
fn objective(step: &serde_json::Value) -> f64 {
    step["evaluation"]["train_objective"].as_f64().unwrap()
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
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let built = serde_json::to_value(kfac_lab::version::VERSIONS).unwrap();
    assert_eq!(config["version"], built);
    let steps = steps(&run);
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
        let steps = steps(&folder.path().join(optimizer));
        let (first, last) = (&steps[0], &steps[steps.len() - 1]);
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
        "--damping",
        "exact",
        "--inverse-method",
        "cholesky",
    ];
    let output = kfac(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("gamma_period") && message.contains("inverse_method"),
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
    for option in [
        "--seconds=nan",
        "--seconds=inf",
        "--seconds=-1",
        "--l2=nan",
        "--lambda=nan",
        "--lambda=0",
        "--statistics-fraction=2",
        "--batch=0",
        "--threads=0",
        "--iterations=0",
        "--learning-rate=nan",
    ] {
        let output = kfac(&["train", "digits", option], folder.path());
        assert_eq!(output.status.code(), Some(2), "{option}");
        let name = option.split_once('=').unwrap().0;
        assert!(text(&output.stderr).contains(name), "{option}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_and_a_reader_that_has_gone_are_no_faults() {
    use std::{
        ffi::OsStr,
        io::Read,
        os::unix::ffi::OsStrExt,
        process::{Command, Stdio},
    };

    let folder = tempfile::tempdir().unwrap();
    let run = OsStr::from_bytes(b"run-\xff");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kfac"))
        .args(["train", "digits", "--iterations", "1", "--out"])
        .arg(run)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut complaint = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut complaint).unwrap();
    assert!(child.wait().unwrap().success(), "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
    assert!(folder.path().join(run).join("steps.jsonl").exists());
}

#[test]
fn the_help_is_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("kfac", vec!["--help"]),
        ("train", vec!["train", "--help"]),
        ("resume", vec!["resume", "--help"]),
        ("inspect", vec!["inspect", "--help"]),
        ("compare", vec!["compare", "--help"]),
        ("bench", vec!["bench", "--help"]),
        ("export-problem", vec!["export-problem", "--help"]),
        ("replay", vec!["replay", "--help"]),
        ("curvature", vec!["curvature", "--help"]),
        ("table", vec!["table", "--help"]),
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
    let claims = numbers["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 6);
    let printed = text(&output.stdout);
    for claim in claims {
        assert_eq!(claim["holds"], true, "{claim}");
        let line = format!("supported    {}: ", claim["text"].as_str().unwrap());
        assert!(printed.contains(&line), "{printed}");
    }
    let evidence = &numbers["evidence"];
    assert!(evidence["total_error"].as_f64() <= evidence["cumulant_bound"].as_f64());
}

#[test]
fn the_bench_measures_every_phase_of_both_inverses() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "digits", "--batch", "250", "--rounds", "1"];
    let output = kfac(
        &[&arguments[..], &["--out", "bench"]].concat(),
        folder.path(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("inverse refresh") && table.contains("MiB"),
        "{table}"
    );
    let numbers = fs::read_to_string(folder.path().join("bench/bench.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    let methods = numbers["batches"][0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 3);
    for method in methods {
        assert!(method["mean"].as_f64() > Some(0.0) && method["needs"].as_f64() > Some(0.0));
    }
    for kfac in &methods[1..] {
        let phases = kfac["phases"].as_array().unwrap();
        let sum: f64 = phases
            .iter()
            .map(|phase| phase["mean"].as_f64().unwrap())
            .sum();
        // One round: the phases' means add up to the step's, but for what lies between them.
        let mean = kfac["mean"].as_f64().unwrap();
        assert!(sum <= mean && sum > 0.8 * mean, "{sum} of {mean} ms");
    }
}

#[test]
fn a_batch_larger_than_the_training_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = kfac(&["bench", "digits", "--batch", "5000"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("5000") && message.contains("1497 cases"),
        "{message}"
    );
}

#[test]
fn an_exported_problem_is_the_one_that_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let export = [
        "export-problem",
        "digits",
        "--seed",
        "5",
        "--out",
        "problem",
    ];
    let output = kfac(&export, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let description = fs::read_to_string(folder.path().join("problem/problem.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["widths"], serde_json::json!([64, 50, 30, 10]));
    assert_eq!(description["loss"], "categorical");
    let inputs = kfac_lab::npy::read(&folder.path().join("problem/train_inputs.npy")).unwrap();
    let targets = kfac_lab::npy::read(&folder.path().join("problem/train_targets.npy")).unwrap();
    assert_eq!(
        (inputs.shape, targets.shape),
        (vec![1497, 64], vec![1497, 10])
    );
    let sum: f64 = targets.values.iter().sum();
    assert!((sum - 1497.0).abs() < 1e-9, "one class a case: {sum}");
    let first_objective = |run: &str, init: &[&str]| {
        let train = [
            "train",
            "digits",
            "--seed",
            "5",
            "--iterations",
            "1",
            "--out",
            run,
        ];
        let output = kfac(&[&train[..], init].concat(), folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        objective(&steps(&folder.path().join(run))[0]).to_bits()
    };
    let exported = first_objective("a", &["--init", "problem/init.npy"]);
    assert_eq!(exported, first_objective("b", &[]));
}

#[test]
fn missing_peers_are_left_out_with_the_command_that_installs_them() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "compare",
        "digits",
        "--seconds",
        "0.2",
        "--rivals",
        "kfac-jax",
    ];
    let output = kfac(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let message = text(&output.stderr);
    assert!(
        message.contains("left out") && message.contains("peers/install"),
        "{message}"
    );
    assert!(text(&output.stdout).contains("K-FAC"));
}

#[test]
fn a_comparison_has_means_over_its_seeds_and_tells_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "compare",
        "digits",
        "--seconds",
        "1",
        "--evaluations",
        "3",
        "--seeds",
        "2",
        "--rivals",
        "sgd:0.05",
        "--out",
        "all",
    ];
    let output = kfac(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let run = |number: usize, of: &str| {
        let line = printed
            .lines()
            .find(|line| line.starts_with(&format!("run {number} of 4: ")));
        assert!(
            line.is_some_and(|line| line.contains(of) && line.ends_with(" left")),
            "{printed}"
        );
    };
    run(1, "K-FAC, seed 1; about ");
    run(4, "SGD 0.05, momentum 0.9, seed 2; about ");
    let row = printed
        .lines()
        .find(|line| line.starts_with("SGD 0.05, momentum 0.9 "));
    assert!(
        row.is_some_and(|row| row.matches(" ± ").count() == 2),
        "{printed}"
    );
    let all = folder.path().join("all");
    let picture = fs::read_to_string(all.join("objective-seconds.svg")).unwrap();
    assert_eq!(
        picture.matches("<polygon ").count(),
        2,
        "a band for each method"
    );
    let starts = ["1", "2"].map(|seed| {
        let steps = steps(&all.join(format!("sgd-0.05-momentum-0.9-seed-{seed}")));
        let evaluated = steps.iter().filter(|step| !step["evaluation"].is_null());
        assert!(evaluated.count() >= 3);
        objective(&steps[0]).to_bits()
    });
    assert_ne!(starts[0], starts[1]);
    let again = kfac(&arguments, folder.path());
    assert_eq!(again.status.code(), Some(1));
    let message = text(&again.stderr);
    assert!(
        message.contains("give another folder with --out"),
        "{message}"
    );
}

#[test]
fn evaluations_that_would_take_long_are_on_a_sample_except_the_first_and_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let run = |evaluations: &str, out: &str| {
        let arguments = [
            "compare",
            "digits",
            "--seconds",
            "0.1",
            "--rivals",
            "sgd:0.05",
        ];
        let more = ["--evaluations", evaluations, "--out", out];
        let output = kfac(&[&arguments[..], &more].concat(), folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let sampled = run("60000", "sampled");
    let line = "500 of 1497 training and 300 of 300 test cases";
    assert_eq!(sampled.matches(line).count(), 2, "{sampled}");
    assert!(!run("1", "whole").contains("1497 training"));
    for (run, on_a_sample) in [("sampled", true), ("whole", false)] {
        let picture = fs::read_to_string(folder.path().join(run).join("error-seconds.svg"));
        let told = picture.unwrap().contains("on a sample of the cases");
        assert_eq!(told, on_a_sample, "{run}");
    }
    let errors = |run: &str| -> Vec<f64> {
        let steps = steps(&folder.path().join(run).join("sgd-0.05-momentum-0.9"));
        let error = |step: &serde_json::Value| step["evaluation"]["train_error"].as_f64();
        steps.iter().filter_map(error).collect()
    };
    let of = |cases: f64, error: f64| {
        let wrong = error * cases;
        (wrong - wrong.round()).abs() < 1e-6
    };
    let errors = errors("sampled");
    let (first, last) = (errors[0], errors[errors.len() - 1]);
    assert!(of(1497.0, first) && of(1497.0, last), "{errors:?}");
    let between = &errors[1..errors.len() - 1];
    assert!(
        !between.is_empty() && between.iter().all(|error| of(500.0, *error)),
        "{errors:?}"
    );
}

/// Trains a network that is not of dense layers alone.
fn trains(task: &str, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec![
        "train", task, "--batch", "128", "--seed", "2", "--out", "run",
    ];
    arguments.extend_from_slice(more);
    let output = kfac(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let steps = steps(&folder.path().join("run"));
    let (first, last) = (&steps[0], steps.last().unwrap());
    assert!(objective(last) < 0.8 * objective(first), "{task} {more:?}");
    assert!(folder.path().join("run/weights.npy").exists());
}

#[test]
fn a_convolutional_network_and_a_transformer_encoder_train() {
    trains("fashion-lenet", &["--iterations", "6"]);
    trains(
        "fashion-lenet",
        &["--iterations", "6", "--eigenvalues", "per-case"],
    );
    trains(
        "fashion-encoder",
        &["--iterations", "6", "--weight-sharing", "reduce"],
    );
    let full = [
        "--iterations",
        "6",
        "--scale-shift",
        "full",
        "--inverse",
        "tridiagonal",
    ];
    trains("fashion-encoder", &full);
    trains(
        "fashion-lenet",
        &["--optimizer", "sgd", "--iterations", "60"],
    );
}

#[test]
fn weights_of_any_network_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut arguments = vec!["train", "fashion-encoder", "--batch", "64", "--iterations"];
        arguments.extend_from_slice(more);
        let output = kfac(&arguments, folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["2", "--out", "first"]);
    run(&["1", "--init", "first/weights.npy", "--out", "second"]);
    let ended = objective(steps(&folder.path().join("first")).last().unwrap());
    let begun = objective(&steps(&folder.path().join("second"))[0]);
    // The file holds the very numbers; both are evaluated in the same way.
    assert!(
        (ended - begun).abs() < 1e-12 * ended,
        "{ended} is not {begun}"
    );
    let arguments = ["train", "fashion-lenet", "--init", "first/weights.npy"];
    let output = kfac(&arguments, folder.path());
    assert!(text(&output.stderr).contains("values for the network"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_documentation_shows_the_tables_that_the_command_prints() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/layers.md");
    let document = fs::read_to_string(document).unwrap();
    for network in ["resnet20", "encoder"] {
        let table = text(&kfac(&["table", network], Path::new(".")).stdout);
        assert!(
            document.contains(&table),
            "docs/layers.md: run `kfac table {network}`"
        );
        assert!(
            !table.contains("NONE"),
            "{network} has uncovered parameters"
        );
    }
}
