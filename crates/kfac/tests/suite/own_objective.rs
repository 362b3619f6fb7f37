//! Objectives of the user's own.

use burn::{
    module::{Module, RunningState},
    nn::{BatchNorm, BatchNormConfig},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor, activation::sigmoid},
};
use kfac::{
    Batch, BatchSchedule, Bernoulli, FisherEstimate, Gaussian, Kfac, KfacConfig, Loss, Network,
    Objective, ObjectiveError, Quantity, StepError, StepOutcome, Tape,
};

use crate::support::{
    TwoLayers, bits, dense_layer, exact_config, host, normal, of_values, randomised,
    sampled_config, trained, without_times,
};

/// The mean of a built-in loss, with its gradient in the order in which the library works it out: the sum
/// over cases first, divided then. With eight cases the division is exact.
struct Mean<L>(L);

const CASES: usize = 8;

impl<M, L> Objective<M, Tensor<2>> for Mean<L>
where
    M: Network<Input = Tensor<2>, Output = Tensor<2>>,
    L: Loss<Tensor<2>, Tensor<2>>,
{
    fn value(&self, model: &M, batch: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        let outputs = model.forward(batch.inputs.clone(), &mut Tape::evaluating());
        let losses = self.0.value(outputs.inner(), batch.targets.clone());
        Ok(host::to_vec(&losses.sum_dim(0))[0] / CASES as f64)
    }

    fn value_and_gradients(
        &self,
        model: &M,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        let outputs = model.forward(batch.inputs.clone(), &mut Tape::evaluating());
        let seed = self
            .0
            .gradient(outputs.clone().inner(), batch.targets.clone());
        let seed = seed / CASES as f64;
        let gradients = (outputs * seed.autodiff()).sum().backward();
        let gradients = GradientsParams::from_grads(gradients, model);
        Ok((Objective::<M, _>::value(self, model, batch)?, gradients))
    }
}

fn batch() -> Batch<Tensor<2>> {
    // Probabilities, for both losses.
    Batch::new(normal([CASES, 3], 1), sigmoid(normal([CASES, 2], 2)))
}

/// Several updates of λ, and a search for γ.
const STEPS: usize = 22;

fn assert_same_steps<L>(config: &KfacConfig, loss: L)
where
    L: Loss<Tensor<2>, Tensor<2>> + Copy,
{
    let start = TwoLayers::new([3, 4, 2], 3);
    let optimizer = config.init(&start, loss, &batch().inputs).unwrap();
    let (_, expected, reports) = trained(optimizer.clone(), start.clone(), &batch(), STEPS);
    let (mut own, mut model) = (optimizer, start);
    let step = |_| own.step_with(&mut model, &batch(), &Mean(loss)).unwrap();
    let own: Vec<_> = (0..STEPS).map(step).collect();
    assert_eq!(without_times(&own), without_times(&reports), "{loss:?}");
    assert_eq!(bits(&model), bits(&expected), "{loss:?}");
}

#[test]
fn the_loss_as_an_objective_of_the_users_own_gives_the_same_bits() {
    assert_same_steps(&exact_config(), Gaussian);
    assert_same_steps(&exact_config(), Bernoulli);
    assert_same_steps(&sampled_config(), Bernoulli);
    // Where the noise is measured, the gradient is summed in another order.
    let config = KfacConfig::new().with_batches(BatchSchedule::PAPER);
    assert_same_steps(&config, Gaussian);
}

/// An objective that fails where it is asked to.
struct Failing {
    value: bool,
    gradients: bool,
}

impl<M> Objective<M, Tensor<2>> for Failing
where
    M: Network<Input = Tensor<2>, Output = Tensor<2>>,
{
    fn value(&self, model: &M, batch: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        if self.value {
            return Err("the simulator is gone".into());
        }
        Mean(Gaussian).value(model, batch)
    }

    fn value_and_gradients(
        &self,
        model: &M,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        if self.gradients {
            return Err("the simulator is gone".into());
        }
        Mean(Gaussian).value_and_gradients(model, batch)
    }
}

