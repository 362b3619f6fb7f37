//! Schedules of the learning rate, made of Burn's.

use anyhow::{Result, anyhow};
use burn::lr_scheduler::{
    LrSchedulerConfig, cosine::CosineAnnealingLrSchedulerConfig, linear::LinearLrSchedulerConfig,
    module_lr_scheduler::ModuleLrScheduler, sequential::SequentialLrSchedulerConfig,
    step::StepLrSchedulerConfig,
};
use serde::{Deserialize, Serialize};

/// How the learning rate goes on from its first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateSchedule {
    /// The form.
    pub form: RateForm,
    /// The iterations of the run.
    pub iterations: usize,
    /// Iterations of a linear rise at the start.
    pub warm_up: usize,
}

/// The form of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RateForm {
    /// It stays.
    Constant,
    /// It falls to a tenth twice, after each third of the run.
    Step,
    /// It falls to zero along half a period of the cosine.
    #[default]
    Cosine,
}

/// Part of the rate that a warm-up starts from.
const WARM_UP_FROM: f64 = 0.01;

impl RateSchedule {
    /// A rate that stays.
    pub const CONSTANT: Self = Self {
        form: RateForm::Constant,
        iterations: 1,
        warm_up: 0,
    };

    /// A form over so many iterations, of which the rate rises in the first part.
    pub fn over(form: RateForm, iterations: u64, warm_up: f64) -> Self {
        Self {
            form,
            iterations: iterations as usize,
            warm_up: (warm_up * iterations as f64) as usize,
        }
    }

    /// The rates, one a step.
    ///
    /// # Errors
    /// Where Burn refuses the rate.
    pub(super) fn rates(self, rate: f64) -> Result<ModuleLrScheduler> {
        let scheduler = self.scheduler(rate);
        scheduler.map_err(|why| anyhow!("learning rate {rate}: {why}"))
    }

    fn scheduler(self, rate: f64) -> Result<ModuleLrScheduler, String> {
        let left = self.iterations.saturating_sub(self.warm_up).max(1);
        let main: LrSchedulerConfig = match self.form {
            RateForm::Constant => StepLrSchedulerConfig::new(rate, usize::MAX >> 33)
                .with_gamma(1.0)
                .into(),
            RateForm::Step => StepLrSchedulerConfig::new(rate, left.div_ceil(3)).into(),
            RateForm::Cosine => CosineAnnealingLrSchedulerConfig::new(rate, left).into(),
        };
        if self.warm_up == 0 {
            return SequentialLrSchedulerConfig::new(vec![main], Vec::new()).init();
        }
        let rise = LinearLrSchedulerConfig::new(WARM_UP_FROM * rate, rate, self.warm_up);
        SequentialLrSchedulerConfig::new(vec![rise.into(), main], vec![self.warm_up]).init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(form: RateForm, warm_up: usize) -> Vec<f64> {
        let schedule = RateSchedule {
            form,
            iterations: 30,
            warm_up,
        };
        let mut rates = schedule.rates(0.1).unwrap();
        (0..30).map(|_| rates.step().base()).collect()
    }

    #[test]
    fn rates_rise_and_fall() {
        let constant = rates(RateForm::Constant, 0);
        assert!(constant.iter().all(|rate| (rate - 0.1).abs() < 1e-12));
        let step = rates(RateForm::Step, 0);
        for (at, expected) in [(0, 0.1), (9, 0.1), (10, 0.01), (20, 0.001), (29, 0.001)] {
            assert!((step[at] - expected).abs() < 1e-12, "{at}: {}", step[at]);
        }
        let cosine = rates(RateForm::Cosine, 0);
        assert!(cosine.is_sorted_by(|a, b| a >= b) && cosine[29] < 0.001);
        let warm = rates(RateForm::Cosine, 5);
        assert!(warm[..5].is_sorted() && warm[0] < 0.01 && warm[5] > 0.09);
    }
}
