//! What can go wrong, and where.

use crate::{optim::ConfigFault, statistics::FactorKind};

/// Why an optimizer could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The configuration has faults; all of them are listed.
    #[error("the configuration has {} fault(s):{}", .0.len(), list(.0))]
    Configuration(Vec<ConfigFault>),
    /// The model is not on an autodiff device.
    #[error("the model is not on an autodiff device: create it on `device.autodiff()`")]
    NoAutodiff,
    /// The example has no cases.
    #[error("the example input has no cases: one is needed to see the layers")]
    EmptyExample,
    /// No trainable layer was called through the tape.
    #[error(
        "no trainable layer went through the tape: call the layers as `tape.linear(&layer, x)`"
    )]
    NoLayers,
    /// The configuration says something about layers that the model does not have.
    #[error("weight_sharing_of names {}, but no layer on the tape has that path", .paths.join(", "))]
    UnknownLayers {
        /// The paths.
        paths: Vec<String>,
    },
    /// Strict coverage, and some trainable parameters have no block.
    #[error(
        "no curvature block covers {}: pass their layers through the tape, freeze them, or allow \
         untrained parameters with `CoveragePolicy::Report`", .parameters.join(", ")
    )]
    Uncovered {
        /// Paths of the parameters.
        parameters: Vec<String>,
    },
}

fn list(faults: &[ConfigFault]) -> String {
    faults.iter().fold(String::new(), |text, fault| {
        text + "\n  - " + &fault.to_string()
    })
}

/// Why a step was refused, or what leads to one; model and optimizer are exactly as before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The batch has no cases.
    #[error("the batch has no cases")]
    EmptyBatch,
    /// Inputs and targets do not count the same cases.
    #[error("the batch has {inputs} input cases but {targets} rows of targets")]
    CaseCount {
        /// Number of input cases.
        inputs: usize,
        /// Number of rows of the targets.
        targets: usize,
    },
    /// The network's outputs do not have the shape of the targets.
    #[error("the network's outputs are {outputs:?}, the targets {targets:?}")]
    OutputShape {
        /// Shape of the outputs.
        outputs: [usize; 2],
        /// Shape of the targets.
        targets: [usize; 2],
    },
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
