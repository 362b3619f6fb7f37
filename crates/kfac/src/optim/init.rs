//! Making an optimizer for a model.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};

use super::{
    config::{ConfigFault, CoveragePolicy, KfacConfig},
    curvature_settings::CurvatureSettings,
    kfac::{Kfac, State},
};
use crate::{
    capture::{Layers, ParameterTable},
    cases::Cases,
    curvature::InverseStructure,
    error::InitError,
    loss::PredictiveDistribution,
    network::Network,
};

impl KfacConfig {
    /// An optimizer for a model and a loss.
    ///
    /// The layers are found by one forward pass over the first case of `example`; the parameter
    /// table of the result tells what covers each parameter.
    ///
    /// # Errors
    ///
    /// [`InitError`]: faults of the configuration (all at once), a model without autodiff or
    /// without layers on the tape, and, with strict coverage, trainable parameters without a block.
    pub fn init<M: Network, L: PredictiveDistribution>(
        &self,
        model: &M,
        loss: L,
        example: &M::Input,
    ) -> Result<Kfac<L>, InitError> {
        let (layers, table) = self.curvature().discover(model, example, self.validate())?;
        Ok(Kfac {
            loss,
            layers,
            table,
            state: State::new(self),
            config: self.clone(),
        })
    }
}

impl CurvatureSettings<'_> {
    /// The layers of a model and what covers its parameters, where the configuration has no faults.
    pub(super) fn discover<M: Network>(
        &self,
        model: &M,
        example: &M::Input,
        faults: Vec<ConfigFault>,
    ) -> Result<(Layers, ParameterTable), InitError> {
        if !faults.is_empty() {
            return Err(InitError::Configuration(faults));
        }
        if example.is_empty() {
            return Err(InitError::EmptyExample);
        }
        if !has_autodiff(model) {
            return Err(InitError::NoAutodiff);
        }
        let (layers, table) = Layers::discover(model, example, &self.layer_options());
        let unknown = self.unknown_layers(&layers);
        if !unknown.is_empty() {
            return Err(InitError::UnknownLayers { paths: unknown });
        }
        if layers.is_empty() {
            return Err(InitError::NoLayers);
        }
        let table = match self.inverse.structure {
            InverseStructure::BlockDiagonal => table,
            InverseStructure::BlockTridiagonal => table.with_chains(&layers),
        };
        let parameters: Vec<String> = table.uncovered().map(str::to_owned).collect();
        if self.coverage == CoveragePolicy::Strict && !parameters.is_empty() {
            return Err(InitError::Uncovered { parameters });
        }
        Ok((layers, table))
    }
}

/// Whether any parameter has autodiff.
///
/// The model's list of devices cannot tell: it names equal devices once, and a device with autodiff
/// equals the one without.
fn has_autodiff<M: Module>(model: &M) -> bool {
    struct Search(bool);
    impl ModuleVisitor for Search {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.val().is_autodiff();
        }
    }
    let mut search = Search(false);
    model.visit(&mut search);
    search.0
}
