//! The gradients that Burn's optimizers take, as vectors in parameter space and back.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

use crate::{
    error::{Quantity, StepError},
    network::{Layer, Layers, ParameterTable, ParameterVector},
};

impl Layers {
    /// The gradients of the layers' parameters, which the model has; zero where some have none.
    ///
    /// # Errors
    ///
    /// [`StepError`] where a gradient is not shaped like its parameter, or there is none for any layer.
    pub(crate) fn vector_of<M: Module>(
        &self,
        model: &M,
        gradients: &GradientsParams,
        table: &ParameterTable,
    ) -> Result<ParameterVector, StepError> {
        let mut read = ReadGradients {
            gradients,
            table,
            found: HashMap::new(),
            values: HashMap::new(),
        };
        model.visit(&mut read);
        let parameters = |layer: &Layer| [Some(layer.weight), layer.bias];
        let mut any = false;
        for id in self.iter().flat_map(parameters).flatten() {
            any |= read.found.remove(&id).transpose()?.is_some();
        }
        if !any {
            return Err(StepError::NoGradients);
        }
        Ok(self.assemble(&mut read.values))
    }

    /// Replaces the gradients of the layers' parameters, where there are such; all others are left as
    /// they are.
    pub(crate) fn replace_gradients<M: Module>(
        &self,
        model: &M,
        gradients: &mut GradientsParams,
        vector: &ParameterVector,
    ) {
        model.visit(&mut ReplacedGradients {
            gradients,
            values: self.by_parameter(vector),
        });
    }

    /// Refuses a vector with an element that is not finite.
    pub(crate) fn check_finite(
        &self,
        vector: &ParameterVector,
        quantity: Quantity,
    ) -> Result<(), StepError> {
        vector.first_non_finite().map_or(Ok(()), |layer| {
            let layer = Some(self.path(layer).to_owned());
            Err(StepError::NonFinite { quantity, layer })
        })
    }
}

struct ReadGradients<'a> {
    gradients: &'a GradientsParams,
    table: &'a ParameterTable,
    /// The parameters that have a gradient, or one that is not theirs.
    found: HashMap<ParamId, Result<(), StepError>>,
    values: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for ReadGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let size = value.shape().num_elements();
        let gradient = match self.gradients.get::<D>(param.id) {
            Some(gradient) if gradient.dims() == value.dims() => {
                self.found.insert(param.id, Ok(()));
                gradient.inner().cast(value.dtype())
            }
            Some(gradient) => {
                let error = StepError::GradientShape {
                    parameter: self.table.path(param.id).to_owned(),
                    expected: value.dims().to_vec(),
                    found: gradient.dims().to_vec(),
                };
                self.found.insert(param.id, Err(error));
                return;
            }
            None => value.zeros_like(),
        };
        self.values.insert(param.id, gradient.reshape([size]));
    }
}

struct ReplacedGradients<'a> {
    gradients: &'a mut GradientsParams,
    values: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for ReplacedGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(new) = self.values.remove(&param.id) else {
            return;
        };
        if let Some(old) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, new.reshape(old.dims()));
        }
    }
}
