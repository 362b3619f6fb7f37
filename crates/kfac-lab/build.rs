//! Tells the command which commit and which libraries it is built from.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const UNKNOWN: &str = "unknown";

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let workspace = manifest.join("../..");
    let lock = workspace.join("Cargo.lock");
    rerun_if_changed(&manifest.join("build.rs"));
    rerun_if_changed(&lock);
    let packages = fs::read_to_string(&lock).unwrap_or_default();
    for library in ["burn", "faer"] {
        let version = locked_version(&packages, library).unwrap_or(UNKNOWN);
        let name = library.to_uppercase();
        println!("cargo::rustc-env={name}_VERSION={version}");
    }
    let commit = commit(&workspace).unwrap_or_else(|| UNKNOWN.to_owned());
    println!("cargo::rustc-env=KFAC_COMMIT={commit}");
}

/// The version of a package in the text of `Cargo.lock`.
fn locked_version<'a>(packages: &'a str, name: &str) -> Option<&'a str> {
    let package = format!("name = \"{name}\"");
    let mut lines = packages.lines().skip_while(|line| *line != package);
    let version = lines.nth(1)?.strip_prefix("version = ")?;
    Some(version.trim_matches('"'))
}

/// The commit that is checked out, and a rerun when another one is. A source archive may lie in another
/// project's repository, so only a repository of our own counts.
fn commit(workspace: &Path) -> Option<String> {
    if !workspace.join(".git").exists() {
        return None;
    }
    let path_of = |name: &str| {
        let path = git(workspace, &["rev-parse", "--git-path", name])?;
        Some(workspace.join(path)).filter(|path| path.exists())
    };
    let mut watched = vec!["HEAD".to_owned()];
    if let Some(branch) = git(workspace, &["symbolic-ref", "--quiet", "HEAD"]) {
        // A packed branch gets a file of its own with the next commit.
        let is_packed = path_of(&branch).is_none();
        watched.push(if is_packed {
            "refs/heads".to_owned()
        } else {
            branch
        });
    }
    for path in watched.iter().filter_map(|name| path_of(name)) {
        rerun_if_changed(&path);
    }
    git(workspace, &["rev-parse", "HEAD"])
}

/// What git prints; `None` where there is no git, or it fails.
fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command
        .args(arguments)
        .current_dir(workspace)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
