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
    /// The network's outputs have no elements.
    #[error(
        "the network's outputs are {outputs:?}, which has no elements: a case needs a position and an output"
    )]
    NoOutputs {
        /// Shape of the outputs.
        outputs: Vec<usize>,
    },
    /// The outputs of a case depend on the other cases of the batch.
    #[error(
        "the outputs of a case depend on the other cases of the batch: work out what the network subtracts or \
         compares over the batch from one case, or before the optimizer sees it"
    )]
    MixedCases,
    /// A target is none that its distribution can have.
    #[error("a target is {value}, but those of {distribution} are {accepted}")]
    TargetOutOfRange {
        /// The target.
        value: f64,
        /// The distribution.
        distribution: &'static str,
        /// What it accepts.
        accepted: &'static str,
    },
    /// The weight of a case is negative or not finite.
    #[error("a case has the weight {value}, expected a finite number of at least 0")]
    CaseWeight {
        /// The weight.
        value: f64,
    },
    /// The parts of the inputs, or of the targets, do not count the same cases.
    #[error("the parts of the {what} have {lengths:?} cases, expected the same number of each")]
    PartCount {
        /// Inputs or targets.
        what: &'static str,
        /// The number of cases of each part.
        lengths: Vec<usize>,
    },
    /// A network's own `jvp` does not return one derivative a tangent, shaped like the outputs.
    #[error(
        "`jvp` returned derivatives of shapes {shapes:?} for {directions} tangents and outputs of shape \
         {outputs:?}: expected one for each tangent, shaped like the outputs"
    )]
    Derivatives {
        /// The number of tangents.
        directions: usize,
        /// The shape of the outputs, as rows.
        outputs: [usize; 2],
        /// The shapes of the derivatives.
        shapes: Vec<[usize; 2]>,
    },
    /// Two forward passes over the same input give different outputs.
    #[error(
        "two forward passes over the same input give different outputs, so no step can be judged by the \
         objective: call dropout through the tape, and give noise of your own to the network as an input, or \
         use a `Preconditioner`"
    )]
    NoiseInForwardPass,
    /// The rule for λ gave a λ that damps nothing.
    #[error("the rule for λ gave {lambda}, expected a finite number of at least 0")]
    Lambda {
        /// What it gave.
        lambda: f64,
    },
    /// The learning rate is negative or not finite.
    #[error("the learning rate is {rate}, expected a finite number of at least 0")]
    Rate {
        /// The rate.
        rate: f64,
    },
    /// The statistics need the targets of the cases.
    #[error(
        "the statistics need the targets: the empirical estimate is made of them, and weighted losses have their \
         weights there; call `observe` with the batch"
    )]
    TargetsNeeded,
    /// Statistics are due, and no part of a batch was accumulated for them.
    #[error(
        "statistics are due, and no part of a batch was accumulated for them: call `accumulate` for each part before \
         `observe_accumulated`"
    )]
    NothingAccumulated,
    /// The tape of a training pass has recorded nothing that the statistics can be taken from.
    #[error(
        "statistics are due, and the tape has recorded no layer for them: make it by `Preconditioner::tape` before \
         each forward pass, with `FisherEstimate::Empirical`; other estimates take `observe`"
    )]
    NotRecorded,
    /// A training loss is divided by what is no positive number.
    #[error(
        "a training loss is the sum over its cases divided by {divisor}, expected a finite number above 0"
    )]
    Reduction {
        /// The divisor.
        divisor: f64,
    },
    /// A setting of a loss is outside its range.
    #[error("{setting} of the loss is {value}, expected {expected}")]
    LossSetting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A rule for the damping of your own gave what damps nothing.
    #[error("the damping rule gave {value} as {quantity} of layer `{layer}`, expected {expected}")]
    Damping {
        /// Path of the layer.
        layer: String,
        /// What it gave: the balance, or a damping.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A block structure of your own made something of another shape than the layer's.
    #[error(
        "the block structure of layer `{layer}` gave a {quantity} of shape {found:?}, expected {expected:?}"
    )]
    BlockShape {
        /// Path of the layer.
        layer: String,
        /// A factor, or a product with the inverse.
        quantity: &'static str,
        /// The shape that it should have.
        expected: [usize; 2],
        /// Its shape.
        found: [usize; 2],
    },
    /// The approximate inverse turns the gradient around: blocks or a damping of your own are not positive.
    #[error(
        "the gradient times the approximate inverse times the gradient is {value}, expected at least 0: \
         the blocks and the damping of your own have to be positive definite"
    )]
    Indefinite {
        /// The product.
        value: f64,
    },
    /// The rows that a layer of your own says it saw do not go with its outputs.
    #[error(
        "layer `{layer}` has rows for {rows:?} cases and positions, but outputs for {outputs:?}: `rows` \
         of `Tape::layer` has to return a row for each case and position of the output"
    )]
    LayerRows {
        /// Path of the layer.
        layer: String,
        /// Cases and positions of its rows.
        rows: [usize; 2],
        /// Cases and positions of its outputs.
        outputs: [usize; 2],
    },
    /// A gradient does not have the shape of its parameter.
    #[error(
        "the gradient of parameter `{parameter}` has the shape {found:?}, but the parameter {expected:?}: make \
         gradients with `GradientsParams::from_grads` and this model"
    )]
    GradientShape {
        /// Path of the parameter.
        parameter: String,
        /// The shape of the parameter.
        expected: Vec<usize>,
        /// The shape of the gradient.
        found: Vec<usize>,
    },
    /// There is no gradient for any layer.
    #[error(
        "the gradients have none of the layers' parameters: make them with `GradientsParams::from_grads`, \
         and from the model that the objective was evaluated with"
    )]
    NoGradients,
    /// A layer does not see the cases of a batch one after another.
    #[error(
        "layer `{layer}` does not see the cases of the batch along the first axis of its input, each with all \
         its positions before the next case: bring that axis to the front, stack several views of a case as \
         positions, and repeat for each case what is the same for all"
    )]
    CaseAxis {
        /// Path of the layer.
        layer: String,
    },
    /// A layer of a chain is used at several positions.
    #[error(
        "layer `{layer}` is used at {positions} positions of a case, but at one when the optimizer was \
         made: give `init` an example that has several, or use `InverseStructure::BlockDiagonal`"
    )]
    ChainPositions {
        /// Path of the layer.
        layer: String,
        /// The positions.
        positions: usize,
    },
    /// The model does not have a parameter that the optimizer was made for.
    #[error(
        "parameter `{parameter}` is not the one that the optimizer was made for, but has another identity, as \
         after loading a record or initialising anew: initialise the optimizer for this model"
    )]
    OtherParameter {
        /// Path of the parameter.
        parameter: String,
    },
    /// A parameter has another shape than when the optimizer was made.
    #[error(
        "parameter `{parameter}` has the shape {found:?}, but {expected:?} when the optimizer was made: \
         initialise the optimizer for this model"
    )]
    ParameterShape {
        /// Path of the parameter.
        parameter: String,
        /// Its shape then.
        expected: Vec<usize>,
        /// Its shape now.
        found: Vec<usize>,
    },
    /// A parameter has another precision than when the optimizer was made.
    #[error(
        "parameter `{parameter}` is {found}, but was {expected} when the optimizer was made: initialise the \
         optimizer for this model, or cast the model back"
    )]
    ParameterPrecision {
        /// Path of the parameter.
        parameter: String,
        /// Its precision then.
        expected: String,
        /// Its precision now.
        found: String,
    },
    /// A parameter was frozen after the optimizer was made.
    #[error(
        "parameter `{parameter}` was frozen after the optimizer was made, which would move it still: initialise \
         the optimizer again"
    )]
    Frozen {
        /// Path of the parameter.
        parameter: String,
    },
    /// A parameter was unfrozen after the optimizer was made.
    #[error(
        "parameter `{parameter}` was frozen when the optimizer was made, which has no curvature for it: initialise \
         the optimizer again"
    )]
    Unfrozen {
        /// Path of the parameter.
        parameter: String,
    },
    /// The model has no autodiff.
    #[error("the model has no autodiff, as after `valid()`: step with the model that is trained")]
    NoAutodiff,
    /// The outputs of a sequence are not a whole number of positions.
    #[error(
        "the network has {outputs} outputs a case, which are no positions of {classes} classes each"
    )]
    ClassesPerPosition {
        /// The outputs of a case.
        outputs: usize,
        /// The classes of a position.
        classes: usize,
    },
    /// A class index is none of the classes that the outputs count.
    #[error(
        "a target is class {class}, but the outputs have classes 0 to {}: a case that is to be ignored \
         has any class and the weight 0 (`Weighted`), or a row of zeros", classes - 1
    )]
    ClassOutOfRange {
        /// The index.
        class: i64,
        /// The number of classes.
        classes: usize,
    },
    /// A loss of your own is not one number for each case.
    #[error(
        "the loss has {losses} numbers for {cases} cases: it has to return the loss of each case, and \
         neither their sum nor their mean"
    )]
    LossCount {
        /// The numbers of the loss.
        losses: usize,
        /// The cases.
        cases: usize,
    },
    /// One class, whose probability is always one.
    #[error(
        "the outputs have one class, which is always right: use `Bernoulli` for a single yes or no, or \
         give the network an output for each class"
    )]
    OneClass,
    /// The weight of a head is negative or not finite.
    #[error("its weight is {weight}, expected a finite number of at least 0")]
    HeadWeight {
        /// The weight.
        weight: f64,
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
    /// Mean or variance of a batch, of a batch normalisation.
    Normalisation,
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
            Self::Normalisation => "the batch's mean or variance in a batch normalisation",
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
