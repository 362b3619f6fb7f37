//! Several heads: a distribution and a weight for each part of the outputs.

use std::cmp::Ordering;

use burn::tensor::Tensor;

use super::likelihood::{Likelihood, Loss};
use crate::{
    error::StepError,
    network::{Outputs, map_rows},
    random::RandomStream,
};

/// One head of a network whose outputs are a tuple: its name, its distribution and its weight.
///
/// A tuple of heads is the loss of such a network, and a tuple of targets goes with it.
///
/// # Definition
///
/// ```text
/// L = Σ_h w_h L_h,   F_R = diag(w_1 F_1, w_2 F_2, …)
/// ```
///
/// with the loss and the output Fisher matrix of each head.
///
/// # Example
///
/// ```
/// use kfac::{Categorical, Gaussian, Head};
///
/// let loss = (
///     Head::new("policy", Categorical),
///     Head::new("value", Gaussian).with_weight(0.5),
/// );
/// # let _ = loss;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Head<L> {
    name: String,
    distribution: L,
    weight: f64,
}

impl<L> Head<L> {
    /// A head of weight one.
    pub fn new(name: impl Into<String>, distribution: L) -> Self {
        Self {
            name: name.into(),
            distribution,
            weight: 1.0,
        }
    }

    /// The head with another weight; steps are refused where it is not a finite number of at least zero.
    #[must_use]
    pub fn with_weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// Whether the head's targets weigh the cases.
    fn weighs_cases<O: Outputs>(&self) -> bool
    where
        L: Likelihood<O>,
    {
        self.distribution.weighs_cases()
    }

    /// Refuses outputs that the head's distribution cannot have, and a weight that is none.
    fn check_outputs<O: Outputs>(&self, outputs: &O) -> Result<(), StepError>
    where
        L: Likelihood<O>,
    {
        let weight = self.weight;
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(self.fault(StepError::HeadWeight { weight }));
        }
        let checked = self.distribution.check_outputs(outputs);
        checked.map_err(|source| self.fault(source))
    }

    fn fault(&self, source: StepError) -> StepError {
        StepError::Head {
            head: self.name.clone(),
            source: Box::new(source),
        }
    }

    /// `√w`, the weight in the factor `B` of the output Fisher matrix.
    fn root(&self) -> f64 {
        self.weight.sqrt()
    }
}

/// `scale · outputs`, as they are where it is one.
fn scaled<O: Outputs>(scale: f64, outputs: O) -> O {
    if (scale - 1.0).abs() < f64::EPSILON {
        return outputs;
    }
    map_rows(outputs, |rows| rows * scale)
}

macro_rules! heads {
    ($($output:ident $target:ident $head:ident $at:tt),+) => {
        impl<$($output: Outputs, $head: Likelihood<$output>),+> Likelihood<($($output,)+)>
            for ($(Head<$head>,)+)
        {
            fn weighs_cases(&self) -> bool {
                [$(self.$at.weighs_cases::<$output>()),+].contains(&true)
            }

            fn check_outputs(&self, outputs: &($($output,)+)) -> Result<(), StepError> {
                $(self.$at.check_outputs(&outputs.$at)?;)+
                Ok(())
            }

            fn sampled_gradient(
                &self,
                outputs: ($($output,)+),
                random: &mut RandomStream,
            ) -> ($($output,)+) {
                ($({
                    let head = &self.$at;
                    let own = random.of_head($at);
                    let gradient = head.distribution.sampled_gradient(outputs.$at, own);
                    scaled(head.root(), gradient)
                },)+)
            }

            fn factor_product(
                &self,
                outputs: ($($output,)+),
                vectors: ($($output,)+),
            ) -> ($($output,)+) {
                ($({
                    let (head, v) = (&self.$at, vectors.$at);
                    let product = head.distribution.factor_product(outputs.$at, v);
                    scaled(head.root(), product)
                },)+)
            }

            fn factor_transpose_product(
                &self,
                outputs: ($($output,)+),
                vectors: ($($output,)+),
            ) -> ($($output,)+) {
                ($({
                    let (head, v) = (&self.$at, vectors.$at);
                    let product = head.distribution.factor_transpose_product(outputs.$at, v);
                    scaled(head.root(), product)
                },)+)
            }
        }

        impl<$($output: Outputs, $target, $head: Loss<$output, $target>),+>
            Loss<($($output,)+), ($($target,)+)> for ($(Head<$head>,)+)
        {
            fn check(
                &self,
                outputs: &($($output,)+),
                targets: &($($target,)+),
            ) -> Result<(), StepError> {
                $({
                    let head = &self.$at;
                    let checked = head.distribution.check(&outputs.$at, &targets.$at);
                    checked.map_err(|source| head.fault(source))?;
                })+
                Ok(())
            }

            fn empirical_gradient(
                &self,
                outputs: ($($output,)+),
                targets: ($($target,)+),
            ) -> ($($output,)+) {
                ($({
                    let head = &self.$at;
                    let gradient = head.distribution.empirical_gradient(outputs.$at, targets.$at);
                    scaled(head.root(), gradient)
                },)+)
            }

            fn root_weighted(
                &self,
                vectors: ($($output,)+),
                targets: &($($target,)+),
            ) -> ($($output,)+) {
                ($(self.$at.distribution.root_weighted(vectors.$at, &targets.$at),)+)
            }

            fn value(
                &self,
                outputs: ($($output,)+),
                targets: ($($target,)+),
            ) -> Tensor<1> {
                let losses = [$({
                    let head = &self.$at;
                    let loss = head
                        .distribution
                        .value(outputs.$at, targets.$at);
                    loss * head.weight
                }),+];
                let [first, others @ ..] = losses;
                others.into_iter().fold(first, |sum, loss| {
                    // Fewer than the other head's are refused: they are not one of each case.
                    match sum.dims()[0].cmp(&loss.dims()[0]) {
                        Ordering::Equal => sum + loss,
                        Ordering::Less => sum,
                        Ordering::Greater => loss,
                    }
                })
            }

            fn gradient(
                &self,
                outputs: ($($output,)+),
                targets: ($($target,)+),
            ) -> ($($output,)+) {
                ($({
                    let head = &self.$at;
                    let gradient = head.distribution.gradient(outputs.$at, targets.$at);
                    scaled(head.weight, gradient)
                },)+)
            }
        }
    };
}

heads!(O1 T1 A 0, O2 T2 B 1);
heads!(O1 T1 A 0, O2 T2 B 1, O3 T3 C 2);
heads!(O1 T1 A 0, O2 T2 B 1, O3 T3 C 2, O4 T4 D 3);