/// What tells one state of an optimizer from another.
fn state<L>(optimizer: &Kfac<L>) -> (u64, [u64; 2], Vec<u64>) {
    let factors = optimizer.factors().blocks.iter();
    let factors = factors.flat_map(|block| {
        let factors = block.factors().into_iter();
        factors
            .flat_map(|factor| host::to_vec(factor.tensor))
            .collect::<Vec<_>>()
    });
    let numbers = [optimizer.lambda(), optimizer.gamma()];
    (
        optimizer.iteration(),
        numbers.map(f64::to_bits),
        factors.map(f64::to_bits).collect(),
    )
}

/// A network whose batch normalisation moves its running statistics before each step.
#[derive(Module, Debug)]
struct Normalised {
    normalisation: BatchNorm,
    mlp: TwoLayers,
}

impl Network for Normalised {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let normalised = tape.batch_norm(&self.normalisation, inputs);
        self.mlp.forward(normalised, tape)
    }
}

/// The running statistics too, which are no parameters of the module's tree.
fn all_bits(model: &Normalised) -> Vec<u64> {
    let norm = &model.normalisation;
    let running = [&norm.running_mean, &norm.running_var].map(RunningState::value);
    let running = running.iter().flat_map(host::to_vec).map(f64::to_bits);
    bits(model).into_iter().chain(running).collect()
}

#[test]
fn an_objective_that_fails_leaves_no_trace() {
    let device = Device::default().autodiff();
    let mut model = Normalised {
        normalisation: randomised(BatchNormConfig::new(3).init(&device), DType::F64, 4),
        mlp: TwoLayers::new([3, 4, 2], 3),
    };
    // λ is updated in every iteration, so that the value after the step is asked for too.
    let config = exact_config().with_lambda_period(1);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    optimizer
        .step_with(&mut model, &batch(), &Mean(Gaussian))
        .unwrap();
    let (before, parameters) = (state(&optimizer), all_bits(&model));
    // Other cases, whose statistics differ from those of the step before.
    let other = Batch::new(normal([CASES, 3], 3) + 1.0, normal([CASES, 2], 4));
    for (value, gradients) in [(true, false), (false, true)] {
        let failing = Failing { value, gradients };
        let error = optimizer
            .step_with(&mut model, &other, &failing)
            .unwrap_err();
        let message = "the simulator is gone".to_owned();
        assert_eq!(error, StepError::Objective { message });
        assert_eq!(
            error.to_string(),
            "the objective failed: the simulator is gone"
        );
        assert_eq!(state(&optimizer), before);
        assert_eq!(all_bits(&model), parameters);
    }
}

#[test]
fn the_next_step_goes_on_as_if_one_that_failed_had_not_been() {
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let config = exact_config().with_lambda_period(1);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    let good = |optimizer: &mut Kfac<Gaussian>, model: &mut TwoLayers| {
        let report = optimizer.step_with(model, &batch(), &Mean(Gaussian));
        without_times(&[report.unwrap()])
    };
    good(&mut optimizer, &mut model);
    let (mut twin, mut twin_model) = (optimizer.clone(), model.clone());
    for (value, gradients) in [(true, false), (false, true)] {
        let failing = Failing { value, gradients };
        let refused = optimizer.step_with(&mut model, &batch(), &failing);
        assert!(refused.is_err());
    }
    let report = good(&mut optimizer, &mut model);
    assert_eq!(report, good(&mut twin, &mut twin_model));
    assert_eq!(bits(&model), bits(&twin_model));
    assert_eq!(state(&optimizer), state(&twin));
}

