//! Rules of the user's own: how γ damps the blocks, and how λ goes on.

use std::sync::Arc;

use burn::tensor::Tensor;
use kfac::{
    Batch, ConfigFault, Extensions, Gaussian, InitError, InverseStructure, Kfac, KfacConfig,
    LambdaAction, PiNorm, RefreshTiming, StepReport,
    damping::{
        DampingRule, Evidence, ExactTikhonov, FactorNorms, FactoredTikhonov, FixedLambda,
        LambdaRule, LambdaState, LambdaUpdate, ProductDamping, ScheduledLambda,
    },
};

use crate::support::{TwoLayers, bits, normal, sampled_config, trained, without_times};

/// The paper's damping, written anew.
#[derive(Debug)]
struct OwnTikhonov;

impl DampingRule for OwnTikhonov {
    fn balance(&self, activation: &dyn FactorNorms, gradient: &dyn FactorNorms) -> f64 {
        let [a, g] =
            [activation, gradient].map(|factor| factor.trace() / factor.dimension() as f64);
        let pi = (a / g).sqrt();
        if pi.is_finite() && pi > 0.0 { pi } else { 1.0 }
    }

    fn product(&self, gamma: f64, pi: f64) -> ProductDamping {
        ProductDamping::Factored {
            activation: pi * gamma,
            gradient: gamma / pi,
        }
    }

    fn block(&self, gamma: f64) -> f64 {
        gamma * gamma
    }
}

/// The paper's rule for λ, written anew.
#[derive(Debug)]
struct OwnLambda {
    initial: f64,
    omega: f64,
    period: u64,
}

impl LambdaRule for OwnLambda {
    fn start(&self) -> LambdaState {
        LambdaState {
            lambda: self.initial,
            starting: false,
        }
    }

    fn wants_evidence(&self, _state: LambdaState, iteration: u64) -> bool {
        iteration.is_multiple_of(self.period)
    }

    fn update(
        &self,
        state: LambdaState,
        _iteration: u64,
        evidence: Option<Evidence>,
    ) -> LambdaUpdate {
        let Some(evidence) = evidence else {
            return LambdaUpdate {
                state,
                action: None,
            };
        };
        let ratio = (evidence.after - evidence.before) / evidence.model_change;
        let (factor, action) = if ratio > 0.75 {
            (self.omega, LambdaAction::Decrease)
        } else if ratio >= 0.25 {
            (1.0, LambdaAction::Keep)
        } else {
            (1.0 / self.omega, LambdaAction::Increase)
        };
        let lambda = if factor > 1.0 {
            state.lambda / self.omega
        } else {
            state.lambda * factor
        };
        LambdaUpdate {
            state: LambdaState { lambda, ..state },
            action: Some(action),
        }
    }

    fn taken_back(&self, state: LambdaState) -> LambdaState {
        let lambda = state.lambda / self.omega;
        LambdaState { lambda, ..state }
    }
}

fn batch() -> Batch<Tensor<2>> {
    Batch::new(normal([15, 3], 1), normal([15, 2], 2))
}

/// A search for γ and three updates of λ are within 24 steps.
const STEPS: usize = 24;

fn run(optimizer: impl FnOnce(&TwoLayers) -> Kfac<Gaussian>) -> (Vec<u64>, Vec<StepReport>) {
    let model = TwoLayers::new([3, 4, 2], 3);
    let (_, model, reports) = trained(optimizer(&model), model, &batch(), STEPS);
    (bits(&model), without_times(&reports))
}

fn with_damping(
    config: &KfacConfig,
    rule: Arc<dyn DampingRule>,
    model: &TwoLayers,
) -> Kfac<Gaussian> {
    let extensions = Extensions::new().with_damping(rule);
    let optimizer = config.init_with(extensions, model, Gaussian, &batch().inputs);
    optimizer.unwrap()
}

#[test]
fn a_damping_rule_of_the_users_own_has_the_bits_of_its_built_in_twin() {
    let config = sampled_config();
    let built_in = run(|model| config.init(model, Gaussian, &batch().inputs).unwrap());
    let own = run(|model| with_damping(&config, Arc::new(OwnTikhonov), model));
    assert_eq!(own, built_in);
    let given = FactoredTikhonov { pi: PiNorm::Trace };
    assert_eq!(
        run(|model| with_damping(&config, Arc::new(given), model)),
        built_in
    );
    let other = FactoredTikhonov { pi: PiNorm::One };
    assert_ne!(
        run(|model| with_damping(&config, Arc::new(other), model)),
        built_in
    );
}

