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
                let (shape, of_targets) = (outputs.dims(), targets.dims());
                if shape[..$targets] != of_targets {
                    return Err(StepError::OutputShape {
                        outputs: shape.to_vec(),
                        targets: of_targets.to_vec(),
                    });
                }
                check_classes(targets.clone().flatten(0, $targets - 1), shape[$targets])
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
fn one_hot<const T: usize, const O: usize>(
    classes: Tensor<T, Int>,
    outputs: &Tensor<O>,
) -> Tensor<O> {
    let rows: Tensor<O, Int> = classes.inner().one_hot(outputs.dims()[O - 1]);
    rows.float().cast(outputs.dtype())
}

fn check_classes(targets: Tensor<1, Int>, classes: usize) -> Result<(), StepError> {
    let data = targets.to_data();
    let mut indices = data.iter::<i64>();
    let out_of_range = |class: &i64| usize::try_from(*class).map_or(true, |class| class >= classes);
    match indices.find(out_of_range) {
        Some(class) => Err(StepError::ClassOutOfRange { class, classes }),
        None => Ok(()),
    }
}
