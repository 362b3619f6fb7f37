//! The `kfac` command; see the library of this crate.

fn main() -> std::process::ExitCode {
    kfac_lab::cli::run()
}
