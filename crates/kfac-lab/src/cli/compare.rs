//! `kfac compare`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    options::{KfacArguments, RunArguments},
    sweep::SweepArguments,
    train::run,
    values::{count, positive},
};
use crate::{
    charts::{self, Captions, Plotted},
    compare::{Comparison, Contender, Entry, PeerLimits, PeerPrograms, RivalChoice},
    export::{self, ExportOptions},
    methods::MethodConfig,
    plot::Emphasis,
    say::say,
    task::{Task, TaskData},
    train::{
        Augmentation, CaseOrder, EvaluateEvery, Limit, RunConfig, RunFolder, StepRecord,
        TrainOptions, output_folder,
    },
};

/// Train with K-FAC and its rivals from the same start for the same seconds.
///
/// Each rival runs with several settings; the pictures and the table have all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kfac compare curves --seconds 120           K-FAC against four settings of NAG
  kfac compare digits --seconds 5 --rivals nag,adam,sgd
  kfac compare mnist --rivals kfac-jax,torch-nag,torch-adam
  kfac compare fashion-lenet --full --epochs 10 --settings 4 --seeds 3
  kfac compare mnist --seconds 600 --rivals kfac-jax:500,torch-nag:0.02

kfac-jax and PyTorch run in Python: `peers/install` installs them in peers/.venv.")]
pub(super) struct CompareArguments {
    #[command(flatten)]
    pub(super) run: RunArguments,
    /// Seconds of training for each method, evaluations not counted
    #[arg(long, value_name = "S", default_value_t = 120.0, value_parser = positive, conflicts_with = "epochs")]
    seconds: f64,
    /// Evaluations of each run on all cases; on a large data set they take longer than the training
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = count::<u16>(), conflicts_with = "epochs")]
    evaluations: u16,
    /// What to compare K-FAC with: any of nag, adam, sgd, kfac-jax, torch-nag, torch-adam
    ///
    /// Each runs with several learning rates (nag 0.05, 0.02, 0.01, 0.005; adam 0.003, 0.001, 0.0003, 0.0001; sgd
    /// 0.2, 0.1, 0.05, 0.02), kfac-jax, with the settings of its autoencoder example, with batches of 500, 1000 and
    /// 4000 cases. NAME:SETTING runs it with one.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nag",
        conflicts_with = "epochs"
    )]
    rivals: Vec<RivalChoice>,
    /// Folder of the Python programs
    #[arg(long, value_name = "FOLDER", default_value = "peers")]
    peers: PathBuf,
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    #[command(flatten)]
    pub(super) kfac: KfacArguments,
}

/// Where the problem is written for other programs, in the folder of the comparison.
const PROBLEM: &str = "problem";

impl CompareArguments {
    pub(super) fn run(&self) -> Result<()> {
        self.run.prepare_process()?;
        if let Some(epochs) = self.sweep.epochs {
            return self.run_sweep(epochs);
        }
        let task = self.kfac.task(self.run.task());
        let data = self.run.load(&task)?;
        let name = format!("{}-compare", task.label());
        let folder = output_folder(self.run.out.as_deref(), &name)?;
        let mut contenders = self.contenders(&task);
        let programs = self.programs(&contenders, (&task, &data), &folder)?;
        contenders.retain(|c| matches!(c, Contender::Own(_)) || programs.is_some());
        let mut runs = Vec::new();
        for contender in contenders {
            let label = contender.label();
            say(format_args!("{label}: {} s", self.seconds));
            let out = folder.join(folder_name(&label));
            let steps = match (contender, &programs) {
                (Contender::Own(method), _) => {
                    self.train((&task, &data), method, &out).map(Some)?
                }
                (Contender::Peer(peer), Some(programs)) => {
                    let found = programs.run(&peer, &folder.join(PROBLEM), &self.limits(), &out);
                    let left_out = |error| eprintln!("{label} is left out: {error:#}");
                    found.map_err(left_out).ok()
                }
                (Contender::Peer(_), None) => None,
            };
            let Some(steps) = steps else { continue };
            runs.push(Entry { label, steps });
        }
        self.draw(&task, &runs, &folder)?;
        let comparison = Comparison {
            runs: &runs,
            error_name: task.loss.error_name(),
            seconds: self.seconds,
        };
        say(format_args!("\n{comparison}"));
        say(format_args!("run folder: {}", folder.display()));
        Ok(())
    }

