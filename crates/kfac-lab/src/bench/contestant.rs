//! A method that is measured step by step.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::Tensor;
use kfac::{Batch, PhaseTimes};

use crate::{
    loss::Loss,
    memory::ALLOCATED,
    methods::{Method, MethodConfig},
    network::Model,
};

/// Steps before the first that counts, for methods that report no calibration.
const WARM_UP: u64 = 3;

/// Most steps of the warm-up: the longest calibration of the damping.
const MAX_WARM_UP: u64 = 25;

/// A method, its model, and what its steps took.
pub(super) struct Contestant {
    pub(super) label: String,
    pub(super) config: MethodConfig,
    method: Method,
    model: Model,
    /// Bytes that method and model hold between steps.
    held: usize,
    pub(super) samples: Vec<Sample>,
}

/// What one step took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) phases: Option<PhaseTimes>,
    /// The cases of K-FAC's factors, and those of its quadratic model.
    pub(super) subsets: [usize; 2],
    /// The most bytes held at once: model, method, batch, and all that the step needed besides.
    pub(super) peak: usize,
}

impl Contestant {
    pub(super) fn new(
        config: MethodConfig,
        model: impl FnOnce() -> Result<Model>,
        loss: Loss,
        example: &Tensor<2>,
    ) -> Result<Self> {
        let before = ALLOCATED.current_usage();
        let model = model()?;
        let method = config.start(&model, loss, example)?;
        Ok(Self {
            label: config.label(),
            config,
            method,
            model,
            held: ALLOCATED.current_usage().saturating_sub(before),
            samples: Vec::new(),
        })
    }

    /// Steps until the damping is calibrated and the inverse is refreshed in its period only.
    pub(super) fn warm_up(&mut self, mut batch: impl FnMut() -> Batch<Tensor<2>>) -> Result<()> {
        for step in 1..=MAX_WARM_UP {
            let calibrating = self.step(&mut batch)?;
            if step >= WARM_UP && !calibrating {
                break;
            }
        }
        self.samples.clear();
        Ok(())
    }

    /// The mean cases of K-FAC's factors, and of its quadratic model.
    pub(super) fn mean_subsets(&self) -> [f64; 2] {
        let samples = self.samples.len().max(1) as f64;
        [0, 1].map(|subset| {
            let cases = self.samples.iter().map(|sample| sample.subsets[subset]);
            cases.sum::<usize>() as f64 / samples
        })
    }

    /// One measured step; whether the damping is still being calibrated.
    pub(super) fn step(&mut self, batch: impl FnOnce() -> Batch<Tensor<2>>) -> Result<bool> {
        let others = ALLOCATED.current_usage().saturating_sub(self.held);
        ALLOCATED.reset_peak_usage();
        let batch = batch();
        let start = Instant::now();
        let summary = self.method.step(&mut self.model, &batch)?;
        let seconds = start.elapsed().as_secs_f64();
        drop(batch);
        let kfac = summary.kfac.as_ref();
        let subsets = kfac.map(|report| [report.statistics_cases, report.model_cases]);
        self.samples.push(Sample {
            seconds,
            subsets: subsets.unwrap_or_default(),
            phases: summary.kfac.as_ref().map(|report| report.times),
            peak: ALLOCATED.peak_usage().saturating_sub(others),
        });
        let calibrating = summary.kfac.is_some_and(|report| report.lambda.calibrated);
        self.held = ALLOCATED.current_usage().saturating_sub(others);
        Ok(calibrating)
    }
}
