//! Random networks, data and damping for property tests.

use kfac::{Gaussian, Kfac, KfacConfig, ParameterVector, StepReport};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::{Activation, Spec, exact_config, run};

/// Few cases, always the same ones.
pub(crate) fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    }
}

/// A network, its data and the damping.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) widths: Vec<usize>,
    pub(crate) activation: Activation,
    pub(crate) bias: bool,
    pub(crate) batch: usize,
    pub(crate) lambda: f64,
    pub(crate) seed: u64,
}

pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let widths = prop::collection::vec(1usize..6, 2..5);
    let activations = [Activation::Tanh, Activation::Logistic, Activation::Linear];
    let activation = prop::sample::select(activations.to_vec());
    let lambda = (-3.0..2.0f64).prop_map(|exponent| 10.0f64.powf(exponent));
    (
        widths,
        activation,
        any::<bool>(),
        1usize..12,
        lambda,
        0u64..1000,
    )
        .prop_map(|(widths, activation, bias, batch, lambda, seed)| Setting {
            widths,
            activation,
            bias,
            batch,
            lambda,
            seed,
        })
}

impl Setting {
    pub(crate) fn config(&self) -> KfacConfig {
        exact_config().with_initial_lambda(self.lambda)
    }

    /// The first step, and the parameters after it.
    pub(crate) fn step(
        &self,
        config: &KfacConfig,
    ) -> (Kfac<Gaussian>, StepReport, ParameterVector) {
        let spec = Spec::new(&self.widths, self.activation).with_bias(self.bias);
        let mut model = spec.model(self.seed);
        let batch = spec.batch(&Gaussian, self.batch, self.seed);
        let (optimizer, mut reports) = run(config, Gaussian, &mut model, &batch, 1);
        let parameters = optimizer.layers().parameters(&model);
        (optimizer, reports.remove(0), parameters)
    }
}
