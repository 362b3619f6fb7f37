//! What is wrong with a configuration, and why an optimizer could not be made.

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// A setting is outside its range.
    #[error("{setting} is {value}, expected {expected}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// The search for γ needs fresh inverses.
    #[error(
        "gamma_period is {gamma_period}, expected a multiple of inverse_period {inverse_period}"
    )]
    GammaPeriod {
        /// `T₂`.
        gamma_period: u64,
        /// `T₃`.
        inverse_period: u64,
    },
    /// A longer period of the inverse is no multiple of that of the statistics.
    #[error(
        "inverse_period is {inverse_period}, expected a multiple of statistics_period \
         {statistics_period}"
    )]
    InversePeriod {
        /// Calls between refreshes of the inverse.
        inverse_period: u64,
        /// Calls between updates of the statistics.
        statistics_period: u64,
    },
    /// The bounds of λ exclude each other.
    #[error("lambda_min is {min}, expected at most lambda_max {max}")]
    LambdaBounds {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
    },
    /// The bounds of γ exclude each other.
    #[error("gamma_min is {min}, expected at most gamma_max {max}")]
    GammaBounds {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
    },
    /// Exact damping is not a Kronecker product, so its factors have no inverse of their own.
    #[error("inverse_method is cholesky, expected eigen or automatic with exact Tikhonov damping")]
    CholeskyOfExactDamping,
    /// Exact damping is not a Kronecker product, so the layers of a chain have no regression in it.
    #[error("structure is block_tridiagonal, expected block_diagonal with exact Tikhonov damping")]
    TridiagonalOfExactDamping,
    /// Corrected eigenvalues are no product, so there are no factors to be damped.
    #[error("eigenvalues are corrected, expected exact Tikhonov damping and an eigen inverse")]
    CorrectionOfFactoredDamping,
    /// Eigenvalues are corrected by the updates of the statistics that do not refresh the inverse.
    #[error(
        "eigenvalues are corrected between refreshes, expected inverse_period to be more than statistics_period"
    )]
    CorrectionWithEachRefresh,
    /// The square of a batch's mean gradient is a second moment only where gradients have mean zero.
    #[error("eigenvalues are batch_mean, expected fisher to be monte_carlo")]
    BatchMeanOfUnsampledTargets,
}

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
    /// Something is said about layers that the model does not have.
    #[error("the settings name {}, but no layer on the tape has that path", .paths.join(", "))]
    UnknownLayers {
        /// The paths.
        paths: Vec<String>,
    },
    /// The curvature would take more memory than it may.
    #[error(
        "the curvature takes {needed} bytes, the most for {}, but memory_limit is {limit}: freeze the widest layers, \
         give them a smaller block, for instance `blocks::Diagonal` by `Extensions::with_structure`, or raise \
         the limit", .largest.join(", ")
    )]
    Memory {
        /// Bytes of blocks, inverses, the work on these, and a pass over one case.
        needed: u64,
        /// The limit.
        limit: u64,
        /// The largest blocks: layers and forms.
        largest: Vec<String>,
    },
    /// Several parameters of the model are one: an optimizer could only move one of them.
    #[error(
        "{} are one parameter, as clones of a layer are: call one layer several times to share its \
         weights, or give each layer its own by initialising it", .parameters.join(", ")
    )]
    SharedParameter {
        /// The paths of the parameter.
        parameters: Vec<String>,
    },
    /// A layer was called with a weight that is made of the model's parameter, for instance its transpose.
    #[error(
        "layer `{layer}` was called with a weight that is not the model's own, but made of it: its gradient \
         has another form than the parameter. Give each use a parameter of its own, or take the layer off \
         the tape with `CoveragePolicy::Report`"
    )]
    DerivedWeight {
        /// Path of the layer.
        layer: String,
    },
    /// A layer of your own was called with a shape that its parameters do not have.
    #[error(
        "parameter `{parameter}` has the shape {found:?}, but its layer is said to have {} inputs and {} \
         outputs: correct `LayerParameters::shape`, whose order is that whatever the layout",
        .layer[0], .layer[1]
    )]
    LayerShape {
        /// Path of the parameter.
        parameter: String,
        /// Its shape.
        found: Vec<usize>,
        /// Inputs and outputs of the layer.
        layer: [usize; 2],
    },
    /// The weight of a layer is frozen and its bias is not.
    #[error(
        "{} trained, but the weight of the same layer is frozen: freeze both, or neither, or leave the bias \
         untrained with `CoveragePolicy::Report`", are(.parameters)
    )]
    FrozenWeight {
        /// Paths of the biases.
        parameters: Vec<String>,
    },
    /// A batch normalisation that is trained was called off the tape, so that passes over the same cases would be of
    /// different functions.
    #[error(
        "batch normalisation `{path}` was not called through the tape, and would normalise each pass by the \
         cases in it: call `tape.batch_norm(&layer, x)`, or freeze it"
    )]
    NormalisationOffTape {
        /// Path of the layer.
        path: String,
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

fn are(parameters: &[String]) -> String {
    let verb = if parameters.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", parameters.join(", "))
}

fn list(faults: &[ConfigFault]) -> String {
    faults.iter().fold(String::new(), |text, fault| {
        text + "\n  - " + &fault.to_string()
    })
}