    /// Seconds between evaluations.
    fn every(&self) -> f64 {
        self.seconds / f64::from(self.evaluations)
    }

    fn limits(&self) -> PeerLimits {
        PeerLimits {
            seconds: self.seconds,
            every: self.every(),
            seed: self.run.seed,
        }
    }

    fn contenders(&self, task: &Task) -> Vec<Contender> {
        let kfac = MethodConfig::Kfac(Box::new(self.kfac.config(task, self.run.seed)));
        let rivals = self.rivals.iter();
        let rivals = rivals.flat_map(|rival| rival.contenders(task.l2, task.first_order_batch));
        std::iter::once(Contender::Own(kfac))
            .chain(rivals)
            .collect()
    }

    /// The programs of other libraries with the problem written for them; `None` where no contender
    /// needs them, or they are not installed, which is said.
    fn programs(
        &self,
        contenders: &[Contender],
        (task, data): (&Task, &TaskData),
        folder: &Path,
    ) -> Result<Option<PeerPrograms>> {
        if !contenders.iter().any(|c| matches!(c, Contender::Peer(_))) {
            return Ok(None);
        }
        let programs = match PeerPrograms::find(&self.peers) {
            Ok(programs) => programs,
            Err(error) => {
                eprintln!("kfac-jax and PyTorch are left out: {error}");
                return Ok(None);
            }
        };
        let options = ExportOptions {
            task: task.clone(),
            init: self.run.init.clone(),
            seed: self.run.seed,
        };
        export::write(
            &options,
            data,
            &output_folder(Some(&folder.join(PROBLEM)), "")?,
        )?;
        Ok(Some(programs))
    }

    fn train(
        &self,
        (task, data): (&Task, &TaskData),
        method: MethodConfig,
        out: &Path,
    ) -> Result<Vec<StepRecord>> {
        let options = TrainOptions {
            task: task.clone(),
            schedule: method.schedule(task),
            order: CaseOrder::Samples,
            augmentation: Augmentation::None,
            patience: None,
            limit: Limit {
                iterations: None,
                seconds: Some(self.seconds),
            },
            evaluate: EvaluateEvery::Seconds(self.every()),
            seed: self.run.seed,
            precision: self.run.precision,
            init: self.run.init.clone(),
            method,
        };
        let mut folder = RunFolder::create(Some(out), "")?;
        let config = RunConfig::new(options, self.run.source(), data)?;
        Ok(run(&config, data, &mut folder)?.steps)
    }

    fn draw(&self, task: &Task, runs: &[Entry], folder: &Path) -> Result<()> {
        let emphases = [Emphasis::Main]
            .into_iter()
            .chain(std::iter::repeat(Emphasis::Baseline));
        let plotted: Vec<Plotted<'_>> = runs
            .iter()
            .zip(emphases)
            .map(|(run, emphasis)| Plotted {
                label: run.label.clone(),
                emphasis,
                steps: &run.steps,
            })
            .collect();
        let captions = Captions {
            title: format!("{}: training error of K-FAC and its rivals", task.label()),
            subtitle: format!(
                "{} s of training each, {} threads, seed {}",
                self.seconds,
                rayon::current_num_threads(),
                self.run.seed
            ),
            error_name: task.loss.error_name(),
        };
        charts::write(folder, &captions, &plotted)
    }
}

fn folder_name(label: &str) -> String {
    label.replace(", ", "-").replace(' ', "-").to_lowercase()
}
