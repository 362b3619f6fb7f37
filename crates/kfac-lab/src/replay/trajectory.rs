//! Running a case, and its rows.

use anyhow::{Context, Result};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use kfac::{Batch, LambdaAction, Network, StepReport, Tape};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    Trainee,
    case::Case,
    problem::{Batches, Matrix, Problem},
};
use crate::{loss::Loss, network::Mlp, precision::Precision};

/// One iteration, with the field names of the case format.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the case format")]
pub struct Row {
    pub k: u64,
    pub m: usize,
    pub h_before: f64,
    pub err_before: f64,
    pub h_after: f64,
    pub err_after: f64,
    pub h_batch_before: f64,
    pub lambda_used: f64,
    pub lambda_after: f64,
    pub gamma_before: f64,
    pub gamma_used: f64,
    pub gamma_choice: usize,
    pub refreshed: bool,
    pub pi: Option<Vec<f64>>,
    pub grad_norm: f64,
    pub raw_delta_norm: f64,
    pub prev_delta_norm: f64,
    pub delta_norm: f64,
    pub theta_norm_before: f64,
    pub theta_norm_after: f64,
    pub alpha: f64,
    pub mu: Option<f64>,
    pub model_change: f64,
    pub quad_11: f64,
    pub quad_12: Option<f64>,
    pub quad_22: Option<f64>,
    pub lin_1: f64,
    pub lin_2: Option<f64>,
    pub rho: Option<f64>,
    pub h_trial: Option<f64>,
    pub loss_increased: Option<bool>,
    pub lambda_action: Option<LambdaAction>,
}

/// Objective and error on all cases.
#[derive(Clone, Copy, Debug)]
struct State {
    objective: f64,
    error: f64,
}

/// Runs all iterations of a case.
///
/// # Errors
/// Where the settings are not supported or a step is refused.
pub(super) fn replay(case: &Case, problem: &Problem, seed: u64) -> Result<Vec<Row>> {
    let device = Device::flex().autodiff();
    let plain = device.clone().inner();
    let precision = Precision::F64;
    let model = Mlp::new(
        &problem.weights,
        problem.hidden.clone(),
        (&device, precision),
    );
    let all = Batch::new(
        whole(&problem.inputs, &plain),
        whole(&problem.targets, &plain),
    );
    let config = case.optimizer()?;
    let config = config.map_curvature(|curvature| curvature.with_seed(seed));
    let optimizer = config.init(&model, problem.loss.distribution(), &all.inputs)?;
    let mut trainee = Trainee { model, optimizer };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut before = state(&trainee, problem.loss, &all)?;
    let mut rows = Vec::new();
    for k in 1..=case.iterations() {
        let batch = match problem.batches {
            Batches::Full => all.clone(),
            Batches::Random(schedule) => {
                let total = problem.inputs.len();
                let size = schedule.batch_size(k, total).unwrap_or(total);
                let picked = index::sample(&mut random, total, size).into_vec();
                let inputs = rows_of(&problem.inputs, &picked, &plain);
                Batch::new(inputs, rows_of(&problem.targets, &picked, &plain))
            }
        };
        let report = trainee
            .optimizer
            .step(&mut trainee.model, &batch)
            .with_context(|| format!("iteration {k}"))?;
        let after = state(&trainee, problem.loss, &all)?;
        rows.push(Row::new(report, before, after));
        before = after;
    }
    Ok(rows)
}

fn whole(matrix: &Matrix, device: &Device) -> Tensor<2> {
    let shape = [matrix.len(), matrix.features];
    Precision::F64.matrix(matrix.values.clone(), shape, device)
}

fn rows_of(matrix: &Matrix, rows: &[usize], device: &Device) -> Tensor<2> {
    let features = matrix.features;
    let values = rows
        .iter()
        .flat_map(|row| &matrix.values[row * features..(row + 1) * features]);
    Precision::F64.matrix(values.copied().collect(), [rows.len(), features], device)
}

fn state(trainee: &Trainee, loss: Loss, all: &Batch<Tensor<2>>) -> Result<State> {
    let outputs = trainee
        .model
        .valid()
        .forward(all.inputs.clone(), &mut Tape::off());
    let error = loss.error(outputs, all.targets.clone()) / all.len() as f64;
    Ok(State {
        objective: trainee.optimizer.objective(&trainee.model, all)?,
        error,
    })
}

impl Row {
    fn new(report: StepReport, before: State, after: State) -> Self {
        let quadratic = report.quadratic;
        let lambda = report.lambda;
        Self {
            k: report.iteration,
            m: report.batch_size,
            h_before: before.objective,
            err_before: before.error,
            h_after: after.objective,
            err_after: after.error,
            h_batch_before: report.objective,
            lambda_used: lambda.used,
            lambda_after: lambda.after,
            gamma_before: report.gamma_before,
            gamma_used: report.gamma,
            gamma_choice: 1 + first_lowest(&report),
            refreshed: report.refreshed,
            pi: report.pi,
            grad_norm: report.gradient_norm,
            raw_delta_norm: report.proposal_norm,
            prev_delta_norm: report.previous_step_norm,
            delta_norm: report.step_norm,
            theta_norm_before: report.parameter_norm_before,
            theta_norm_after: report.parameter_norm,
            alpha: report.alpha,
            mu: report.mu,
            model_change: quadratic.model_change,
            quad_11: quadratic.proposal_proposal,
            quad_12: quadratic.proposal_previous,
            quad_22: quadratic.previous_previous,
            lin_1: quadratic.slope_proposal,
            lin_2: quadratic.slope_previous,
            rho: lambda.reduction_ratio,
            h_trial: lambda.trial_objective,
            loss_increased: lambda.trial_objective.map(|trial| trial > report.objective),
            lambda_action: lambda.action,
        }
    }
}

/// Index of the candidate that the search for γ chose.
fn first_lowest(report: &StepReport) -> usize {
    let chosen = Some(report.quadratic.model_change);
    report
        .gamma_candidates
        .iter()
        .position(|c| c.model_change == chosen)
        .unwrap_or(0)
}
