//! Runs that are stopped go on as if they had not been.
#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// The exit status of a run that was asked to end.
const INTERRUPTED: i32 = 130;

fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kfac"));
    command.args(arguments).current_dir(folder);
    command
}

fn kfac(arguments: &[&str], folder: &Path) -> Output {
    command(arguments, folder).output().unwrap()
}

/// What a command that succeeds prints.
fn told(arguments: &[&str], folder: &Path) -> String {
    let output = kfac(arguments, folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn refused(arguments: &[&str], folder: &Path) -> String {
    let output = kfac(arguments, folder);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The steps of a run without what the clock decides.
fn steps(run: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(run.join("steps.jsonl")).unwrap();
    let step = |line| {
        let mut step: Value = serde_json::from_str(line).unwrap();
        without_seconds(&mut step);
        step
    };
    lines.lines().map(step).collect()
}

fn without_seconds(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains("seconds") && name != "times");
            fields.values_mut().for_each(without_seconds);
        }
        Value::Array(values) => values.iter_mut().for_each(without_seconds),
        _ => {}
    }
}

/// The folders of the whole checkpoints of a run, in order.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else {
        return Vec::new();
    };
    let number = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.parse::<u64>().ok()?;
        Some((name, path))
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| number(entry.unwrap().path()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn started(arguments: &[&str], folder: &Path) -> Child {
    let mut command = command(arguments, folder);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Whether a process ends by itself in a time; it is killed if not.
fn ends_within(mut child: Child, time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            assert!(
                [Some(0), Some(INTERRUPTED)].contains(&status.code()),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// Kills a run at random moments, goes on each time, and compares what becomes of it with a run that is left alone.
fn check_kills(training: &[&str], kills: u32, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |run| [&["train"], training, &["--threads", "1", "--out", run]].concat();
    let start = Instant::now();
    told(&train("whole"), folder);
    let whole = start.elapsed();

    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let often = [train("killed"), vec!["--checkpoint-every", "1"]].concat();
    let killed = folder.join("killed");
    for _ in 0..kills {
        let goes_on = !checkpoints(&killed).is_empty();
        if !goes_on && killed.exists() {
            fs::remove_dir_all(&killed).unwrap();
        }
        let arguments = if goes_on {
            &["resume", "killed"][..]
        } else {
            &often
        };
        // On average so late that the run ends with the last of them.
        let time = whole.mul_f64(random.random_range(0.2..2.0) / f64::from(kills).sqrt());
        ends_within(started(arguments, folder), time);
    }
    if checkpoints(&killed).is_empty() {
        fs::remove_dir_all(&killed).unwrap_or_default();
        told(&often, folder);
    } else {
        told(&["resume", "killed"], folder);
    }
    let [a, b] = ["whole", "killed"].map(|run| fs::read(folder.join(run).join("weights.npy")));
    assert!(a.unwrap() == b.unwrap(), "{training:?}: the weights differ");
    let [a, b] = ["whole", "killed"].map(|run| steps(&folder.join(run)));
    assert_eq!(a, b, "{training:?}");
    let left = fs::read_dir(killed.join("checkpoints")).unwrap().count();
    assert!(left <= 2, "{left} in the folder of the checkpoints");
}

#[test]
fn a_run_that_is_killed_becomes_what_it_would_have_been() {
    let digits = ["digits", "--iterations", "60"];
    check_kills(&digits, 4, 1);
    check_kills(&[&digits[..], &["--inverse", "tridiagonal"]].concat(), 4, 2);
    let ekfac = ["--optimizer", "ekfac", "--inverse-period", "20"];
    check_kills(&[&digits[..], &ekfac].concat(), 4, 3);
    check_kills(&[&digits[..], &["--optimizer", "nag"]].concat(), 2, 4);
    check_kills(
        &["digits", "--iterations", "8", "--optimizer", "lbfgs"],
        2,
        5,
    );
}

#[test]
fn so_does_a_preconditioned_run_with_batch_normalisation_and_moved_images() {
    let small = ["--cases", "200", "--epochs", "2", "--batch", "50"];
    let sgd = ["--optimizer", "preconditioned-sgd"];
    let residual = ["resnet20", "--evaluate-every", "100"];
    check_kills(&[&residual[..], &small, &sgd].concat(), 2, 6);
    let moved = ["--augment", "shift-flip", "--hold-out", "0.2"];
    check_kills(&[&["encoder"], &small[..], &sgd, &moved].concat(), 3, 7);
    check_kills(
        &[&["lenet"], &small[..], &["--optimizer", "muon"]].concat(),
        2,
        8,
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_is_asked_to_end_leaves_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = folder.join("run");
    for signal in ["TERM", "INT"] {
        let training = ["train", "digits", "--seconds", "100", "--out", "run"];
        let child = started(&training, folder);
        while fs::read_to_string(run.join("steps.jsonl")).map_or(0, |text| text.lines().count()) < 3
        {
            sleep(Duration::from_millis(5));
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(ends_within(child, Duration::from_mins(1)), "{signal}");
        let found = checkpoints(&run);
        let last = steps(&run).last().unwrap()["iteration"].to_string();
        assert_eq!(found.last().unwrap().file_name().unwrap(), last.as_str());
        assert!(run.join("weights.npy").exists());
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn a_run_can_be_made_longer_and_be_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |run, iterations| {
        let training = [
            "train",
            "digits",
            "--threads",
            "1",
            "--iterations",
            iterations,
        ];
        told(&[&training[..], &["--out", run]].concat(), folder);
    };
    train("long", "30");
    train("short", "20");
    told(&["resume", "short", "--iterations", "10"], folder);
    let [long, short] =
        ["long", "short"].map(|run| fs::read(folder.join(run).join("weights.npy")).unwrap());
    assert!(long == short);

    let text = told(&["inspect", "short"], folder);
    assert!(
        text.contains("30 of 30 iterations") && text.contains("layers.0.weight"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&told(&["inspect", "short", "--json"], folder)).unwrap();
    let factors = json["kfac"]["factors"].as_array().unwrap();
    assert_eq!(factors.len(), 6);
    for factor in factors {
        let [rank, size] =
            [&factor["effective_rank"], &factor["shape"][0]].map(|n| n.as_f64().unwrap());
        assert!(rank >= 1.0 && rank <= size, "{factor}");
    }

    let epochs = [
        "train",
        "digits",
        "--epochs",
        "2",
        "--optimizer",
        "sgd",
        "--out",
        "sgd",
    ];
    told(&epochs, folder);
    let error = refused(&["resume", "sgd", "--iterations", "5"], folder);
    assert!(error.contains("planned end"), "{error}");
}

#[test]
fn what_is_no_checkpoint_of_the_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let training = [
        "train",
        "digits",
        "--iterations",
        "12",
        "--checkpoint-every",
        "5",
        "--keep-checkpoints",
        "3",
    ];
    told(&[&training[..], &["--out", "run"]].concat(), folder);
    let run = folder.join("run");
    // As if the run had been killed at its end, while the oldest one was being removed.
    fs::create_dir(run.join("checkpoints").join("4")).unwrap();
    told(&["resume", "run"], folder);
    let found = checkpoints(&run);
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["5", "10", "12"]);

    // The newest is damaged: the one before is taken.
    let file = found[2].join("model.bpk");
    let mut content = fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&file, content).unwrap();
    let output = kfac(&["resume", "run"], folder);
    let [out, error] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(out.contains("from iteration 10 on"), "{out}");
    assert!(
        error.contains("model.bpk is damaged") && error.contains("left out"),
        "{error}"
    );
    told(&["resume", "run"], folder);

    // A copy under another number is not what it says.
    fs::rename(run.join("checkpoints/10"), run.join("checkpoints/11")).unwrap();
    let output = kfac(&["inspect", "run"], folder);
    assert!(output.status.success());
    fs::remove_dir_all(run.join("checkpoints/12")).unwrap();
    let output = kfac(&["inspect", "run"], folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("rename the folder to `10`"), "{error}");
    fs::rename(run.join("checkpoints/11"), run.join("checkpoints/10")).unwrap();

    // Of none a file is whole.
    for checkpoint in checkpoints(&run) {
        fs::write(checkpoint.join("kfac.bpk"), "").unwrap();
    }
    let error = refused(&["resume", "run"], folder);
    assert!(
        error.contains("kfac.bpk is damaged") && error.contains("none is whole"),
        "{error}"
    );
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    for arguments in [["resume", "run"], ["inspect", "run"]] {
        let error = refused(&arguments, folder);
        assert!(error.contains("has no checkpoint"), "{error}");
    }
    let error = refused(&["resume", "nowhere"], folder);
    assert!(error.contains("nowhere is no folder"), "{error}");
}

#[test]
fn a_run_goes_on_to_its_newest_plan_and_loses_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let training = [
        "train",
        "digits",
        "--threads",
        "1",
        "--checkpoint-every",
        "4",
    ];
    told(
        &[&training[..], &["--iterations", "8", "--out", "run"]].concat(),
        folder,
    );
    told(&["resume", "run", "--iterations", "4"], folder);
    let run = folder.join("run");
    let whole = fs::read(run.join("weights.npy")).unwrap();
    let all = steps(&run);

    // The newest is damaged: the one before has an older plan.
    fs::write(run.join("checkpoints/12/checksums.json"), "{}").unwrap();
    let text = told(&["resume", "run"], folder);
    assert!(
        text.contains("from iteration 8 on") && text.contains("12 iterations"),
        "{text}"
    );
    assert!(fs::read(run.join("weights.npy")).unwrap() == whole);
    assert_eq!(steps(&run), all);
    assert!(run.join("checkpoints/12.damaged").exists());

    // A line that cannot be read is no reason to drop those after it; a part of one is dropped.
    let file = run.join("steps.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[3] = "not a step";
    fs::write(&file, format!("{}\n{{\"iterat", lines.join("\n"))).unwrap();
    let output = kfac(&["resume", "run", "--iterations", "1"], folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && error.contains("1 of the 13 steps"),
        "{error}"
    );
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 14);
    assert_eq!(
        text.lines().filter(|line| line.starts_with('{')).count(),
        13
    );
}

#[test]
fn evaluations_that_are_not_finite_are_steps_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // It diverges.
    let training = [
        "train",
        "digits",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "1e6",
    ];
    let often = [
        "--evaluate-every",
        "1",
        "--iterations",
        "30",
        "--out",
        "run",
    ];
    kfac(&[&training[..], &often].concat(), folder);
    let before = steps(&folder.join("run"));
    let output = kfac(&["resume", "run"], folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("missing"), "{error}");
    assert!(steps(&folder.join("run")).starts_with(&before));
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_costs_no_checkpoint_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    told(
        &["train", "digits", "--iterations", "5", "--out", "run"],
        folder,
    );
    // No file may be larger than 40 KiB: what a full disk does, but for the number of the error.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 80; exec '{}' resume run --iterations 4 --checkpoint-every 2",
        env!("CARGO_BIN_EXE_kfac")
    );
    let output = Command::new("sh")
        .args(["-c", &limited])
        .current_dir(folder)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for iteration in ["checkpoints/6", "checkpoints/8"] {
        assert!(
            error.contains("no checkpoint is written: cannot write") && error.contains(iteration),
            "{error}"
        );
    }
    assert!(
        error.contains("error: cannot write") && error.contains("checkpoints/9"),
        "{error}"
    );
    let run = folder.join("run");
    assert_eq!(steps(&run).len(), 10);
    let left = fs::read_dir(run.join("checkpoints")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["5"]);
    let text = told(&["resume", "run"], folder);
    assert!(text.contains("9 iterations"), "{text}");
    assert_eq!(steps(&run).len(), 10);
}

#[cfg(unix)]
#[test]
fn a_folder_may_have_any_name_that_the_system_allows() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let folder = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"run \xff\n");
    for arguments in [
        &["train", "digits", "--iterations", "3", "--out"][..],
        &["resume", "--iterations", "2"],
        &["inspect"],
    ] {
        let output = command(arguments, folder.path())
            .arg(name)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
    }
    let run = folder.path().join(name);
    assert_eq!(checkpoints(&run).last().unwrap().file_name().unwrap(), "5");
}

