//! Parts of a careless caller's own: they give whatever comes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{DType, Tensor},
};
use kfac::{
    Batch, BlockDescription, Cases, InverseMethod, Layer, LayerUses, Network, Objective,
    ObjectiveError,
    blocks::{
        BlockEstimate, BlockInverse, BlockStructure, Diagonal, Factor, Full, Inversion, Magnitudes,
        Moments, Pass, PreparedBlock, Record, RecordError,
    },
    damping::{
        DampingRule, Evidence, FactorNorms, LambdaRule, LambdaState, LambdaUpdate, ProductDamping,
    },
};

use super::draw::Draw;

/// Numbers that come in turn, for rules that are asked again and again.
#[derive(Debug)]
pub(super) struct Turns {
    values: Vec<f64>,
    next: AtomicU64,
}

impl Turns {
    fn new(draw: &mut Draw) -> Self {
        let values = (0..7).map(|_| if draw.chance(10) { draw.strange() } else { 0.1 });
        Self {
            values: values.collect(),
            next: AtomicU64::new(0),
        }
    }

    fn next(&self) -> f64 {
        let at = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        self.values[at % self.values.len()]
    }
}

#[derive(Debug)]
pub(super) struct AnyDamping(Turns, bool);

impl AnyDamping {
    pub(super) fn new(draw: &mut Draw) -> Self {
        Self(Turns::new(draw), draw.chance(20))
    }
}

impl DampingRule for AnyDamping {
    fn balance(&self, _: &dyn FactorNorms, _: &dyn FactorNorms) -> f64 {
        self.0.next()
    }

    fn product(&self, _gamma: f64, _pi: f64) -> ProductDamping {
        if self.1 {
            return ProductDamping::Exact(self.0.next());
        }
        ProductDamping::Factored {
            activation: self.0.next(),
            gradient: self.0.next(),
        }
    }

    fn block(&self, _gamma: f64) -> f64 {
        self.0.next()
    }
}

#[derive(Debug)]
pub(super) struct AnyLambda(Turns);

impl AnyLambda {
    pub(super) fn new(draw: &mut Draw) -> Self {
        Self(Turns::new(draw))
    }

    fn state(&self) -> LambdaState {
        LambdaState {
            lambda: self.0.next(),
            starting: self.0.next() < 0.05,
        }
    }
}

impl LambdaRule for AnyLambda {
    fn start(&self) -> LambdaState {
        self.state()
    }

    fn wants_evidence(&self, _: LambdaState, iteration: u64) -> bool {
        iteration.is_multiple_of(2)
    }

    fn update(&self, _: LambdaState, _: u64, _: Option<Evidence>) -> LambdaUpdate {
        LambdaUpdate {
            state: self.state(),
            action: None,
        }
    }

    fn taken_back(&self, _: LambdaState) -> LambdaState {
        self.state()
    }
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    NoBlock,
    NotSquare,
    NoInverse,
    Transposed,
    NotFinite,
    Negative,
}

/// A full or diagonal block with a fault.
#[derive(Debug)]
pub(super) struct AnyStructure {
    of: Arc<dyn BlockStructure>,
    fault: Fault,
}

#[derive(Debug)]
struct AnyEstimate(Fault, Arc<dyn BlockEstimate>, Tensor<2>);

#[derive(Debug)]
struct AnyPrepared(Fault, Arc<dyn PreparedBlock>);

#[derive(Debug)]
struct AnyInverse(Fault, Arc<dyn BlockInverse>);

impl AnyStructure {
    pub(super) fn new(draw: &mut Draw) -> Self {
        let faults = [
            Fault::Nothing,
            Fault::Nothing,
            Fault::NoBlock,
            Fault::NotSquare,
            Fault::NoInverse,
            Fault::Transposed,
            Fault::NotFinite,
            Fault::Negative,
        ];
        let of: [Arc<dyn BlockStructure>; 2] = [Arc::new(Full), Arc::new(Diagonal)];
        Self {
            of: draw.of(&of),
            fault: draw.of(&faults),
        }
    }
}

impl BlockStructure for AnyStructure {
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
        let [rows, _] = factors[0].dims();
        let shown = Tensor::cat(vec![factors[0].clone().slice_dim(0, 0..rows); 2], 0);
        let block = self.of.estimate(layer, factors)?;
        Some(Arc::new(AnyEstimate(self.fault, block, shown)))
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        self.of.restore(layer, record)
    }
}

