//! `kfac compare` over seconds: K-FAC and its rivals.

use std::{ops::Range, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};

use super::{compare::CompareArguments, train::run};
use crate::{
    charts::{self, Captions, Plotted},
    compare::{
        Comparison, Contender, Countdown, Entry, EvaluationPlan, PeerLimits, PeerPrograms,
        initial_weights,
    },
    export::{self, ExportOptions},
    methods::MethodConfig,
    plot::Emphasis,
    say::say,
    task::{Task, TaskData},
    train::{
        Augmentation, CaseOrder, EvaluateEvery, EvaluationCases, Limit, RunConfig, RunFolder,
        StepRecord, TrainOptions, evaluation_seconds, is_interrupted, output_folder,
    },
};

/// Where the problem is written for other programs, in the folder of the comparison.
const PROBLEM: &str = "problem";

/// A comparison that is being made.
struct Contest<'a> {
    arguments: &'a CompareArguments,
    task: Task,
    data: TaskData,
    folder: PathBuf,
}

impl CompareArguments {
    /// K-FAC and all settings of its rivals over seconds.
    pub(super) fn run_contest(&self) -> Result<()> {
        let task = self.kfac.task(self.run.task());
        let data = self.run.load(&task)?;
        let name = format!("{}-compare", task.label());
        let contest = Contest {
            folder: output_folder(self.run.out.as_deref(), &name)?,
            arguments: self,
            task,
            data,
        };
        let plan = contest.plan()?;
        let sample = plan.sample(&contest.data);
        if let Some(sample) = &sample {
            say(format_args!(
                "evaluations between start and end of each run are on {sample}, the same for all: one on all takes \
                 {:.3} s",
                plan.on_all
            ));
        }
        let entries = contest.entries(plan)?;
        ensure!(
            entries.iter().any(|entry| !entry.runs.is_empty()),
            "no run came to its end, for the reasons above"
        );
        contest.draw(&entries, plan.cases())?;
        let comparison = Comparison {
            entries: &entries,
            error_name: contest.task.loss.error_name(),
            seconds: self.seconds,
            seeds: contest.seeds().count(),
            sample: sample.as_deref(),
        };
        say(format_args!("\n{comparison}"));
        say(format_args!("run folder: {}", contest.folder.display()));
        Ok(())
    }
}

