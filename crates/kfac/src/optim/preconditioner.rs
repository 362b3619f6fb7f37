//! K-FAC in front of another optimizer: gradients in, preconditioned gradients out.

use burn::{module::Module, optim::GradientsParams};

use super::{
    preconditioner_config::PreconditionerConfig, preconditioner_state::PreconditionerState,
};
use crate::{
    blocks::{FactorRepair, FactorSet},
    capture::Network,
    engine::{Engine, Observation, Reach, Refresh, RefreshPoint, Sample},
    error::{Quantity, StepError},
    inverse::FisherInverse,
    linalg::host,
    loss::Loss,
    network::{Batch, Cases, Layers, ParameterTable, ParameterVector, check_batch},
};

/// K-FAC as a preconditioner in front of any of Burn's optimizers; made by
/// [`PreconditionerConfig::init`].
///
/// For what [`Kfac`](super::Kfac) does not fit: small and noisy mini-batches, schedules, penalties and
/// momentum of another optimizer. Learning rate and damping are the user's to choose here.
///
/// # Definition
///
/// ```text
/// D = ν F̃⁻¹ g      ν = min(1, √(κ / gᵀ F̃⁻¹ g))
/// ```
///
/// with g the gradient of the layers' parameters, F̃ their approximate Fisher, damped by λ, and κ the
/// norm constraint; ν is one without it. The gradient of a parameter that no block covers stays as it
/// is: the parameter table says which these are.
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
/// use kfac::{Batch, Categorical, Network, PreconditionerConfig, Tape};
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
/// let batch = Batch::new(inputs.clone(), classes.clone());
///
/// let loss = CrossEntropyLossConfig::new().init(&device);
/// let mut sgd = SgdConfig::new().init();
/// let mut kfac = PreconditionerConfig::new().init(&model, Categorical, &inputs)?;
/// for _ in 0..3 {
///     let outputs = model.forward(inputs.clone(), &mut Tape::off());
///     let gradients = loss.forward(outputs, classes.clone()).backward();
///     let gradients = GradientsParams::from_grads(gradients, &model);
///     kfac.observe(&model, &batch)?;
///     let gradients = kfac.precondition(&model, gradients)?;
///     model = sgd.step(0.1, model, gradients);
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
    pub(super) state: PreconditionerState,
}

impl<L> Preconditioner<L> {
    /// Takes a batch into the statistics, and refreshes the inverse, where these are due.
    ///
    /// Call it once an iteration, with the training batch or a part of it ([`Batch::slice`]). The
    /// targets give the weights of the cases; beyond that only the empirical Fisher reads them. The model
    /// stays as it is: batch normalisations are used with their running statistics, which a training
    /// forward pass with [`Tape::off`](crate::Tape::off) moves.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the batch is malformed, a factor is not finite, or the first batch does not reach
    /// a layer; later ones may leave layers out ([`unreached`](Self::unreached)). The preconditioner is then
    /// exactly as before, and the call does not count for the schedule.
    ///
    /// # Cost
    ///
    /// Where statistics are due, a forward and backward pass over the batch and the second moments of
    /// each layer's inputs and output gradients. A refresh adds the factorisations on the host, about
    /// `d³` for a factor of dimension `d`. Nothing in other calls.
    pub fn observe<M: Network, T: Cases>(
        &mut self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(), StepError>
    where
        L: Loss<M::Output, T>,
    {
        check_batch(batch)?;
        self.engine.check_model(model)?;
        let call = self.state.observations + 1;
        let refreshes = self.engine.refreshes(call);
        let gamma = self.config.gamma();
        let sample = Sample {
            model,
            batch,
            given: Some(&self.engine.loss),
        };
        let observation = Observation {
            number: call,
            refreshes,
            gamma,
            reach: Reach::Some,
        };
        let (mut engine, observed) =
            self.engine
                .observe(&self.state.engine, sample, observation)?;
        let point = RefreshPoint {
            iteration: call,
            refreshes,
            candidates: &|_| vec![gamma],
        };
        match self.engine.refresh(&engine, &point)? {
            Refresh::Later(ahead) => engine.ahead = ahead,
            Refresh::Now(inverses) => {
                engine.ahead = None;
                for refreshed in inverses {
                    engine.inverse = Some(refreshed.inverse);
                    self.state.repairs = refreshed.repairs;
                }
            }
        }
        self.state.engine = engine;
        self.state.observations = call;
        self.state.unreached = observed.unreached;
        Ok(())
    }

    /// The gradients with those of the layers' parameters preconditioned, all others unchanged.
    ///
    /// A missing gradient counts as zero, and stays missing.
    ///
    /// # Errors
    ///
    /// [`StepError`] before the first [`observe`](Self::observe), where the model is another one, no layer has a
    /// gradient, one is of another shape or not finite, or blocks of your own turn it around. The gradients of
    /// parameters without a block are not looked at.
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
        &self,
        model: &M,
        mut gradients: GradientsParams,
    ) -> Result<GradientsParams, StepError> {
        let inverse = self.inverse().ok_or(StepError::NotObserved)?;
        self.engine.check_model(model)?;
        let layers = self.layers();
        let gradient = layers.vector_of(model, &gradients, self.parameter_table())?;
        layers.check_finite(&gradient, Quantity::Gradient)?;
        let preconditioned = inverse.multiply_layers(layers, &gradient)?;
        layers.check_finite(&preconditioned, Quantity::PreconditionedGradient)?;
        let preconditioned = self.constrained(preconditioned, &gradient)?;
        layers.replace_gradients(model, &mut gradients, &preconditioned);
        Ok(gradients)
    }

    /// `ν D` with `ν = min(1, √(κ / Dᵀ g))`.
    fn constrained(
        &self,
        preconditioned: ParameterVector,
        gradient: &ParameterVector,
    ) -> Result<ParameterVector, StepError> {
        let squared_norm = preconditioned.dot(gradient);
        if !squared_norm.is_finite() {
            return Err(StepError::NonFinite {
                quantity: Quantity::PreconditionedGradient,
                layer: None,
            });
        }
        // Rounding may leave a little less than zero of products that cancel.
        let rounding = host::machine_epsilon(gradient.dtype()).sqrt();
        let beyond = || -squared_norm > rounding * preconditioned.norm() * gradient.norm();
        if squared_norm < 0.0 && beyond() {
            return Err(StepError::Indefinite {
                value: squared_norm,
            });
        }
        Ok(match self.config.norm_constraint {
            Some(kappa) if squared_norm > kappa => {
                preconditioned.scaled((kappa / squared_norm).sqrt())
            }
            _ => preconditioned,
        })
    }

    /// The settings.
    pub fn config(&self) -> &PreconditionerConfig {
        &self.config
    }

    /// The number of calls of [`observe`](Self::observe) so far, those that failed not counted.
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
