//! The values of a model's parameters.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

/// The value of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    shape: Vec<usize>,
    /// In the order in which they are stored.
    pub(super) elements: Tensor<1>,
}

impl Value {
    pub(crate) fn of<const D: usize>(param: &Param<Tensor<D>>) -> Self {
        let value = param.val().inner();
        let shape = value.dims().to_vec();
        let elements = value.reshape([shape.iter().product::<usize>()]);
        Self { shape, elements }
    }

    /// Whether both have the same shape and elements.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let equal = || {
            let equal = self.elements.clone().equal(other.elements.clone());
            equal.all().into_scalar::<bool>()
        };
        self.shape == other.shape && equal()
    }
}

/// The values of a model's parameters.
pub(crate) fn values_of<M: Module>(model: &M) -> HashMap<ParamId, Value> {
    #[derive(Default)]
    struct Visit(HashMap<ParamId, Value>);
    impl ModuleVisitor for Visit {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id, Value::of(param));
        }
    }
    let mut visit = Visit::default();
    model.visit(&mut visit);
    visit.0
}
