//! The figures as tables.

use std::fmt;

use kfac::Phase;

use super::{BatchBench, Bench};
use crate::{precision::Precision, text_table::NumberTable};

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
        };
        writeln!(f, "{}, {precision}, {} threads", self.data, self.threads)?;
        for statistics in &self.statistics {
            write!(f, "medians of {} rounds\n\n{statistics}", self.rounds)?;
        }
        if !self.batches.is_empty() {
            writeln!(
                f,
                "medians of {} rounds of {} steps; a phase's time is its mean over a round",
                self.rounds, self.period
            )?;
        }
        self.batches
            .iter()
            .try_for_each(|batch| write!(f, "\n{batch}"))
    }
}

impl fmt::Display for BatchBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "batch {}; a plain matrix product has {:.0} GFLOP/s",
            self.batch, self.product_rate
        )?;
        write!(f, "{}\n{}", self.phases(), self.steps())
    }
}

impl BatchBench {
    /// What each phase of a step takes, beside what it needs.
    fn phases(&self) -> NumberTable {
        let header = ["mean step", "ms", "share", "GFLOP", "GFLOP/s", "of product"];
        let mut table = NumberTable::new(header);
        for method in &self.methods {
            let row = |name: String, mean: f64, needs: f64| {
                let share = 100.0 * mean / method.mean;
                let mut row = vec![name, format!("{mean:.1}"), format!("{share:.0}%")];
                if needs > 0.0 && mean > 0.0 {
                    let reached = 1e3 * needs / mean;
                    let part = 100.0 * reached / self.product_rate;
                    let rates = [
                        format!("{needs:.2}"),
                        format!("{reached:.0}"),
                        format!("{part:.0}%"),
                    ];
                    row.extend(rates);
                }
                row
            };
            table.add(row(method.label.clone(), method.mean, method.needs));
            for phase in &method.phases {
                let name = format!("  {}", phase_name(phase.phase));
                table.add(row(name, phase.mean, phase.needs));
            }
        }
        table
    }

    /// The time and memory of each method's steps, also against the method before it.
    fn steps(&self) -> NumberTable {
        let header = [
            "steps",
            "median ms",
            "longest ms",
            "of median",
            "MiB",
            "time / above",
            "MiB / above",
        ];
        let mut table = NumberTable::new(header);
        let mut before = None;
        for method in &self.methods {
            let (median, longest) = (method.median, method.longest);
            let mut row = vec![
                method.label.clone(),
                format!("{median:.1}"),
                format!("{longest:.1}"),
                format!("{:.2}", longest / median),
                format!("{:.0}", method.memory),
            ];
            if let Some(before) = before.replace(method) {
                row.push(format!("{:.2}", method.mean / before.mean));
                row.push(format!("{:.2}", method.memory / before.memory));
            }
            table.add(row);
        }
        table
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Gradient => "gradient",
        Phase::CurvaturePass => "curvature pass",
        Phase::FactorUpdate => "factor update",
        Phase::Inverse => "inverse refresh",
        Phase::Proposal => "applying it",
        Phase::QuadraticModel => "quadratic model",
        Phase::Lambda => "lambda",
        Phase::Update => "update",
    }
}