impl BlockEstimate for AnyEstimate {
    fn factors(&self) -> Vec<Factor<'_>> {
        let mut factors = self.1.factors();
        if matches!(self.0, Fault::NotSquare) {
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
        Arc::new(AnyPrepared(self.0, self.1.prepare(rule, method)))
    }
}

impl PreparedBlock for AnyPrepared {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let fault = self.0;
        let inversion = self.1.invert(rule, gamma);
        let inversion =
            inversion.map(|inverse| Arc::new(AnyInverse(fault, inverse)) as Arc<dyn BlockInverse>);
        match fault {
            Fault::NoInverse => Inversion {
                inverse: None,
                ..inversion
            },
            _ => inversion,
        }
    }
}

impl BlockInverse for AnyInverse {
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

/// An objective that gives whatever gradients come.
pub(super) struct AnyObjective(Mutex<Draw>);

impl AnyObjective {
    pub(super) fn new(draw: &mut Draw) -> Self {
        Self(Mutex::new(Draw::new(draw.number())))
    }
}

impl<M: Network, T: Cases> Objective<M, T> for AnyObjective {
    fn value(&self, _: &M, _: &Batch<M::Input, T>) -> Result<f64, ObjectiveError> {
        let mut draw = self.0.lock().unwrap();
        match draw.within(0..12) {
            0 => Err("no value".into()),
            1 => Ok(draw.strange()),
            _ => Ok(1.0),
        }
    }

    fn value_and_gradients(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
    ) -> Result<(f64, GradientsParams), ObjectiveError> {
        let value = Objective::<M, T>::value(self, model, batch)?;
        let mut draw = self.0.lock().unwrap();
        Ok((value, any_gradients(&mut draw, model)))
    }
}

/// Gradients for a model, or for about one.
pub(super) fn any_gradients<M: Module>(draw: &mut Draw, model: &M) -> GradientsParams {
    struct Visitor<'a>(&'a mut Draw, GradientsParams);
    impl ModuleVisitor for Visitor<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (mut shape, dtype) = (param.dims(), param.val().dtype());
            if self.0.chance(2) {
                shape[0] = self.0.about(shape[0] + 1);
            }
            if !self.0.chance(5) {
                let gradient = self.0.floats(shape, dtype);
                let gradient = if gradient.is_autodiff() {
                    gradient.inner()
                } else {
                    gradient
                };
                self.1.register(param.id, gradient);
            }
        }
    }
    if draw.chance(2) {
        return GradientsParams::new();
    }
    let mut visitor = Visitor(draw, GradientsParams::new());
    model.visit(&mut visitor);
    visitor.1
}

/// What may have become of a model before an optimizer is made for it.
pub(super) fn altered<M: Module>(draw: &mut Draw, model: M) -> M {
    match draw.within(0..4) {
        0 => model.valid(),
        1 => model.no_grad(),
        2 => model.map(&mut Map(Change::Values(draw.strange()))),
        _ => model.map(&mut Map(Change::Trained(draw.chance(50)))),
    }
}

/// What may become of a model while it is trained.
pub(super) fn changed<M: Module>(draw: &mut Draw, model: M) -> M {
    match draw.within(0..7) {
        0 => model.map(&mut Map(Change::Cast(draw.precision()))),
        1 => model.map(&mut Map(Change::Identity)),
        2 => model.map(&mut Map(Change::Longer)),
        _ => altered(draw, model),
    }
}

enum Change {
    Cast(DType),
    Identity,
    Values(f64),
    Trained(bool),
    Longer,
}

struct Map(Change);

impl ModuleMapper for Map {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = match self.0 {
            Change::Identity => ParamId::new(),
            _ => param.id,
        };
        let (value, trained) = (param.val(), param.val().is_require_grad());
        if !trained && !matches!(self.0, Change::Trained(_)) {
            // Running statistics, which Burn's clones share: others would change with them.
            return param;
        }
        let plain = if value.is_autodiff() {
            value.inner()
        } else {
            value
        };
        let (new, trained) = match self.0 {
            Change::Cast(dtype) => (plain.cast(dtype), trained),
            Change::Identity => (plain, trained),
            Change::Values(number) => (plain * 0.0 + number, trained),
            Change::Trained(trained) => (plain, trained),
            Change::Longer => (Tensor::cat(vec![plain.clone(), plain], 0), trained),
        };
        Param::initialized(id, new.autodiff().set_require_grad(trained))
    }
}
