//! The gradients that Burn's optimizers take, as vectors in parameter space and back.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

use crate::{
    error::{Quantity, StepError},
    network::{Layers, ParameterVector},
};

impl Layers {
    /// The gradients of the layers' parameters; zero where there is none.
    ///
    /// # Errors
    ///
    /// [`StepError::ParametersNotFound`] where the model does not have the parameters of a layer.
    pub(crate) fn vector_of<M: Module>(
        &self,
        model: &M,
        gradients: &GradientsParams,
    ) -> Result<ParameterVector, StepError> {
        let mut read = ReadGradients {
            gradients,
            values: HashMap::new(),
        };
        model.visit(&mut read);
        let found = |id| read.values.contains_key(id);
        for layer in self {
            if !found(&layer.weight) || !layer.bias.iter().all(found) {
                let layer = layer.path.clone();
                return Err(StepError::ParametersNotFound { layer });
            }
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
    values: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for ReadGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = match self.gradients.get::<D>(param.id) {
            Some(gradient) => gradient.inner(),
            None => param.val().inner().zeros_like(),
        };
        let size = gradient.shape().num_elements();
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
