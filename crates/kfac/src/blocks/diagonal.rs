//! Blocks of which only the diagonal is kept.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    block::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, FactorForm, InverseMethod, Inversion,
        PreparedBlock, replaced,
    },
    identity::IdentityInverse,
    magnitudes::Magnitudes,
    moments::{
        Divisor, Finish, GradientKind, Moments, Pass, gradients_of_cases, squared_gradients,
    },
};
use crate::{
    capture::LayerUses,
    damping::DampingRule,
    error::FactorKind,
    linalg::host,
    network::{BlockDescription, Layer, ParameterAction},
    record::{Record, RecordError},
};

/// `diag(E[d ⊙ d])` with the gradient `d` of each case: for layers that are too wide for any other block, as it
/// is no larger than the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagonal;

/// The same for parameters that only show the sum over cases of their gradient.
///
/// # Definition
///
/// `E[(Σ_n d_n)²] / N` over the `N` cases of a batch: with sampled targets the gradients of different
/// cases are independent with mean zero, so that the square of their sum is the sum of squares in the
/// mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummedDiagonal;

/// The diagonal of a block, in the shape of the layer's matrix.
#[derive(Clone, Debug)]
pub struct DiagonalFactors(pub Tensor<2>);

/// The inverse of a damped diagonal, in the shape of the layer's matrix.
#[derive(Clone, Debug)]
pub struct DiagonalInverse {
    reciprocals: Tensor<2>,
}

impl BlockStructure for Diagonal {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let elements = layer.dimension();
        BlockDescription {
            structure: "diagonal".to_owned(),
            form: format!("diagonal of {elements}"),
            elements,
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        match layer.action {
            ParameterAction::Alone => SummedDiagonal.moments(layer, uses, pass),
            _ => moments(squared_gradients(layer, uses), Finish::Mean),
        }
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let [diagonal] = factors.try_into().ok()?;
        let fits = diagonal.dims() == layer.matrix_shape();
        fits.then(|| Arc::new(DiagonalFactors(diagonal)) as Arc<dyn BlockEstimate>)
    }

    fn restore(
        &self,
        _layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        match record.form.as_str() {
            DiagonalInverse::FORM => Ok(Arc::new(DiagonalInverse {
                reciprocals: record.tensor("reciprocals")?,
            })),
            IdentityInverse::FORM => Ok(Arc::new(IdentityInverse::restore(record)?)),
            _ => Err(record.of_other_form("`diagonal` or `identity`")),
        }
    }
}

/// All but the moments is as in [`Diagonal`].
impl BlockStructure for SummedDiagonal {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        Diagonal.describe(layer)
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        match pass.gradients {
            GradientKind::Sampled { sample } => {
                let d = gradients_of_cases(layer, uses).sum_dim(0);
                moments(d.reshape(layer.matrix_shape()), Finish::Square { sample })
            }
            // A row is a case: a parameter that shows sums only has passes over single cases here.
            GradientKind::Given => moments(squared_gradients(layer, uses), Finish::Mean),
        }
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        Diagonal.estimate(layer, factors)
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        Diagonal.restore(layer, record)
    }
}

fn moments(sum: Tensor<2>, finish: Finish) -> Moments {
    Moments {
        inputs: Vec::new(),
        gradients: vec![sum],
        divisor: Divisor::Cases,
        finish,
    }
}

impl BlockEstimate for DiagonalFactors {
    fn factors(&self) -> Vec<Factor<'_>> {
        vec![Factor {
            kind: FactorKind::Block,
            form: FactorForm::Diagonal,
            tensor: &self.0,
        }]
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        let [diagonal] = replaced([&self.0], factors);
        Arc::new(Self(diagonal))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        v * self.0.clone()
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        Some(Arc::new(Self(self.0.clone() + rule.block(gamma))))
    }

    fn prepare(&self, _rule: &dyn DampingRule, _method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(self.clone())
    }
}

impl PreparedBlock for DiagonalFactors {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let reciprocals = (self.0.clone() + rule.block(gamma)).recip();
        Inversion::of(Arc::new(DiagonalInverse { reciprocals }))
    }
}

impl DiagonalInverse {
    const FORM: &str = "diagonal";
}

impl BlockInverse for DiagonalInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        v * self.reciprocals.clone()
    }

    fn magnitudes(&self) -> Magnitudes {
        let reciprocals: Vec<f64> = host::to_vec(&self.reciprocals);
        Magnitudes::of_eigenvalues(reciprocals.into_iter().map(f64::recip))
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM).with_tensor("reciprocals", &self.reciprocals)
    }
}
