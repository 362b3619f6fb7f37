//! What a step gives the metrics.

use burn::{
    tensor::{Device, ExecutionError, Tensor},
    train::metric::{
        AccuracyInput, Adaptor, ConfusionStatsInput, HammingScoreInput, ItemLazy, LossInput,
        PerplexityInput, TopKAccuracyInput,
    },
};

/// The output of a training step, with the optimizer's report beside it.
///
/// Burn's metrics read the output through it, and [`ReportMetric`](super::ReportMetric) the report.
#[derive(Clone, Debug)]
pub struct Reported<O, R> {
    /// The output.
    pub output: O,
    /// The report; `None` where no optimizer of this crate took part, as in a validation.
    pub report: Option<R>,
}

impl<O, R> Reported<O, R> {
    /// An output and a report.
    pub fn new(output: O, report: R) -> Self {
        Self {
            output,
            report: Some(report),
        }
    }

    /// An output without a report.
    pub fn plain(output: O) -> Self {
        Self {
            output,
            report: None,
        }
    }
}

impl<O: ItemLazy, R: Send> ItemLazy for Reported<O, R> {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(Self {
            output: self.output.sync()?,
            report: self.report,
        })
    }
}

impl<O, R: Clone> Adaptor<Option<R>> for Reported<O, R> {
    fn adapt(&self) -> Option<R> {
        self.report.clone()
    }
}

macro_rules! adapts_as_its_output {
    ($($input:ident),+) => {
        $(impl<O: Adaptor<$input>, R> Adaptor<$input> for Reported<O, R> {
            fn adapt(&self) -> $input {
                self.output.adapt()
            }
        })+
    };
}

adapts_as_its_output!(
    AccuracyInput,
    ConfusionStatsInput,
    HammingScoreInput,
    LossInput,
    PerplexityInput,
    TopKAccuracyInput
);

/// A loss and nothing else: all that is known of a step without one more forward pass.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
}

impl LossOutput {
    /// That of a number, as of [`StepReport::objective`](crate::StepReport::objective).
    pub fn of(loss: f64) -> Self {
        Self {
            loss: Tensor::from_data([loss], &Device::default()),
        }
    }
}

impl ItemLazy for LossOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for LossOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}
