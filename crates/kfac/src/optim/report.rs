//! What a step reports.

use serde::{Deserialize, Serialize};

use crate::{blocks::FactorRepair, damping::LambdaAction};

/// Every quantity of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The iteration `k`, counted from one.
    pub iteration: u64,
    /// Whether the step was taken.
    pub outcome: StepOutcome,
    /// Whether the last step was taken back first: the batch is not finite after it, and is before
    /// it. λ grew, and this step has no momentum.
    pub took_back_last_step: bool,
    /// The number of cases of the batch.
    pub batch_size: usize,
    /// The cases that the factors were made from, `S₁`; none where they were not due.
    pub statistics_cases: usize,
    /// The cases of the quadratic model, `S₂`.
    pub model_cases: usize,
    /// The objective `h` on the batch before the step, the penalty included.
    pub objective: f64,
    /// `‖∇h‖`.
    pub gradient_norm: f64,
    /// `‖Δ‖`, the length of the proposal.
    pub proposal_norm: f64,
    /// `‖δ‖`, the length of the step.
    pub step_norm: f64,
    /// `‖δ₀‖`, the length of the last step; zero where there is none.
    pub previous_step_norm: f64,
    /// `‖θ‖` before the step.
    pub parameter_norm_before: f64,
    /// `‖θ‖` after the step.
    pub parameter_norm: f64,
    /// `α`, the coefficient of the proposal.
    pub alpha: f64,
    /// `μ`, the coefficient of the last step; `None` where there is none.
    pub mu: Option<f64>,
    /// The quadratic model.
    pub quadratic: QuadraticReport,
    /// λ in the quadratic model, and what became of it.
    pub lambda: LambdaReport,
    /// γ before this step.
    pub gamma_before: f64,
    /// γ in this step, kept afterwards.
    pub gamma: f64,
    /// The candidates of the search for γ: one where there was no search.
    pub gamma_candidates: Vec<GammaCandidate>,
    /// Whether the inverse was refreshed.
    pub refreshed: bool,
    /// `π` of each layer where the inverse was refreshed.
    pub pi: Option<Vec<f64>>,
    /// Factors that could not be factorised as asked.
    pub repairs: Vec<FactorRepair>,
    /// How noisy the gradient is, where that was measured.
    pub noise: Option<GradientNoise>,
    /// Seconds of each phase.
    pub times: PhaseTimes,
}

/// The noise of a batch's gradient, in the norm of the approximate inverse `F̌⁻¹`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GradientNoise {
    /// `tr(F̌⁻¹ Σ) / m`: of the mean over a batch of `m` cases, by the difference of its halves.
    pub variance: f64,
    /// `∇hᵀ F̌⁻¹ ∇h` on the batch, its noise included.
    pub square: f64,
}

/// Whether a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The parameters moved by the step.
    Taken,
    /// The objective after the step would not be finite, or would be out of all proportion: more than three times
    /// what it is, and more than a hundredth of the first one above it. The parameters stay, λ grew, and the
    /// next step starts without momentum. Noticed in the iterations that evaluate the objective after
    /// the step, every `lambda_period` and where the step is longer than a tenth of the parameters; in others the
    /// next step finds what is not finite, and takes this one back.
    Rejected,
}

/// The quadratic model along the chosen directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuadraticReport {
    /// `M(δ) − M(0)`, negative.
    pub model_change: f64,
    /// `Δᵀ (F + (λ + η) I) Δ`.
    pub proposal_proposal: f64,
    /// `Δᵀ (F + (λ + η) I) δ₀`.
    pub proposal_previous: Option<f64>,
    /// `δ₀ᵀ (F + (λ + η) I) δ₀`.
    pub previous_previous: Option<f64>,
    /// `∇hᵀ Δ`.
    pub slope_proposal: f64,
    /// `∇hᵀ δ₀`.
    pub slope_previous: Option<f64>,
}

/// λ, and its update where one was due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LambdaReport {
    /// λ in this step's quadratic model.
    pub used: f64,
    /// λ after this step.
    pub after: f64,
    /// The objective on the batch after the step, where it was evaluated.
    pub trial_objective: Option<f64>,
    /// The reduction ratio ρ, where it was evaluated.
    pub reduction_ratio: Option<f64>,
    /// What the Levenberg-Marquardt rule did, where an update was due.
    pub action: Option<LambdaAction>,
    /// Whether λ fell by the calibration at the start, and not by the rule.
    pub calibrated: bool,
}

/// A candidate of the search for γ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GammaCandidate {
    /// γ.
    pub gamma: f64,
    /// `M(δ) − M(0)` of its step; `None` where it is not finite.
    pub model_change: Option<f64>,
    /// `α` of its step.
    pub alpha: Option<f64>,
    /// `μ` of its step.
    pub mu: Option<f64>,
}

/// Seconds of each phase of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseTimes {
    /// Objective and gradient on the batch.
    pub gradient: f64,
    /// The passes over the network that the factors are made from.
    pub curvature_pass: f64,
    /// The factors of the batch, and the running averages.
    pub factor_update: f64,
    /// Refreshing the inverse.
    pub inverse: f64,
    /// Applying it to the gradient.
    pub proposal: f64,
    /// Directional derivatives and the quadratic model.
    pub quadratic_model: f64,
    /// The trial objective, for λ.
    pub lambda: f64,
    /// Writing the parameters, and averaging.
    pub update: f64,
}

/// A phase of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of PhaseTimes, which tells")]
pub enum Phase {
    Gradient,
    CurvaturePass,
    FactorUpdate,
    Inverse,
    Proposal,
    QuadraticModel,
    Lambda,
    Update,
}

impl Phase {
    /// All phases, in the order of a step.
    pub const ALL: [Self; 8] = [
        Self::Gradient,
        Self::CurvaturePass,
        Self::FactorUpdate,
        Self::Inverse,
        Self::Proposal,
        Self::QuadraticModel,
        Self::Lambda,
        Self::Update,
    ];
}

impl PhaseTimes {
    /// The seconds of a phase.
    pub fn of(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Gradient => self.gradient,
            Phase::CurvaturePass => self.curvature_pass,
            Phase::FactorUpdate => self.factor_update,
            Phase::Inverse => self.inverse,
            Phase::Proposal => self.proposal,
            Phase::QuadraticModel => self.quadratic_model,
            Phase::Lambda => self.lambda,
            Phase::Update => self.update,
        }
    }

    /// The seconds of the whole step.
    pub fn total(&self) -> f64 {
        Phase::ALL.iter().map(|&phase| self.of(phase)).sum()
    }
}
