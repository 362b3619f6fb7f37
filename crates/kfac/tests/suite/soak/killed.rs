//! Problems in processes of their own, which are killed.

use std::{
    fs,
    path::Path,
    process::Child,
    thread::sleep,
    time::{Duration, Instant},
};

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    child::{self, started},
    problem::{Count, Problem, STEPS},
    soak_time,
};

/// Kills of a problem, at most.
const KILLS: u32 = 4;

/// Not a test: the process that works on a problem and leaves it in a folder after each step.
#[test]
#[ignore = "started by the soak"]
fn process() {
    let Some(work) = child::work() else {
        return;
    };
    let (seed, folder) = work.split_once(' ').unwrap();
    let (seed, folder) = (seed.parse().unwrap(), Path::new(folder));
    let mut problem = match fs::read(folder.join("state")) {
        Ok(state) => Problem::restored(seed, serde_json::from_slice(&state).unwrap()),
        Err(_) => Problem::new(seed),
    };
    while problem.step < STEPS {
        // Dropout, in a pass of the user's own, has the numbers of the whole process.
        Device::default().seed(seed + problem.step);
        problem.take_step(&mut Count::default());
        let state = serde_json::to_vec(&problem.saved()).unwrap();
        leave(folder, "state", &state);
    }
    let result = problem.result();
    leave(folder, "result", &serde_json::to_vec(&result).unwrap());
}

/// Leaves a file whole, or not at all.
fn leave(folder: &Path, name: &str, content: &[u8]) {
    let beside = folder.join("unfinished");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, folder.join(name)).unwrap();
}

fn process_of(seed: u64, folder: &Path) -> Child {
    started("killed::process", &format!("{seed} {}", folder.display()))
}

/// What becomes of a problem that is left alone.
fn result(seed: u64, folder: &Path) -> Vec<u8> {
    let ended = process_of(seed, folder).wait().unwrap();
    assert!(ended.success(), "problem {seed}");
    fs::read(folder.join("result")).unwrap()
}

/// What becomes of one that is killed at random moments, and how often that was.
fn result_through_kills(seed: u64, folder: &Path, time: Duration) -> (Vec<u8>, u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut process = process_of(seed, folder);
        sleep(time.mul_f64(random.random_range(0.05..0.8)));
        process.kill().unwrap();
        // It may have ended before.
        kills += u32::from(!process.wait().unwrap().success());
    }
    (result(seed, folder), kills)
}

#[test]
fn a_process_that_is_killed_loses_nothing() {
    let start = Instant::now();
    let (mut problems, mut kills) = (0, 0);
    while start.elapsed() < soak_time() {
        let [alone, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let begun = Instant::now();
        let expected = result(problems, alone.path());
        let (found, times) = result_through_kills(problems, killed.path(), begun.elapsed());
        assert!(
            found == expected,
            "problem {problems}: other bits after {times} kills"
        );
        problems += 1;
        kills += times;
    }
    println!("{problems} problems, {kills} kills");
    assert!(kills > 0);
}
