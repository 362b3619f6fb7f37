//! Tests in processes of their own.

use std::process::{Child, Command, Stdio};

/// What a process is to do.
const WORK: &str = "KFAC_SOAK_WORK";

/// Starts an ignored test of the soak alone, with its work.
pub(super) fn started(test: &str, work: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args([
            "--exact",
            &format!("soak::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env(WORK, work)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The work of this process; none where someone runs all ignored tests.
pub(super) fn work() -> Option<String> {
    std::env::var(WORK).ok()
}