impl Contest<'_> {
    fn seeds(&self) -> Range<u64> {
        let first = self.arguments.run.seed;
        first..first + u64::from(self.arguments.sweep.seeds)
    }

    fn kfac(&self, seed: u64) -> MethodConfig {
        MethodConfig::Kfac(Box::new(self.arguments.kfac.config(&self.task, seed)))
    }

    /// Measures how long an evaluation on all cases takes.
    fn plan(&self) -> Result<EvaluationPlan> {
        let CompareArguments {
            run,
            seconds,
            evaluations,
            ..
        } = self.arguments;
        let unmeasured = EvaluationPlan {
            seconds: *seconds,
            evaluations: *evaluations,
            on_all: 0.0,
        };
        let options = self.options(self.kfac(run.seed), run.seed, unmeasured);
        let config = RunConfig::new(options, run.source(), &self.data)?;
        Ok(EvaluationPlan {
            on_all: evaluation_seconds(&config, &self.data)?,
            ..unmeasured
        })
    }

    /// Makes all runs: those of a seed one after another, so that all methods meet the same load of the machine.
    fn entries(&self, plan: EvaluationPlan) -> Result<Vec<Entry>> {
        let first = self.arguments.run.seed;
        let programs = self.programs(&self.contenders(first), plan)?;
        let contenders = |seed| {
            let all = self.contenders(seed).into_iter();
            all.filter(|c| matches!(c, Contender::Own(_)) || programs.is_some())
        };
        let entry = |contender: Contender| Entry {
            label: contender.label(),
            runs: Vec::new(),
        };
        let mut entries: Vec<Entry> = contenders(first).map(entry).collect();
        let runs = entries.len() * self.seeds().count();
        let mut countdown = Countdown::new(runs, plan.seconds, plan.overhead());
        for seed in self.seeds() {
            for (entry, contender) in entries.iter_mut().zip(contenders(seed)) {
                if is_interrupted() {
                    break;
                }
                say(countdown.begin(&entry.label, seed));
                let start = Instant::now();
                let steps = self.steps((contender, seed), programs.as_ref(), plan)?;
                if let Some(steps) = steps {
                    countdown.end(start.elapsed().as_secs_f64());
                    entry.runs.push(steps);
                }
            }
        }
        if is_interrupted() {
            eprintln!("interrupted: what follows is of the runs so far");
        }
        Ok(entries)
    }

    fn contenders(&self, seed: u64) -> Vec<Contender> {
        let (l2, batch) = (self.task.l2, self.task.first_order_batch);
        let rivals = self.arguments.rivals.iter();
        let rivals = rivals.flat_map(|rival| rival.contenders(l2, batch));
        std::iter::once(Contender::Own(self.kfac(seed)))
            .chain(rivals)
            .collect()
    }

    /// The programs of other libraries with the problem written for them; `None` where no contender
    /// needs them, or they are not installed, which is said.
    fn programs(
        &self,
        contenders: &[Contender],
        plan: EvaluationPlan,
    ) -> Result<Option<PeerPrograms>> {
        if !contenders.iter().any(|c| matches!(c, Contender::Peer(_))) {
            return Ok(None);
        }
        let programs = match PeerPrograms::find(&self.arguments.peers) {
            Ok(programs) => programs,
            Err(error) => {
                eprintln!("kfac-jax and PyTorch are left out: {error}");
                return Ok(None);
            }
        };
        let problem = output_folder(Some(&self.folder.join(PROBLEM)), "")?;
        let options = |seed| ExportOptions {
            task: self.task.clone(),
            init: self.arguments.run.init.clone(),
            seed,
        };
        export::write(&options(self.arguments.run.seed), &self.data, &problem)?;
        export::write_evaluated(plan.cases(), &self.data, &problem)?;
        for seed in self.seeds() {
            export::write_initial(&options(seed), &problem.join(initial_weights(seed)))?;
        }
        Ok(Some(programs))
    }

    /// Makes a run in a folder of its own; `None` where it fails, which is said.
    fn steps(
        &self,
        (contender, seed): (Contender, u64),
        programs: Option<&PeerPrograms>,
        plan: EvaluationPlan,
    ) -> Result<Option<Vec<StepRecord>>> {
        let label = contender.label();
        let out = self.folder.join(self.run_name(&label, seed));
        let steps = match (contender, programs) {
            (Contender::Own(method), _) => {
                let mut folder = RunFolder::create(Some(&out), "")?;
                let options = self.options(method, seed, plan);
                let config = RunConfig::new(options, self.arguments.run.source(), &self.data)?;
                run(&config, &self.data, &mut folder).map(|outcome| outcome.steps)
            }
            (Contender::Peer(peer), Some(programs)) => {
                let limits = PeerLimits {
                    seconds: plan.seconds,
                    every: plan.every(),
                    seed,
                };
                programs.run(&peer, &self.folder.join(PROBLEM), &limits, &out)
            }
            (Contender::Peer(_), None) => return Ok(None),
        };
        let left_out = |error| eprintln!("{label}, seed {seed}, is left out: {error:#}");
        Ok(steps.map_err(left_out).ok())
    }

    fn run_name(&self, label: &str, seed: u64) -> String {
        let name = label.replace(", ", "-").replace(' ', "-").to_lowercase();
        match self.arguments.sweep.seeds {
            1 => name,
            _ => format!("{name}-seed-{seed}"),
        }
    }

    fn options(&self, method: MethodConfig, seed: u64, plan: EvaluationPlan) -> TrainOptions {
        let arguments = &self.arguments.run;
        let schedule = method.schedule(&self.task);
        TrainOptions {
            task: self.task.clone(),
            schedule,
            order: CaseOrder::Samples,
            augmentation: Augmentation::None,
            patience: None,
            limit: Limit {
                iterations: None,
                seconds: Some(plan.seconds),
            },
            evaluate: EvaluateEvery::Seconds(plan.every()),
            evaluate_on: plan.cases(),
            seed,
            precision: arguments.precision,
            init: arguments.init.clone(),
            method: method.with_batches(schedule),
        }
    }

    fn draw(&self, entries: &[Entry], cases: EvaluationCases) -> Result<()> {
        let emphases = [Emphasis::Main]
            .into_iter()
            .chain(std::iter::repeat(Emphasis::Baseline));
        let plotted = entries
            .iter()
            .zip(emphases)
            .map(|(entry, emphasis)| Plotted {
                label: entry.label.clone(),
                emphasis,
                runs: &entry.runs,
            });
        let plotted: Vec<Plotted<'_>> = plotted.collect();
        let captions = Captions {
            title: format!(
                "{}: training error of K-FAC and its rivals",
                self.task.label()
            ),
            subtitle: self.subtitle(cases),
            error_name: self.task.loss.error_name(),
        };
        charts::write(&self.folder, &captions, &plotted)
    }

    fn subtitle(&self, cases: EvaluationCases) -> String {
        let first = self.arguments.run.seed;
        let seeds = match self.arguments.sweep.seeds {
            1 => format!("seed {first}"),
            seeds => format!("means of {seeds} seeds, bands from lowest to highest"),
        };
        let cases = match cases {
            EvaluationCases::All => "",
            EvaluationCases::Sample(_) => ", between start and end on a sample of the cases",
        };
        format!(
            "{} s of training each, {} threads, {seeds}{cases}",
            self.arguments.seconds,
            rayon::current_num_threads(),
        )
    }
}
