//! Running statistics that no other model shares.

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

/// The model with running statistics of its own, everything else as it was.
///
/// Burn's clones share the statistics of their batch normalisations: what moves those of one moves those of
/// all. Only `valid` makes new ones, so the parameters go back into what it returns.
pub(crate) fn with_own_statistics<M: Module>(model: &M) -> M {
    // A pass in training leaves the statistics to be synchronised, which `valid` does: what is visited before it may
    // be those before the pass.
    let own = model.valid().train();
    let mut parameters = Parameters::default();
    model.visit(&mut parameters);
    own.map(&mut parameters)
}

/// The tensors of the parameters, with all that autodiff knows of them.
#[derive(Default)]
struct Parameters(HashMap<ParamId, Box<dyn Any>>);

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, Box::new(param.val()));
    }
}

impl ModuleMapper for Parameters {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let own = self.0.get(&param.id).and_then(|own| own.downcast_ref());
        match own.cloned() {
            Some(own) => param.map(|_| own),
            None => param,
        }
    }
}
