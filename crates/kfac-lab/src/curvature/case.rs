//! The format of layer cases: a small network, its data, and the curvature expected of it.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;

/// A layer case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Version of the format.
    pub schema: u32,
    /// `layer-case`.
    pub kind: String,
    /// The case's name.
    pub name: String,
    /// The layers in order.
    pub model: Vec<LayerSpec>,
    /// The loss.
    pub loss: LossName,
    /// The inputs, `[case][..]`.
    pub inputs: Nested,
    /// The targets: classes for softmax, otherwise of the shape of the outputs.
    pub targets: Nested,
    /// Where the output gradients come from.
    pub estimator: Estimator,
    /// How shared positions count; `None` where no layer shares.
    pub weight_sharing: Option<Sharing>,
    /// The damping of the solutions.
    #[serde(default)]
    pub damping: Damping,
    /// What to compare with.
    pub expected: Option<Value>,
}

/// The dampings of the two kinds of solutions.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Damping {
    /// Of factored Tikhonov damping.
    #[serde(default = "default_gamma")]
    pub gamma: f64,
    /// Of exact damping.
    #[serde(default = "default_lambda")]
    pub lambda: f64,
}

fn default_gamma() -> f64 {
    0.1
}

fn default_lambda() -> f64 {
    0.01
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            gamma: default_gamma(),
            lambda: default_lambda(),
        }
    }
}

/// The loss of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Of class indices, one a position.
    SoftmaxCrossEntropy,
    /// Logistic cross-entropy.
    Bernoulli,
    /// Half the squared error.
    Gaussian,
}

/// Where the output gradients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The expectation over the model's own distribution.
    Exact,
    /// The training targets.
    Empirical,
}

/// How shared positions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each on its own.
    Expand,
    /// Those of a case together.
    Reduce,
}

/// A layer of a case's network.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LayerSpec {
    /// Dense, on the last axis.
    Linear(Weights),
    /// Convolution along one axis.
    Conv1d(ConvolutionSpec),
    /// Convolution along two axes.
    Conv2d(ConvolutionSpec),
    /// Convolution along three axes.
    Conv3d(ConvolutionSpec),
    /// Transposed convolution along one axis.
    ConvTranspose1d(ConvolutionSpec),
    /// Transposed convolution along two axes.
    ConvTranspose2d(ConvolutionSpec),
    /// Transposed convolution along three axes.
    ConvTranspose3d(ConvolutionSpec),
    /// A row of the weight for each token.
    Embedding {
        /// `[count][dim]`.
        weight: Nested,
    },
    /// Over the last axis.
    LayerNorm {
        /// Scale.
        gamma: Nested,
        /// Shift.
        beta: Option<Nested>,
        /// Added to the variance.
        eps: f64,
    },
    /// Root mean square, over the last axis.
    RmsNorm {
        /// Scale.
        gamma: Nested,
        /// Added to the mean square.
        eps: f64,
    },
    /// Over groups of channels and space.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Scale.
        gamma: Nested,
        /// Shift.
        beta: Nested,
        /// Added to the variance.
        eps: f64,
    },
    /// With given statistics.
    BatchNorm2d {
        /// Scale.
        gamma: Nested,
        /// Shift.
        beta: Nested,
        /// Added to the variance.
        eps: f64,
        /// Means of the channels.
        mean: Nested,
        /// Variances of the channels.
        var: Nested,
    },
    /// Elementwise.
    Tanh,
    /// Elementwise.
    Sigmoid,
    /// Elementwise.
    Relu,
    /// All axes but the first.
    Flatten,
    /// Over axis 1.
    MeanOverPositions,
    /// Over the two last axes.
    GlobalAvgPool2d,
    /// The layer of an index again.
    Shared {
        /// The index.
        of: usize,
    },
    /// One layer on each of equal parts of the last axis.
    SplitConcat {
        /// How many.
        parts: usize,
        /// The layer.
        layer: Box<LayerSpec>,
    },
}

/// Weight and bias of a dense layer.
#[derive(Clone, Debug, Deserialize)]
pub struct Weights {
    /// `[out][in]`.
    pub weight: Nested,
    /// `[out]`.
    pub bias_values: Option<Nested>,
}

/// A convolution, transposed or not.
#[derive(Clone, Debug, Deserialize)]
pub struct ConvolutionSpec {
    /// A number for each axis.
    pub kernel: Vec<usize>,
    /// A number for each axis.
    pub stride: Vec<usize>,
    /// A number for each axis, on both sides.
    pub padding: Vec<usize>,
    /// A number for each axis.
    pub dilation: Vec<usize>,
    /// Number of groups.
    pub groups: usize,
    /// Of transposed ones, a number for each axis.
    #[serde(default)]
    pub output_padding: Vec<usize>,
    /// `[out][in / groups][kernel ..]`; of transposed ones `[in][out / groups][kernel ..]`.
    pub weight: Nested,
    /// `[out]`.
    pub bias_values: Option<Nested>,
}

/// Nested lists of numbers, all of one length at each depth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Nested {
    /// The lengths, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, row-major.
    pub values: Vec<f64>,
}

impl TryFrom<Value> for Nested {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let mut nested = Self {
            shape: shape_of(&value),
            values: Vec::new(),
        };
        nested.collect(&value, 0)?;
        Ok(nested)
    }
}

fn shape_of(value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut inner = Some(value);
    while let Some(Value::Array(list)) = inner {
        shape.push(list.len());
        inner = list.first();
    }
    shape
}

impl Nested {
    fn collect(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        match (value, self.shape.get(depth)) {
            (Value::Array(list), Some(&length)) if list.len() == length => list
                .iter()
                .try_for_each(|item| self.collect(item, depth + 1)),
            (Value::Number(number), None) => {
                let number = number.as_f64().ok_or("a number that is not real")?;
                self.values.push(number);
                Ok(())
            }
            _ => Err(format!(
                "expected nested lists of numbers of shape {:?}, found another form at depth {depth}",
                self.shape
            )),
        }
    }
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// Where the file cannot be read or is not of the format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    /// The case of a file's content.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let case: Self = serde_json::from_slice(text).context("not a layer case")?;
        if case.schema != 1 || case.kind != "layer-case" {
            bail!(
                "expected schema 1 of kind layer-case, found schema {} of kind {}",
                case.schema,
                case.kind
            );
        }
        Ok(case)
    }
}
