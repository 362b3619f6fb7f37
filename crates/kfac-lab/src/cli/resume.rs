//! `kfac resume`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{
    options::{CheckpointArguments, prepare_process},
    train::{finish, told},
    values::{count, positive, threads},
};
use crate::{
    checkpoint::{CheckpointError, CheckpointFiles},
    say::say,
    train::{Limit, RunConfig, RunFolder, RunPoint, RunState, StepRecord, resume},
    version::VERSIONS,
};

/// Go on with a run from its newest checkpoint, to where it was to end, or further.
///
/// With the same version of the command and the same number of threads, the run becomes what it would have been
/// without the interruption, to the last bit, but for its seconds.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac resume runs/curves-kfac-1
  kfac resume runs/curves-kfac-1 --iterations 100     100 iterations more than planned")]
pub(super) struct ResumeArguments {
    /// The folder of the run
    folder: PathBuf,
    /// End after so many iterations more than planned
    #[arg(long, value_name = "N", value_parser = count::<u64>())]
    iterations: Option<u64>,
    /// End after so many seconds more than planned
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Folder of the fetched data sets [default: that of the run]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Number of threads [default: that of the run]
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<usize>,
    #[command(flatten)]
    checkpoints: CheckpointArguments,
}

impl ResumeArguments {
    pub(super) fn run(&self) -> Result<()> {
        let files = newest_checkpoint(&self.folder)?;
        let point = RunPoint::of(&files)?;
        prepare_process(Some(self.threads.unwrap_or(point.config.threads)))?;
        warn_of_other(&point.config);
        let config = self.config(&point)?;
        let options = &config.options;
        let data = config.source.load(&options.task, options.seed)?;
        point.check_data(&data)?;
        let RunState {
            iteration, seconds, ..
        } = point.state;
        let (mut folder, steps) = RunFolder::reopen(&self.folder, iteration)?;
        warn_of_lost(&steps, iteration);
        say(format_args!(
            "from iteration {iteration} on, {}",
            options.limit
        ));
        if options.limit.is_reached(iteration, seconds) {
            say("the run is at its planned end: --iterations or --seconds make it longer");
        }
        folder.write_config(&config)?;
        let outcome = resume(&config, &data, (&files, point.state), (&mut folder, steps))?;
        finish(&config, &outcome, &folder)?;
        told(outcome, folder.path())
    }

    /// When the run was to end: the folder tells of a plan that is newer than the checkpoint.
    fn planned(&self, config: &RunConfig) -> Result<Limit> {
        let newest = match RunConfig::read(&self.folder) {
            Ok(newest) => newest,
            Err(error) => {
                eprintln!("{error:#}: the run is to end where the checkpoint says");
                return Ok(config.options.limit);
            }
        };
        if let Some(setting) = config.first_difference(&newest)? {
            bail!(
                "the checkpoint is not of the run of config.json in {}: their `{setting}` differs. Remove the one that \
                 is not of this run",
                self.folder.display()
            );
        }
        Ok(newest.options.limit)
    }

    /// What the run is to be from here on.
    fn config(&self, point: &RunPoint) -> Result<RunConfig> {
        let mut config = point.config.clone();
        let (planned, state) = (self.planned(&config)?, &point.state);
        config.options.limit = planned;
        config.options.limit = match (self.iterations, self.seconds) {
            (None, None) => planned,
            (iterations, seconds) => Limit {
                iterations: iterations.map(|n| {
                    planned
                        .iterations
                        .unwrap_or(state.iteration)
                        .saturating_add(n)
                }),
                seconds: seconds.map(|s| planned.seconds.unwrap_or(state.seconds) + s),
            },
        };
        if config.options.limit != planned && config.options.method.is_scheduled() {
            bail!(
                "the learning rate of this run falls until its planned end: it cannot go on beyond that, leave \
                 --iterations and --seconds out"
            );
        }
        config.checkpoints = config.checkpoints.map(|plan| self.checkpoints.or(plan));
        if let Some(folder) = &self.data {
            config.source.folder = std::path::absolute(folder)?;
        }
        config.threads = rayon::current_num_threads();
        Ok(config)
    }
}

/// The newest whole checkpoint of a run; says which newer ones are not.
pub(super) fn newest_checkpoint(run: &Path) -> Result<CheckpointFiles, CheckpointError> {
    CheckpointFiles::newest(run, |error| eprintln!("left out: {error}"))
}

/// Says what keeps the run from becoming what it would have been.
fn warn_of_other(config: &RunConfig) {
    let own = serde_json::to_value(VERSIONS).unwrap_or_default();
    if config.version != own {
        eprintln!(
            "the run was made by {}, this is {own}: its last bits may become others",
            config.version
        );
    }
    let threads = rayon::current_num_threads();
    if config.threads != threads {
        eprintln!(
            "the run was made with {} threads, this process has {threads}: its last bits become others",
            config.threads
        );
    }
}

/// Says where steps are missing that the pictures would have had.
fn warn_of_lost(steps: &[StepRecord], iteration: u64) {
    let all = iteration as usize + 1;
    if steps.len() < all {
        eprintln!(
            "{} of the {all} steps until iteration {iteration} are missing from steps.jsonl, or cannot be read; the \
             run itself is whole",
            all - steps.len()
        );
    }
}
