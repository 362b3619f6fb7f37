//! The softmax cross-entropy with what practice adds to it: smoothed labels, weights of classes, ignored labels.

use burn::tensor::{Int, Tensor, TensorData};

use super::{
    categorical::Categorical,
    classes::{check_classes, one_hot},
    likelihood::{Likelihood, Loss},
};
use crate::{error::StepError, network::Outputs, random::RandomStream};

/// The loss of [`Categorical`] with smoothed labels, weights of classes, and a label that is ignored. Its curvature is
/// that of [`Categorical`], each case weighted by its class.
///
/// # Definition
///
/// ```text
/// L = −w_c Σ_j ((1 − ε) y_j + ε / K) log p_j,   F_R = w_c (diag(p) − p pᵀ)
/// ```
///
/// for a case of class c out of K, its label y, the smoothing ε and the weights w of the classes. Rows of
/// probabilities have the weight `Σ_j w_j y_j`; an ignored case has the weight zero. The objective is the mean over
/// all cases, the ignored ones too: Burn's `CrossEntropyLoss` divides by the sum of the weights instead.
///
/// # Shapes
///
/// Targets as those of [`Categorical`]: the class of each case and position, or rows of probabilities.
///
/// # Errors
///
/// A step refuses a smoothing outside `[0, 1)`, weights that are negative, not finite or not one for each class,
/// and classes that there are not.
///
/// # Example
///
/// ```
/// use kfac::CrossEntropy;
///
/// let loss = CrossEntropy::new()
///     .with_smoothing(0.1)
///     .with_class_weights(vec![1.0, 2.0, 0.5])
///     .with_ignored(-100);
/// # let _ = loss;
/// ```
///
/// # References
///
/// Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*, section 7, for the smoothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    smoothing: f64,
    class_weights: Vec<f64>,
    ignored: Option<i64>,
}

impl CrossEntropy {
    /// The loss of [`Categorical`].
    pub fn new() -> Self {
        Self::default()
    }

    /// ε, the part of each label that is spread over all classes. In `[0, 1)`, default 0.
    #[must_use]
    pub fn with_smoothing(self, smoothing: f64) -> Self {
        Self { smoothing, ..self }
    }

    /// A weight for each class. Default: all are one.
    #[must_use]
    pub fn with_class_weights(self, class_weights: Vec<f64>) -> Self {
        Self {
            class_weights,
            ..self
        }
    }

    /// The class index of cases that do not count, as of padded tokens. Default: none.
    #[must_use]
    pub fn with_ignored(self, label: i64) -> Self {
        Self {
            ignored: Some(label),
            ..self
        }
    }

    /// Refuses settings that do not go with so many classes.
    fn check_settings(&self, classes: usize) -> Result<(), StepError> {
        let fault = |setting, value, expected| StepError::LossSetting {
            setting,
            value,
            expected,
        };
        if !(0.0..1.0).contains(&self.smoothing) {
            let expected = "a number of at least 0, below 1";
            return Err(fault("the smoothing", self.smoothing, expected));
        }
        let good = |weight: &&f64| !(weight.is_finite() && **weight >= 0.0);
        if let Some(weight) = self.class_weights.iter().find(good) {
            let expected = "a finite number of at least 0";
            return Err(fault("the weight of a class", *weight, expected));
        }
        let weights = self.class_weights.len();
        if weights != 0 && weights != classes {
            let expected = "one for each output";
            return Err(fault(
                "the number of class weights",
                weights as f64,
                expected,
            ));
        }
        Ok(())
    }

    /// Smoothed and weighted rows of rows of probabilities.
    fn softened<const D: usize>(&self, rows: Tensor<D>) -> Tensor<D> {
        let classes = rows.dims()[D - 1];
        let weight = self.weight_of_rows(&rows);
        let rows = if self.smoothing > 0.0 {
            let spread = rows.clone().sum_dim(D - 1) * (self.smoothing / classes as f64);
            rows * (1.0 - self.smoothing) + spread
        } else {
            rows
        };
        match weight {
            Some(weight) => rows * weight,
            None => rows,
        }
    }