#[test]
fn the_empirical_fisher_of_an_objective_of_the_users_own_is_refused() {
    let config =
        exact_config().map_curvature(|curvature| curvature.with_fisher(FisherEstimate::Empirical));
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let start = bits(&model);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    let refused = optimizer.step_with(&mut model, &batch(), &Mean(Gaussian));
    assert_eq!(refused.unwrap_err(), StepError::EmpiricalOfOwnObjective);
    assert_eq!((bits(&model), optimizer.iteration()), (start, 0));
    // The loss's own targets are there in an ordinary step.
    optimizer.step(&mut model, &batch()).unwrap();
}

/// A value that is not finite.
struct Infinite;

impl<M> Objective<M, Tensor<2>> for Infinite
where
    M: Network<Input = Tensor<2>, Output = Tensor<2>>,
{
    fn value(&self, _: &M, _: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        Ok(f64::INFINITY)
    }

    fn value_and_gradients(
        &self,
        model: &M,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        let (_, gradients) = Mean(Gaussian).value_and_gradients(model, batch)?;
        Ok((f64::INFINITY, gradients))
    }
}

#[test]
fn an_objective_that_is_not_finite_is_refused() {
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let mut optimizer = exact_config()
        .init(&model, Gaussian, &batch().inputs)
        .unwrap();
    let refused = optimizer.step_with(&mut model, &batch(), &Infinite);
    let expected = StepError::NonFinite {
        quantity: Quantity::Objective,
        layer: None,
    };
    assert_eq!(refused.unwrap_err(), expected);
}

/// Parameters that a gradient is missing for do not move but by the penalty.
struct HiddenOnly;

impl Objective<TwoLayers, Tensor<2>> for HiddenOnly {
    fn value(&self, model: &TwoLayers, batch: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        Mean(Gaussian).value(model, batch)
    }

    fn value_and_gradients(
        &self,
        model: &TwoLayers,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        let (value, mut gradients) = Mean(Gaussian).value_and_gradients(model, batch)?;
        gradients.remove::<2>(model.last.weight.id);
        if let Some(bias) = &model.last.bias {
            gradients.remove::<1>(bias.id);
        }
        Ok((value, gradients))
    }
}

#[test]
fn a_gradient_that_is_not_given_is_zero() {
    let mut model = TwoLayers::new([3, 4, 2], 3);
    model.last = dense_layer([4, 2], 9);
    let start = model.clone();
    let config = exact_config().with_l2(0.0);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    optimizer
        .step_with(&mut model, &batch(), &HiddenOnly)
        .unwrap();
    assert_ne!(bits(&model.hidden), bits(&start.hidden));
    assert_eq!(bits(&model.last), bits(&start.last));
}

/// One at the first parameters, and a million anywhere else; a gradient that leads far.
struct Leaping(Vec<u64>);

impl Objective<TwoLayers, Tensor<2>> for Leaping {
    fn value(&self, model: &TwoLayers, _: &Batch<Tensor<2>>) -> Result<f64, ObjectiveError> {
        Ok(if bits(model) == self.0 { 1.0 } else { 1e6 })
    }

    fn value_and_gradients(
        &self,
        model: &TwoLayers,
        batch: &Batch<Tensor<2>>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        Ok((self.value(model, batch)?, of_values(model)))
    }
}

#[test]
fn a_long_step_out_of_all_proportion_is_not_taken_whatever_the_period() {
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let config = exact_config()
        .with_initial_lambda(1e-3)
        .with_lambda_period(1000);
    let mut optimizer = config.init(&model, Gaussian, &batch().inputs).unwrap();
    let (before, lambda) = (bits(&model), optimizer.lambda());
    let objective = Leaping(before.clone());
    let report = optimizer
        .step_with(&mut model, &batch(), &objective)
        .unwrap();
    assert!(report.step_norm > 0.1 * report.parameter_norm_before);
    assert_eq!(report.outcome, StepOutcome::Rejected);
    assert_eq!(bits(&model), before);
    assert!(optimizer.lambda() > lambda);
}
