//! Blocks of which all elements are kept.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    block::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, FactorForm, InverseMethod, Inversion,
        PreparedBlock, replaced,
    },
    host::{FactorInverse, plus_identity},
    identity::IdentityInverse,
    magnitudes::Magnitudes,
    moments::{Divisor, Finish, GradientKind, Moments, Pass, gradients_of_cases},
};
use crate::{
    capture::LayerUses,
    damping::DampingRule,
    error::FactorKind,
    linalg::second_moment,
    network::{BlockDescription, Layer, ParameterAction},
    record::{Record, RecordError},
};

/// `E[d dᵀ]` with the gradient `d` of each case: exact, of the size of the parameters squared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A block as a dense matrix; the layer's matrix is read row by row.
#[derive(Clone, Debug)]
pub struct FullFactors(pub Tensor<2>);

/// The inverse of a dense damped block.
#[derive(Clone, Debug)]
pub struct FullInverse(FactorInverse);

impl BlockStructure for Full {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        BlockDescription {
            structure: "full".to_owned(),
            form: format!("full, of {}", layer.dimension()),
            elements: layer.dimension().pow(2),
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        let d = gradients_of_cases(layer, uses);
        let (gradients, finish) = match (layer.action, pass.gradients) {
            // Its gradient is summed over cases: see `SummedDiagonal`.
            (ParameterAction::Alone, GradientKind::Sampled { sample }) => {
                (d.sum_dim(0), Finish::SecondMoment { sample })
            }
            _ => (second_moment(d), Finish::Mean),
        };
        Moments {
            inputs: Vec::new(),
            gradients: vec![gradients],
            divisor: Divisor::Cases,
            finish,
        }
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let [block] = factors.try_into().ok()?;
        let fits = block.dims() == [layer.dimension(); 2];
        fits.then(|| Arc::new(FullFactors(block)) as Arc<dyn BlockEstimate>)
    }

    fn restore(
        &self,
        _layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        match record.form.as_str() {
            FullInverse::FORM => {
                let inverse = FactorInverse::restore(record.part(0)?)?;
                Ok(Arc::new(FullInverse(inverse)))
            }
            IdentityInverse::FORM => Ok(Arc::new(IdentityInverse::restore(record)?)),
            _ => Err(record.of_other_form("`full` or `identity`")),
        }
    }
}

impl BlockEstimate for FullFactors {
    fn factors(&self) -> Vec<Factor<'_>> {
        vec![Factor {
            kind: FactorKind::Block,
            form: FactorForm::SecondMoment,
            tensor: &self.0,
        }]
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        let [block] = replaced([&self.0], factors);
        Arc::new(Self(block))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        times(&self.0, v)
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let damped = plus_identity(&self.0, rule.block(gamma));
        Some(Arc::new(Self(damped)))
    }

    fn prepare(&self, _rule: &dyn DampingRule, _method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(self.clone())
    }
}

impl PreparedBlock for FullFactors {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let inverse = FactorInverse::of(&self.0, FactorKind::Block, rule.block(gamma));
        inverse.map(|inverse| Arc::new(FullInverse(inverse)) as Arc<dyn BlockInverse>)
    }
}

impl FullInverse {
    const FORM: &str = "full";
}

impl BlockInverse for FullInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        times(&self.0.inverse, v)
    }

    fn magnitudes(&self) -> Magnitudes {
        self.0.magnitudes
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM).with_parts(vec![self.0.record()])
    }
}

/// A dense matrix times a layer's matrix, read row by row.
fn times(matrix: &Tensor<2>, v: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = v.dims();
    let column = v.reshape([rows * columns, 1]);
    matrix.clone().matmul(column).reshape([rows, columns])
}
