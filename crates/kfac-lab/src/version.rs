//! What the command is built from.

use serde::Serialize;

/// The versions that numbers depend on; `unknown` where the build could not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// This project's version.
    pub kfac: &'static str,
    /// The commit that was checked out.
    pub commit: &'static str,
    /// The tensor library.
    pub burn: &'static str,
    /// The linear algebra library.
    pub faer: &'static str,
}

/// The versions of this build.
pub const VERSIONS: Versions = Versions {
    kfac: env!("CARGO_PKG_VERSION"),
    commit: env!("KFAC_COMMIT"),
    burn: env!("BURN_VERSION"),
    faer: env!("FAER_VERSION"),
};

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    #[test]
    fn the_libraries_are_those_that_the_workspace_asks_for() {
        let manifest = include_str!("../../../Cargo.toml");
        let asked = |name: &str| {
            let line = manifest
                .lines()
                .find(|line| line.starts_with(&format!("{name} = ")));
            line.and_then(|line| line.split('"').nth(1)).unwrap()
        };
        assert_eq!(format!("={}", VERSIONS.burn), asked("burn"));
        let [asked, built] = [asked("faer"), VERSIONS.faer].map(|version| {
            let (series, _) = version.rsplit_once('.').unwrap();
            series.to_owned()
        });
        assert_eq!(asked, built);
    }

    #[test]
    fn a_build_in_a_repository_names_the_commit_that_is_checked_out() {
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut git = Command::new("git");
        let head = git.args(["-C", workspace, "rev-parse", "HEAD"]).output();
        let head = head.map(|output| String::from_utf8(output.stdout).unwrap());
        let head = head.unwrap_or_default();
        let is_ours = Path::new(workspace).join(".git").exists() && !head.is_empty();
        let expected = if is_ours { head.trim() } else { "unknown" };
        assert_eq!(VERSIONS.commit, expected);
    }
}
