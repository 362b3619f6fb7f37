//! Why a step is refused, and where.

use serde::{Deserialize, Serialize};

/// Why a step was refused, or what leads to one; model and optimizer are exactly as before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The batch has no cases.
    #[error("the batch has no cases")]
    EmptyBatch,
    /// Inputs and targets do not count the same cases.
    #[error("the batch has {inputs} input cases but {targets} cases of targets")]
    CaseCount {
        /// Number of input cases.
        inputs: usize,
        /// Number of cases of the targets.
        targets: usize,
    },
    /// The network's outputs do not have the shape that the targets ask for.
    #[error("the network's outputs are {outputs:?}, the targets {targets:?}")]
    OutputShape {
        /// Shape of the outputs.
        outputs: Vec<usize>,
        /// Shape of the targets.
        targets: Vec<usize>,
    },
    /// A class index is none of the classes that the outputs count.
    #[error("a target is class {class}, but the outputs have classes 0 to {}", classes - 1)]
    ClassOutOfRange {
        /// The index.
        class: i64,
        /// The number of classes.
        classes: usize,
    },
    /// One of several heads is at fault.
    #[error("head `{head}`: {source}")]
    Head {
        /// The name of the head.
        head: String,
        /// What is wrong with it.
        source: Box<StepError>,
    },
    /// The objective of the user's own failed.
    #[error("the objective failed: {message}")]
    Objective {
        /// What it said.
        message: String,
    },
    /// The empirical Fisher of an objective of the user's own.
    #[error(
        "the empirical Fisher needs targets of the declared distribution, which a step with an \
         objective of your own does not have: choose a Monte Carlo or exact estimate"
    )]
    EmpiricalOfOwnObjective,
    /// Something is infinite or not a number.
    #[error("step refused: {quantity} {} not finite", place(.layer.as_deref()))]
    NonFinite {
        /// What is not finite.
        quantity: Quantity,
        /// In which layer, where it belongs to one.
        layer: Option<String>,
    },
    /// A layer that the tape saw when the optimizer was made did not appear in the forward pass.
    #[error("layer `{layer}` was not called in the forward pass, as it was at initialisation")]
    LayerNotReached {
        /// Path of the layer.
        layer: String,
    },
    /// A block structure made no block of a batch.
    #[error(
        "the block structure of layer `{layer}` cannot make a block of the factors that it summed"
    )]
    NoBlock {
        /// Path of the layer.
        layer: String,
    },
    /// The model is not the one that the preconditioner was made for.
    #[error(
        "the model has no parameters of layer `{layer}`: initialise for this model, and again after \
         loading a record"
    )]
    ParametersNotFound {
        /// Path of the layer.
        layer: String,
    },
    /// Gradients were to be preconditioned before any curvature was known.
    #[error("no batch has been observed yet: call `observe` before `precondition`")]
    NotObserved,
}

fn place(layer: Option<&str>) -> String {
    layer.map_or_else(|| "is".to_owned(), |layer| format!("of layer `{layer}` is"))
}

/// A quantity of the step that must be finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantity {
    /// The objective on the batch.
    Objective,
    /// The gradient of the objective.
    Gradient,
    /// A Kronecker factor of the batch.
    Factor(FactorKind),
    /// The proposal, or the quadratic model along it.
    Proposal,
    /// The gradient times the approximate inverse.
    PreconditionedGradient,
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Objective => "the objective",
            Self::Gradient => "the gradient",
            Self::Factor(FactorKind::Activation) => "the activation factor",
            Self::Factor(FactorKind::Gradient) => "the gradient factor",
            Self::Factor(FactorKind::Block) => "the curvature block",
            Self::Proposal => "the quadratic model of the proposal",
            Self::PreconditionedGradient => "the preconditioned gradient",
        })
    }
}

/// Which of the two factors of a Kronecker product, or the block itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorKind {
    /// `Ā`.
    Activation,
    /// `G`.
    Gradient,
    /// A block that is not a product.
    Block,
}