#[test]
fn a_damping_rule_of_the_users_own_is_checked_with_the_settings() {
    let config = sampled_config()
        .map_curvature(|curvature| curvature.with_structure(InverseStructure::BlockTridiagonal));
    assert!(config.validate().is_empty());
    let extensions = Extensions::new().with_damping(Arc::new(ExactTikhonov));
    let model = TwoLayers::new([3, 4, 2], 3);
    let refused = config.init_with(extensions, &model, Gaussian, &batch().inputs);
    let faults = vec![ConfigFault::TridiagonalOfExactDamping];
    assert_eq!(refused.unwrap_err(), InitError::Configuration(faults));
}

#[test]
fn a_lambda_rule_of_the_users_own_has_the_bits_of_its_built_in_twin() {
    let config = sampled_config();
    let own = OwnLambda {
        initial: config.initial_lambda,
        omega: config.lambda_decay.powf(config.lambda_period as f64),
        period: config.lambda_period,
    };
    let init = |model: &TwoLayers| config.init(model, Gaussian, &batch().inputs).unwrap();
    let built_in = run(init);
    let judged = built_in
        .1
        .iter()
        .filter(|report| report.lambda.action.is_some());
    assert_eq!(judged.count(), STEPS / 5);
    assert_eq!(
        run(|model| init(model).with_lambda_rule(Arc::new(own))),
        built_in
    );
}

#[test]
fn a_fixed_lambda_stays_and_asks_for_no_evidence() {
    let init = |model: &TwoLayers| {
        let optimizer = sampled_config()
            .init(model, Gaussian, &batch().inputs)
            .unwrap();
        optimizer.with_lambda_rule(Arc::new(FixedLambda(0.7)))
    };
    for report in run(init).1 {
        let lambda = report.lambda;
        assert_eq!(lambda.used.to_bits(), 0.7f64.to_bits());
        assert_eq!(lambda.after.to_bits(), 0.7f64.to_bits());
        assert_eq!((lambda.trial_objective, lambda.action), (None, None));
    }
}

#[test]
fn a_scheduled_lambda_follows_its_function_and_gamma_starts_with_it() {
    let schedule = |iteration: u64| 2.0 / (1.0 + iteration as f64);
    let config = sampled_config();
    let init = |model: &TwoLayers| {
        let optimizer = config.init(model, Gaussian, &batch().inputs).unwrap();
        optimizer.with_lambda_rule(Arc::new(ScheduledLambda(schedule)))
    };
    let (_, reports) = run(init);
    let start = (schedule(1) + config.l2).sqrt();
    assert_eq!(reports[0].gamma_before.to_bits(), start.to_bits());
    for report in reports {
        let lambda = report.lambda;
        assert_eq!(lambda.used.to_bits(), schedule(report.iteration).to_bits());
        assert_eq!(
            lambda.after.to_bits(),
            schedule(report.iteration + 1).to_bits()
        );
    }
}

#[test]
fn a_rule_given_in_mid_run_has_inverses_of_its_own_gammas() {
    const LAMBDA: f64 = 0.01;
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let config = sampled_config()
        .map_curvature(|curvature| curvature.with_refresh_timing(RefreshTiming::Ahead));
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    // The inverses of the 20th iteration are under way after the 18th.
    for _ in 0..18 {
        optimizer.step(&mut model, &batch()).unwrap();
    }
    let mut optimizer = optimizer.with_lambda_rule(Arc::new(FixedLambda(LAMBDA)));
    optimizer.step(&mut model, &batch()).unwrap();
    let report = optimizer.step(&mut model, &batch()).unwrap();
    let candidates = report.gamma_candidates.iter();
    let gammas: Vec<f64> = candidates.map(|candidate| candidate.gamma).collect();
    let gamma = (LAMBDA + config.l2).sqrt();
    assert_eq!(gammas.len(), 3);
    assert!(gammas.contains(&gamma), "{gammas:?} without {gamma}");
}
