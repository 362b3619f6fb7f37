//! Block structures that break their promises.

use std::sync::Arc;

use burn::tensor::Tensor;
use kfac::{
    BlockDescription, InverseMethod, Layer, LayerUses,
    blocks::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, Inversion, Magnitudes, Moments, Pass,
        PreparedBlock, Record, RecordError,
    },
    damping::DampingRule,
};

/// What is wrong with a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Nothing,
    /// It makes no block of its sums.
    NoBlock,
    /// Its factor has other rows than that it was made of.
    OtherFactor,
    /// It has no inverse, and may not say so.
    NoInverse,
    /// Products with its inverse have another shape.
    Transposed,
    NotFinite,
    Negative,
}

/// A block of a structure, with a fault.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) of: Arc<dyn BlockStructure>,
    pub(crate) fault: Fault,
}

#[derive(Debug)]
struct FaultyEstimate(Fault, Arc<dyn BlockEstimate>, Tensor<2>);

#[derive(Debug)]
struct FaultyPrepared(Fault, Arc<dyn PreparedBlock>);

#[derive(Debug)]
struct FaultyInverse(Fault, Arc<dyn BlockInverse>);

impl BlockStructure for Faulty {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        self.of.describe(layer)
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        self.of.moments(layer, uses, pass)
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        if matches!(self.fault, Fault::NoBlock) {
            return None;
        }
        let shown = Tensor::cat(vec![factors[0].clone(); 2], 0);
        let block = self.of.estimate(layer, factors)?;
        Some(Arc::new(FaultyEstimate(self.fault, block, shown)))
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        self.of.restore(layer, record)
    }
}

impl BlockEstimate for FaultyEstimate {
    fn factors(&self) -> Vec<Factor<'_>> {
        let mut factors = self.1.factors();
        if matches!(self.0, Fault::OtherFactor) {
            factors[0].tensor = &self.2;
        }
        factors
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        let block = self.1.with_factors(factors);
        Arc::new(Self(self.0, block, self.2.clone()))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        self.1.multiply(v)
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        self.1.damped(rule, gamma)
    }

    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(FaultyPrepared(self.0, self.1.prepare(rule, method)))
    }
}

impl PreparedBlock for FaultyPrepared {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let fault = self.0;
        let inversion = self.1.invert(rule, gamma);
        let inversion = inversion
            .map(|inverse| Arc::new(FaultyInverse(fault, inverse)) as Arc<dyn BlockInverse>);
        match fault {
            Fault::NoInverse => Inversion {
                inverse: None,
                repairs: Vec::new(),
            },
            _ => inversion,
        }
    }
}

impl BlockInverse for FaultyInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        let product = self.1.multiply(v);
        match self.0 {
            Fault::Transposed => product.transpose(),
            Fault::NotFinite => product * f64::NAN,
            Fault::Negative => product * -1e3,
            _ => product,
        }
    }

    fn magnitudes(&self) -> Magnitudes {
        self.1.magnitudes()
    }

    fn record(&self) -> Record {
        self.1.record()
    }
}