    /// The weight of each row's classes, relative to the row's sum.
    fn weight_of_rows<const D: usize>(&self, rows: &Tensor<D>) -> Option<Tensor<D>> {
        if self.class_weights.is_empty() {
            return None;
        }
        let classes = rows.dims()[D - 1];
        let mut shape = [1; D];
        shape[D - 1] = self.class_weights.len();
        let data = TensorData::new(self.class_weights.clone(), shape);
        let weights = Tensor::<D>::from_data(data, (&rows.device(), rows.dtype()));
        if self.class_weights.len() != classes {
            return None; // refused
        }
        let sum = rows.clone().sum_dim(D - 1);
        let ignored = sum.clone().equal_elem(0.0);
        Some((rows.clone() * weights).sum_dim(D - 1) / sum.mask_fill(ignored, 1.0))
    }
}

impl<O: Outputs> Likelihood<O> for CrossEntropy
where
    Categorical: Likelihood<O>,
{
    fn check_outputs(&self, outputs: &O) -> Result<(), StepError> {
        Categorical.check_outputs(outputs)
    }

    fn weighs_cases(&self) -> bool {
        !self.class_weights.is_empty() || self.ignored.is_some()
    }

    fn sampled_gradient(&self, outputs: O, random: &mut RandomStream) -> O {
        Categorical.sampled_gradient(outputs, random)
    }

    fn factor_product(&self, outputs: O, vectors: O) -> O {
        Categorical.factor_product(outputs, vectors)
    }

    fn factor_transpose_product(&self, outputs: O, vectors: O) -> O {
        Categorical.factor_transpose_product(outputs, vectors)
    }
}

macro_rules! through_rows {
    ($dimensions:literal, $targets:ty, $check:expr, $rows:ident) => {
        impl Loss<Tensor<$dimensions>, $targets> for CrossEntropy {
            fn check(
                &self,
                outputs: &Tensor<$dimensions>,
                targets: &$targets,
            ) -> Result<(), StepError> {
                self.check_settings(outputs.dims()[$dimensions - 1])?;
                let check: fn(&Self, &Tensor<$dimensions>, &$targets) -> Result<(), StepError> =
                    $check;
                check(self, outputs, targets)
            }

            fn value(&self, outputs: Tensor<$dimensions>, targets: $targets) -> Tensor<1> {
                let rows = self.$rows(targets, &outputs);
                Loss::value(&Categorical, outputs, rows)
            }

            fn gradient(
                &self,
                outputs: Tensor<$dimensions>,
                targets: $targets,
            ) -> Tensor<$dimensions> {
                let rows = self.$rows(targets, &outputs);
                Loss::gradient(&Categorical, outputs, rows)
            }

            fn empirical_gradient(
                &self,
                outputs: Tensor<$dimensions>,
                targets: $targets,
            ) -> Tensor<$dimensions> {
                let rows = self.$rows(targets, &outputs);
                Loss::empirical_gradient(&Categorical, outputs, rows)
            }

            fn root_weighted(
                &self,
                vectors: Tensor<$dimensions>,
                targets: &$targets,
            ) -> Tensor<$dimensions> {
                let rows = self.$rows(targets.clone(), &vectors);
                Loss::root_weighted(&Categorical, vectors, &rows)
            }
        }
    };
}

macro_rules! of_rows {
    ($dimensions:literal) => {
        through_rows!(
            $dimensions,
            Tensor<$dimensions>,
            |_, outputs, targets| Loss::check(&Categorical, outputs, targets),
            rows_of_rows
        );
    };
}

macro_rules! of_labels {
    ($dimensions:literal, $targets:literal) => {
        through_rows!(
            $dimensions,
            Tensor<$targets, Int>,
            |loss, outputs, labels| check_classes(outputs.dims(), labels, loss.ignored),
            rows_of_labels
        );
    };
}

of_rows!(2);
of_rows!(3);
of_rows!(4);
of_labels!(2, 1);
of_labels!(3, 2);
of_labels!(4, 3);

impl CrossEntropy {
    fn rows_of_rows<const D: usize>(&self, targets: Tensor<D>, outputs: &Tensor<D>) -> Tensor<D> {
        self.softened(targets.inner().cast(outputs.dtype()))
    }

    fn rows_of_labels<const D: usize, const T: usize>(
        &self,
        labels: Tensor<T, Int>,
        outputs: &Tensor<D>,
    ) -> Tensor<D> {
        let labels = labels.inner();
        let Some(ignored) = self.ignored else {
            return self.softened(one_hot(labels, outputs));
        };
        let ignored = labels.clone().equal_elem(ignored);
        let rows = one_hot(labels.mask_fill(ignored.clone(), 0), outputs);
        let rows = rows.mask_fill(ignored.unsqueeze_dim::<D>(T).expand(outputs.dims()), 0.0);
        self.softened(rows)
    }
}