#[test]
fn a_folder_that_is_removed_in_mid_run_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = folder.join("run");
    let training = ["train", "digits", "--iterations", "400", "--out", "run"];
    let often = [&training[..], &["--checkpoint-every", "50"]].concat();
    let child = started(&often, folder);
    while checkpoints(&run).is_empty() {
        sleep(Duration::from_millis(1));
    }
    // What is just being written may appear in it.
    while fs::remove_dir_all(&run).is_err() {}
    assert!(ends_within(child, Duration::from_mins(1)));
    assert_eq!(steps(&run).len(), 401);
    let text = told(&["resume", "run", "--iterations", "5"], folder);
    assert!(text.contains("405 iterations"), "{text}");
}

#[test]
fn a_run_that_is_being_written_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "digits", "--iterations", "5", "--out", "run"];
    told(&train, folder);
    let mut first = started(&["resume", "run", "--seconds", "100"], folder);
    let run = folder.join("run");
    while steps(&run).len() < 8 {
        sleep(Duration::from_millis(5));
    }
    let error = refused(&["resume", "run", "--iterations", "5"], folder);
    assert!(error.contains("another process is writing"), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn what_has_no_end_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "digits", "--iterations", "5", "--out", "run"];
    told(&train, folder);
    let checkpoint = folder.join("run/checkpoints/5");
    let file = checkpoint.join("kfac.bpk");
    fs::remove_file(&file).unwrap();
    let made = Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    for arguments in [["resume", "run"], ["inspect", "run"]] {
        let error = refused(&arguments, folder);
        assert!(
            error.contains("kfac.bpk is damaged: it is no file"),
            "{error}"
        );
    }
}

