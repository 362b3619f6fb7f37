//! K-FAC in front of another optimizer: gradients in, preconditioned gradients out.

mod adapt;
mod config;
mod observe;
mod recorded;
mod report;
mod restore;
mod state;

use std::sync::Arc;

use burn::{module::Module, optim::GradientsParams};

use crate::{
    blocks::{FactorRepair, FactorSet},
    clock::Stopwatch,
    damping::LambdaRule,
    engine::{ConfigFault, Engine},
    error::{Quantity, StepError},
    inverse::FisherInverse,
    linalg::host,
    network::{Layers, ParameterTable, ParameterVector},
};
pub use config::PreconditionerConfig;
pub use recorded::Reduction;
pub use report::{ObserveReport, PreconditionReport, Preconditioned};
pub(in crate::optim) use state::PreconditionerState;

/// K-FAC as a preconditioner in front of any of Burn's optimizers; made by
/// [`PreconditionerConfig::init`].
///
/// For what [`Kfac`](super::Kfac) does not fit: small and noisy mini-batches, schedules, penalties and
/// momentum of another optimizer. The learning rate is the user's to choose here; it is told to
/// [`precondition`](Self::precondition), which bounds the step that it makes.
///
/// # Definition
///
/// ```text
/// D = ν F̃⁻¹ g      ν = min(1, √(κ / (α̂² gᵀ F̃⁻¹ g)))
/// ```
///
/// with g the gradient of the layers' parameters, F̃ their approximate Fisher, damped by λ, α̂ the largest learning
/// rate so far and κ the KL clip; ν is one without it. So a plain step of the rate α has a squared Fisher norm of at
/// most `κ (α / α̂)²`: a schedule that lowers the rate shortens the steps also where they are clipped. The gradient of a parameter that no block covers stays as it
/// is: such parameters are allowed by [`CoveragePolicy::Report`](crate::CoveragePolicy::Report), and the
/// parameter table says which these are.
///
/// For `D` to be the natural gradient, g has to be that of the mean over cases of the loss given to
/// [`init`](PreconditionerConfig::init), for instance Burn's cross entropy with
/// [`Categorical`](crate::Categorical).
///
/// # Example
///
/// ```
/// use burn::{
///     module::Module,
///     nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig},
///     optim::{GradientsParams, SgdConfig},
///     tensor::{Device, Distribution, Int, Tensor},
/// };
/// use kfac::{Categorical, Network, PreconditionerConfig, Tape};
///
/// #[derive(Module, Debug)]
/// struct Classifier {
///     hidden: Linear,
///     last: Linear,
/// }
///
/// impl Network for Classifier {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///
///     fn forward(&self, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
///         let hidden = tape.linear(&self.hidden, inputs).tanh();
///         tape.linear(&self.last, hidden)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::default().autodiff();
/// let mut model = Classifier {
///     hidden: LinearConfig::new(8, 6).init(&device),
///     last: LinearConfig::new(6, 3).init(&device),
/// };
/// let inputs = Tensor::<2>::random([32, 8], Distribution::Default, &device);
/// let classes = Tensor::<1, Int>::arange(0..32, &device) % 3;
///
/// let loss = CrossEntropyLossConfig::new().init(&device);
/// let mut sgd = SgdConfig::new().init();
/// let mut kfac = PreconditionerConfig::new().init(&model, Categorical, &inputs)?;
/// for _ in 0..3 {
///     let outputs = model.forward(inputs.clone(), &mut Tape::off());
///     let gradients = loss.forward(outputs, classes.clone()).backward();
///     let gradients = GradientsParams::from_grads(gradients, &model);
///     kfac.observe_inputs(&model, &inputs)?;
///     let step = kfac.precondition(&model, gradients, 0.1)?;
///     model = sgd.step(0.1, model, step.gradients);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # References
///
/// Martens and Grosse (2015), sections 4 to 6.3, arXiv 1503.05671; the norm constraint is that of Ba,
/// Grosse and Martens (2017), *Distributed Second-Order Optimization using Kronecker-Factored
/// Approximations*.
#[derive(Clone, Debug)]
pub struct Preconditioner<L> {
    pub(super) config: PreconditionerConfig,
    pub(super) engine: Engine<L>,
    pub(super) rule: Arc<dyn LambdaRule>,
    pub(super) state: PreconditionerState,
}

