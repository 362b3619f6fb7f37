//! Class indices as targets.

use burn::tensor::{Int, Tensor};

use super::{categorical::Categorical, likelihood::Loss};
use crate::error::StepError;

macro_rules! classes_of {
    ($outputs:literal, $targets:literal) => {
        impl Loss<Tensor<$outputs>, Tensor<$targets, Int>> for Categorical {
            fn check(
                &self,
                outputs: &Tensor<$outputs>,
                targets: &Tensor<$targets, Int>,
            ) -> Result<(), StepError> {
                check_classes(outputs.dims(), targets, None)
            }

            fn value(
                &self,
                outputs: Tensor<$outputs>,
                targets: Tensor<$targets, Int>,
            ) -> Tensor<1> {
                let targets = one_hot(targets, &outputs);
                Loss::value(self, outputs, targets)
            }

            fn gradient(
                &self,
                outputs: Tensor<$outputs>,
                targets: Tensor<$targets, Int>,
            ) -> Tensor<$outputs> {
                let targets = one_hot(targets, &outputs);
                Loss::gradient(self, outputs, targets)
            }
        }
    };
}

classes_of!(2, 1);
classes_of!(3, 2);
classes_of!(4, 3);

/// One-hot rows for some outputs, in their precision.
pub(super) fn one_hot<const T: usize, const O: usize>(
    classes: Tensor<T, Int>,
    outputs: &Tensor<O>,
) -> Tensor<O> {
    let rows: Tensor<O, Int> = classes.inner().one_hot(outputs.dims()[O - 1]);
    rows.float().cast(outputs.dtype())
}

/// Refuses labels that are not one for each case and position of outputs, or of classes that there are not.
pub(super) fn check_classes<const T: usize, const O: usize>(
    outputs: [usize; O],
    labels: &Tensor<T, Int>,
    ignored: Option<i64>,
) -> Result<(), StepError> {
    if outputs[..T] != labels.dims() {
        return Err(StepError::OutputShape {
            outputs: outputs.to_vec(),
            targets: labels.dims().to_vec(),
        });
    }
    let classes = outputs[O - 1];
    let data = labels.to_data();
    let mut indices = data.iter::<i64>().filter(|class| Some(*class) != ignored);
    let out_of_range = |class: &i64| usize::try_from(*class).map_or(true, |class| class >= classes);
    match indices.find(out_of_range) {
        Some(class) => Err(StepError::ClassOutOfRange { class, classes }),
        None => Ok(()),
    }
}
