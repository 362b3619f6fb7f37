//! Proposals: one a candidate γ, and the choice among them (6.3, 6.6).

use super::{
    quadratic_model::{QuadraticModel, StepScale, Subspace},
    report::{GammaCandidate, QuadraticReport},
};
use crate::{inverse::DampedInverse, network::ParameterVector};

/// The proposal `Δ = −F̌⁻¹ ∇h` of one γ.
pub(super) struct Proposal {
    pub(super) gamma: f64,
    pub(super) direction: ParameterVector,
    /// The inverse that made it, where it was refreshed for this γ.
    pub(super) refreshed: Option<DampedInverse>,
}

/// The chosen proposal with its quadratic model and the coefficients of the step.
pub(super) struct Choice {
    pub(super) proposal: Proposal,
    pub(super) model: QuadraticModel,
    pub(super) scale: StepScale,
    pub(super) model_change: f64,
    pub(super) candidates: Vec<GammaCandidate>,
}

/// Chooses the proposal whose step has the lowest model value, the first of equals.
///
/// `subspace` holds the proposals' directions in order, then the last step if `momentum`. `None`
/// where no proposal has a finite model.
pub(super) fn choose(
    proposals: Vec<Proposal>,
    subspace: &Subspace,
    momentum: bool,
    damping: f64,
) -> Option<Choice> {
    let last_step = proposals.len();
    let mut candidates = Vec::with_capacity(proposals.len());
    let mut best: Option<(Proposal, QuadraticModel, StepScale, f64)> = None;
    for (index, proposal) in proposals.into_iter().enumerate() {
        let along: &[usize] = if momentum {
            &[index, last_step]
        } else {
            &[index]
        };
        let model = subspace.model(along, damping);
        let minimum = model.minimum();
        candidates.push(GammaCandidate {
            gamma: proposal.gamma,
            model_change: minimum.map(|(_, change)| change),
            alpha: minimum.map(|(scale, _)| scale.alpha),
            mu: minimum.and_then(|(scale, _)| scale.mu),
        });
        if let Some((scale, change)) = minimum
            && best.as_ref().is_none_or(|(.., lowest)| change < *lowest)
        {
            best = Some((proposal, model, scale, change));
        }
    }
    let (proposal, model, scale, model_change) = best?;
    Some(Choice {
        proposal,
        model,
        scale,
        model_change,
        candidates,
    })
}

impl Choice {
    pub(super) fn quadratic(&self) -> QuadraticReport {
        let model = &self.model;
        let momentum = model.slopes.len() > 1;
        let entry = |i: usize, j: usize| momentum.then(|| model.curvature[(i, j)]);
        QuadraticReport {
            model_change: self.model_change,
            proposal_proposal: model.curvature[(0, 0)],
            proposal_previous: entry(0, 1),
            previous_previous: entry(1, 1),
            slope_proposal: model.slopes[0],
            slope_previous: model.slopes.get(1).copied(),
        }
    }
}
