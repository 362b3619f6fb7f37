//! Numbers of the optimizers' reports as metrics of a training.

use std::{fmt, sync::Arc};

use burn::{
    tensor::TensorReadError,
    train::metric::{
        Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
        NumericEntry, SerializedEntry,
        state::{FormatOptions, NumericMetricState},
    },
};

use super::preconditioner::PreconditionerReports;
use crate::optim::{Phase, StepReport};

/// Significant digits where a metric is shown.
const DIGITS: usize = 3;

/// A metric of `Kfac`'s steps.
pub type KfacMetric = ReportMetric<StepReport>;

/// A metric of a preconditioner's steps.
pub type PreconditionerMetric = ReportMetric<PreconditionerReports>;

/// A number of each step's report: of the step, and the mean over those of the epoch that have it.
///
/// For the training split, by `SupervisedTraining::metric_train_numeric`. The output of the training step has to be
/// a [`Reported`](super::Reported), or another type that implements `Adaptor<Option<R>>`.
pub struct ReportMetric<R> {
    name: MetricName,
    unit: Option<&'static str>,
    read: Arc<Read<R>>,
    state: NumericMetricState,
    /// Whether the last step had the number, and whether any of the epoch had.
    present: bool,
    begun: bool,
}

/// How a number is read from a report.
type Read<R> = dyn Fn(&R) -> Option<f64> + Send + Sync;

impl<R> ReportMetric<R> {
    /// A number of your choice; `None` from steps that do not have it.
    ///
    /// The name tells metrics apart, and names the file of its values.
    pub fn new(
        name: impl Into<String>,
        unit: Option<&'static str>,
        read: impl Fn(&R) -> Option<f64> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Arc::new(name.into()),
            unit,
            read: Arc::new(read),
            state: NumericMetricState::new(),
            present: false,
            begun: false,
        }
    }

    fn seconds(
        name: impl Into<String>,
        read: impl Fn(&R) -> Option<f64> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Some("s"), read)
    }

    fn format(&self) -> FormatOptions {
        let options = FormatOptions::new(self.name()).precision(DIGITS);
        match self.unit {
            Some(unit) => options.unit(unit),
            None => options,
        }
    }
}

impl KfacMetric {
    /// λ of each step's quadratic model.
    pub fn lambda() -> Self {
        Self::new("K-FAC Lambda", None, |report| Some(report.lambda.used))
    }

    /// γ of each step's inverse.
    pub fn gamma() -> Self {
        Self::new("K-FAC Gamma", None, |report| Some(report.gamma))
    }

    /// The reduction ratio ρ, of the steps that evaluate it.
    pub fn reduction_ratio() -> Self {
        Self::new("K-FAC Reduction Ratio", None, |report| {
            report.lambda.reduction_ratio
        })
    }

    /// The length of each step, `‖δ‖`.
    pub fn step_norm() -> Self {
        Self::new("K-FAC Step Norm", None, |report| Some(report.step_norm))
    }

    /// Seconds of a phase.
    pub fn phase(phase: Phase) -> Self {
        Self::seconds(phase_name(phase), move |report| {
            Some(report.times.of(phase))
        })
    }

    /// Seconds of the whole step.
    pub fn step_seconds() -> Self {
        Self::seconds("K-FAC Step", |report| Some(report.times.total()))
    }
}

impl PreconditionerMetric {
    /// λ of each observation.
    pub fn lambda() -> Self {
        Self::new("K-FAC Lambda", None, |reports| {
            Some(reports.observation()?.lambda)
        })
    }

    /// ν, the scale of the KL clip.
    pub fn nu() -> Self {
        Self::new("K-FAC Clip Scale", None, |reports| {
            Some(reports.preconditioning()?.nu)
        })
    }

    /// One for the steps that the KL clip made shorter, zero for others: the mean is the part that it clipped.
    pub fn clipped() -> Self {
        Self::new("K-FAC Clipped", None, |reports| {
            Some(f64::from(u8::from(reports.preconditioning()?.clipped())))
        })
    }

    /// `‖ν F̃⁻¹ g‖`.
    pub fn preconditioned_norm() -> Self {
        Self::new("K-FAC Preconditioned Norm", None, |reports| {
            Some(reports.preconditioning()?.preconditioned_norm)
        })
    }

    /// Seconds of a phase of the observation: its passes, the factors, the inverse.
    pub fn phase(phase: Phase) -> Self {
        Self::seconds(phase_name(phase), move |reports| {
            Some(reports.observation()?.times.of(phase))
        })
    }

    /// Seconds of applying the inverse to the gradients.
    pub fn preconditioning_seconds() -> Self {
        Self::seconds("K-FAC Preconditioning", |reports| {
            Some(reports.preconditioning()?.seconds)
        })
    }
}

fn phase_name(phase: Phase) -> String {
    format!("K-FAC {phase:?}")
}

impl<R> Clone for ReportMetric<R> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            unit: self.unit,
            read: self.read.clone(),
            state: self.state.clone(),
            present: self.present,
            begun: self.begun,
        }
    }
}

impl<R> fmt::Debug for ReportMetric<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportMetric")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<R> Metric for ReportMetric<R> {
    type Input = Option<R>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: self.unit.map(str::to_owned),
            higher_is_better: false,
        }
        .into()
    }

    fn update(
        &mut self,
        report: &Option<R>,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let value = report.as_ref().and_then(|report| (self.read)(report));
        self.present = value.is_some();
        let Some(value) = value else {
            return Ok(SerializedEntry::not_available(self.unit));
        };
        self.begun = true;
        self.state.update(value, 1);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(if self.begun {
            self.state.compute_final(self.format())
        } else {
            SerializedEntry::not_available(self.unit)
        })
    }

    fn clear(&mut self) {
        self.state.reset();
        self.present = false;
        self.begun = false;
    }
}

impl<R> Numeric for ReportMetric<R> {
    fn value(&self) -> Option<NumericEntry> {
        self.present.then(|| self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.begun.then(|| self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}
