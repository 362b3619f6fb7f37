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
    Batch, Cases, Network, Objective, ObjectiveError,
    blocks::{BlockStructure, Diagonal, Full},
    damping::{
        DampingRule, Evidence, FactorNorms, LambdaRule, LambdaState, LambdaUpdate, ProductDamping,
    },
};

use super::draw::Draw;
use crate::support::{Fault, Faulty};

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

/// A full or diagonal block with a fault.
pub(super) fn any_structure(draw: &mut Draw) -> Faulty {
    let faults = [
        Fault::Nothing,
        Fault::Nothing,
        Fault::NoBlock,
        Fault::OtherFactor,
        Fault::NoInverse,
        Fault::Transposed,
        Fault::NotFinite,
        Fault::Negative,
    ];
    let of: [Arc<dyn BlockStructure>; 2] = [Arc::new(Full), Arc::new(Diagonal)];
    Faulty {
        of: draw.of(&of),
        fault: draw.of(&faults),
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