#[test]
fn checkpoints_and_settings_of_two_runs_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |run, seed| {
        let training = ["train", "digits", "--iterations", "6", "--seed", seed];
        told(&[&training[..], &["--out", run]].concat(), folder);
    };
    train("first", "1");
    train("second", "2");
    let [first, second] = ["first", "second"].map(|run| folder.join(run).join("checkpoints"));
    fs::remove_dir_all(&first).unwrap();
    fs::rename(second, first).unwrap();
    let error = refused(&["resume", "first"], folder);
    assert!(
        error.contains("their `method.kfac.curvature.seed` differs"),
        "{error}"
    );

    // Only checkpoints are left of a run: no other begins in its folder.
    for file in ["steps.jsonl", "config.json"] {
        fs::remove_file(folder.join("first").join(file)).unwrap();
    }
    let again = ["train", "digits", "--iterations", "6", "--out", "first"];
    let error = refused(&again, folder);
    assert!(error.contains("holds checkpoints"), "{error}");
    let output = kfac(&["resume", "first"], folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && error.contains("where the checkpoint says"),
        "{error}"
    );
}

#[test]
fn a_run_of_epochs_with_a_constant_rate_can_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let constant = ["--optimizer", "sgd", "--schedule", "constant"];
    let epochs = ["train", "digits", "--epochs", "1", "--out", "run"];
    told(&[&epochs[..], &constant].concat(), folder);
    told(&["resume", "run", "--iterations", "3"], folder);
}