impl<L> Preconditioner<L> {
    /// The gradients with those of the layers' parameters preconditioned, all others unchanged, for a step of
    /// a learning rate.
    ///
    /// `rate` is the one that the optimizer behind is given, and only the KL clip reads it: it bounds the step of the
    /// largest rate so far ([`set_kl_clip`](Self::set_kl_clip) forgets that). Let a warm-up rise step by step: behind
    /// rates near zero a momentum gathers directions that no clip has shortened, which a jump of the rate lets loose.
    ///
    /// A gradient of another scale, as of the sum over cases, has its rate divided by that scale, as for the optimizer.
    /// A missing gradient counts as zero, and stays missing.
    ///
    /// # Errors
    ///
    /// [`StepError`] before the first observation, where the model is another one, the rate is negative or not
    /// finite, no layer has a gradient, one is of another shape or not finite, or blocks of your own turn it
    /// around. The gradients of parameters without a block are not looked at.
    ///
    /// # Panics
    ///
    /// Where a gradient has another number of axes than its parameter, in Burn.
    ///
    /// # Cost
    ///
    /// `d_in d_out (d_in + d_out)` multiply-adds a layer, see
    /// [`FisherInverse::multiply`].
    pub fn precondition<M: Module>(
        &mut self,
        model: &M,
        mut gradients: GradientsParams,
        rate: f64,
    ) -> Result<Preconditioned, StepError> {
        let mut watch = Stopwatch::start();
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(StepError::Rate { rate });
        }
        let inverse = self.inverse().ok_or(StepError::NotObserved)?;
        self.engine.check_model(model)?;
        let layers = self.layers();
        let gradient = layers.vector_of(model, &gradients, self.parameter_table())?;
        layers.check_finite(&gradient, Quantity::Gradient)?;
        let natural = inverse.multiply_layers(layers, &gradient)?;
        layers.check_finite(&natural, Quantity::PreconditionedGradient)?;
        let squared_fisher_norm = squared_fisher_norm(&natural, &gradient)?;
        let largest = self.state.largest_rate.max(rate);
        let nu = self.nu(largest, squared_fisher_norm);
        let preconditioned = if nu < 1.0 {
            natural.scaled(nu)
        } else {
            natural
        };
        layers.replace_gradients(model, &mut gradients, &preconditioned);
        self.state.largest_rate = largest;
        Ok(Preconditioned {
            gradients,
            report: PreconditionReport {
                rate,
                nu,
                squared_fisher_norm,
                gradient_norm: gradient.norm(),
                preconditioned_norm: preconditioned.norm(),
                seconds: watch.lap(),
            },
        })
    }

    /// `ν = min(1, √(κ / (α̂² gᵀ F̃⁻¹ g)))`.
    fn nu(&self, rate: f64, squared_fisher_norm: f64) -> f64 {
        match self.kappa() {
            Some(kappa) if rate * rate * squared_fisher_norm > kappa => {
                kappa.sqrt() / (rate * squared_fisher_norm.sqrt())
            }
            _ => 1.0,
        }
    }

    /// κ for the last batch.
    fn kappa(&self) -> Option<f64> {
        let kappa = self.config.kl_clip?;
        let of = self.config.kl_clip_cases;
        Some(of.map_or(kappa, |cases| {
            kappa * self.state.cases as f64 / cases as f64
        }))
    }

    /// λ from the next refresh of the inverse on, whatever the rule made of it before; for schedules that are not
    /// functions of the observation alone.
    ///
    /// # Errors
    ///
    /// [`ConfigFault`] where it is not above zero; λ is then as before.
    pub fn set_lambda(&mut self, lambda: f64) -> Result<(), ConfigFault> {
        let config = self.config.clone().with_lambda(lambda);
        self.reconfigure(config)?;
        self.state.lambda.lambda = lambda;
        Ok(())
    }

    /// κ of the KL clip from the next gradients on; the largest rate counts anew from there, as after a rate that was
    /// too large, or at a restart of the schedule.
    ///
    /// # Errors
    ///
    /// [`ConfigFault`] where it is not above zero; κ is then as before.
    pub fn set_kl_clip(&mut self, kl_clip: Option<f64>) -> Result<(), ConfigFault> {
        let config = self.config.clone().with_kl_clip(kl_clip);
        self.reconfigure(config)?;
        self.state.largest_rate = 0.0;
        Ok(())
    }

    /// Observations between updates of the statistics, and between refreshes of the inverse, from the next one on.
    ///
    /// # Errors
    ///
    /// [`ConfigFault`] where one is zero, or the second no multiple of the first; both are then as before.
    pub fn set_periods(&mut self, statistics: u64, inverse: u64) -> Result<(), ConfigFault> {
        let config = self.config.clone().map_curvature(|curvature| {
            let curvature = curvature.with_statistics_period(statistics);
            curvature.with_inverse_period(inverse)
        });
        self.reconfigure(config)
    }

    fn reconfigure(&mut self, config: PreconditionerConfig) -> Result<(), ConfigFault> {
        let mut faults = config.own_faults();
        config.curvature.check(&*self.engine.rule, &mut faults);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        self.engine.config = config.curvature.clone();
        self.config = config;
        Ok(())
    }

    /// The same preconditioner with another rule for λ, which starts anew: for a λ that is a function of the
    /// observation, [`ScheduledLambda`](crate::damping::ScheduledLambda), and for one that follows what the steps
    /// do, [`LevenbergMarquardt`](crate::damping::LevenbergMarquardt) with [`adapt`](Self::adapt).
    #[must_use]
    pub fn with_lambda_rule(mut self, rule: Arc<dyn LambdaRule>) -> Self {
        self.state.lambda = rule.start();
        self.rule = rule;
        self
    }

    /// The settings in force.
    pub fn config(&self) -> &PreconditionerConfig {
        &self.config
    }

    /// λ for the next observation.
    pub fn lambda(&self) -> f64 {
        self.state.lambda.lambda
    }

    /// The number of observations so far, those that failed not counted.
    pub fn observations(&self) -> u64 {
        self.state.observations
    }

    /// Which block covers each parameter of the model.
    pub fn parameter_table(&self) -> &ParameterTable {
        &self.engine.table
    }

    /// The layers with a curvature block, in the order of the forward pass.
    pub fn layers(&self) -> &Layers {
        self.engine.layers()
    }

    /// The running estimates of the layers' factors; empty before the first batch.
    pub fn factors(&self) -> &FactorSet {
        self.state.engine.factors()
    }

    /// The damped inverse in use; `None` before the first batch.
    pub fn inverse(&self) -> Option<&FisherInverse> {
        self.state.engine.inverse.as_ref()
    }

    /// The paths of the layers that the last observed batch did not reach: their factors stayed as they were.
    pub fn unreached(&self) -> &[String] {
        &self.state.unreached
    }

    /// The factors that could not be factorised as asked in the last refresh, and what was done.
    pub fn repairs(&self) -> &[FactorRepair] {
        &self.state.repairs
    }
}

/// `Dᵀ g`, at least zero.
fn squared_fisher_norm(
    natural: &ParameterVector,
    gradient: &ParameterVector,
) -> Result<f64, StepError> {
    let squared_norm = natural.dot(gradient);
    if !squared_norm.is_finite() {
        return Err(StepError::NonFinite {
            quantity: Quantity::PreconditionedGradient,
            layer: None,
        });
    }
    // Rounding may leave a little less than zero of products that cancel.
    let rounding = host::machine_epsilon(gradient.dtype()).sqrt();
    if squared_norm < -rounding * natural.norm() * gradient.norm() {
        return Err(StepError::Indefinite {
            value: squared_norm,
        });
    }
    Ok(squared_norm.max(0.0))
}
