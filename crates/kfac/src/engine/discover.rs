//! Making the engine for a model.

use std::sync::Arc;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};

use super::{
    config::{CoveragePolicy, CurvatureConfig},
    extensions::Extensions,
    fault::{ConfigFault, InitError},
};
use crate::{
    blocks::Blocks,
    capture::Network,
    damping::DampingRule,
    error::StepError,
    inverse::InverseStructure,
    network::{Cases, FrozenLater, Layer, Layers, ParameterTable},
};

/// The curvature of a model: what both optimizers share.
#[derive(Clone, Debug)]
pub(crate) struct Engine<L> {
    pub(crate) config: CurvatureConfig,
    pub(crate) loss: L,
    pub(crate) blocks: Blocks,
    pub(crate) table: ParameterTable,
    pub(crate) rule: Arc<dyn DampingRule>,
    /// The number of the call from which periods are counted.
    pub(crate) origin: u64,
    /// The cases that are evaluated at once, at most.
    pub(crate) chunk_size: usize,
}

/// What an engine is made of.
pub(crate) struct EngineParts<'a, L> {
    pub(crate) config: &'a CurvatureConfig,
    pub(crate) loss: L,
    pub(crate) extensions: Extensions,
    /// The number of the call from which periods are counted.
    pub(crate) origin: u64,
    /// The inverses that a refresh makes.
    pub(crate) candidates: u64,
    /// The faults of the optimizer's own settings.
    pub(crate) faults: Vec<ConfigFault>,
}

impl<L> Engine<L> {
    /// The engine for a model, whose layers are found by one forward pass over the first case of
    /// `example`.
    ///
    /// # Errors
    ///
    /// [`InitError`]: faults of the configuration (all at once), a model without autodiff or without
    /// layers on the tape, settings of layers that are not there, and, with strict coverage, trainable
    /// parameters without a block.
    pub(crate) fn discover<M: Network>(
        parts: EngineParts<'_, L>,
        model: &M,
        example: &M::Input,
    ) -> Result<Self, InitError> {
        let EngineParts {
            config,
            loss,
            extensions,
            origin,
            candidates,
            mut faults,
        } = parts;
        let rule = extensions.damping.clone();
        let rule = rule.unwrap_or_else(|| config.damping.rule());
        config.check(&*rule, &mut faults);
        if !faults.is_empty() {
            return Err(InitError::Configuration(faults));
        }
        if example.is_empty() {
            return Err(InitError::EmptyExample);
        }
        if !has_autodiff(model) {
            return Err(InitError::NoAutodiff);
        }
        let options = config.block_options(extensions);
        let (blocks, table) = Blocks::discover(model, example, &options);
        let unknown = options.unknown_paths(blocks.layers());
        if !unknown.is_empty() {
            return Err(InitError::UnknownLayers { paths: unknown });
        }
        if blocks.layers().is_empty() {
            return Err(InitError::NoLayers);
        }
        check_table(&table)?;
        let chunk_size = config.chunk_within(&table, blocks.layers(), candidates)?;
        config.check_coverage(&table)?;
        let table = match config.structure {
            InverseStructure::BlockDiagonal => table,
            InverseStructure::BlockTridiagonal => table.with_chains(blocks.layers()),
        };
        Ok(Self {
            config: config.clone(),
            loss,
            blocks,
            table,
            rule,
            origin,
            chunk_size,
        })
    }

    /// The layers.
    pub(crate) fn layers(&self) -> &Layers {
        self.blocks.layers()
    }

    /// Refuses a model that is not the one that the engine was made for; parameters may have been frozen.
    pub(crate) fn check_model<M: Module>(&self, model: &M) -> Result<(), StepError> {
        self.table.check(model, FrozenLater::LeftAlone)
    }

    /// Refuses a model that is not the one that the engine was made for, or of which less can be trained.
    pub(crate) fn check_trained<M: Module>(&self, model: &M) -> Result<(), StepError> {
        if !has_autodiff(model) {
            return Err(StepError::NoAutodiff);
        }
        self.table.check(model, FrozenLater::Refused)
    }

    /// Whether the inverse is refreshed in a call, counted from one.
    pub(crate) fn refreshes(&self, call: u64) -> bool {
        self.due(call, self.config.inverse_period)
    }

    /// The next call, this one included, in which the inverse is refreshed by its period.
    pub(crate) fn next_refresh(&self, call: u64) -> u64 {
        let period = self.config.inverse_period;
        let periods = call.saturating_sub(self.origin).div_ceil(period);
        periods.saturating_mul(period).saturating_add(self.origin)
    }

    /// Whether a refresh decomposes factors into eigenvalues and eigenvectors.
    pub(crate) fn decomposes(&self) -> bool {
        let factors = self
            .config
            .inverse_method
            .of_factors(self.rule.product(1.0, 1.0));
        factors.is_none()
    }

    /// Whether a batch is taken into the statistics in a call: an inverse is made from fresh ones.
    pub(crate) fn observes(&self, call: u64, refreshes: bool) -> bool {
        refreshes || self.due(call, self.config.statistics_period)
    }

    /// Whether a call is one of the first, which all refresh the inverse.
    pub(crate) fn begins(&self, call: u64) -> bool {
        call <= self.config.initial_refreshes.max(1)
    }

    fn due(&self, call: u64, period: u64) -> bool {
        self.begins(call) || call.saturating_sub(self.origin).is_multiple_of(period)
    }
}

/// Refuses parameters that no block can be for.
fn check_table(table: &ParameterTable) -> Result<(), InitError> {
    if let Some(parameters) = table.shared() {
        return Err(InitError::SharedParameter { parameters });
    }
    if let Some(misshapen) = table.misshapen.clone() {
        return Err(InitError::LayerShape {
            parameter: misshapen.parameter,
            found: misshapen.found,
            layer: misshapen.layer,
        });
    }
    match table.derived.first().cloned() {
        Some(layer) => Err(InitError::DerivedWeight { layer }),
        None => Ok(()),
    }
}

impl CurvatureConfig {
    /// The cases that a pass may be over at once within the memory, with so many inverses made in a refresh;
    /// refuses blocks that leave no room for one.
    fn chunk_within(
        &self,
        table: &ParameterTable,
        layers: &Layers,
        candidates: u64,
    ) -> Result<usize, InitError> {
        // Running averages, those of a batch, the inverse in use, and the next ones.
        let blocks = table.memory_of_estimates() * (3 + candidates);
        let captured: usize = layers.iter().map(Layer::captured_elements).sum();
        let of_case = (captured * table.bytes_per_element()) as u64;
        let limit = self.memory_limit;
        match limit.checked_sub(blocks).map(|room| room / of_case.max(1)) {
            None | Some(0) => Err(InitError::Memory {
                needed: blocks + of_case,
                limit,
                largest: table.largest(3),
            }),
            Some(cases) => {
                let cases = usize::try_from(cases).unwrap_or(usize::MAX);
                Ok(self.chunk_size.min(cases))
            }
        }
    }

    /// Refuses trainable parameters without a block, where coverage is strict.
    fn check_coverage(&self, table: &ParameterTable) -> Result<(), InitError> {
        if self.coverage == CoveragePolicy::Report {
            return match table.normalised_off_tape() {
                None => Ok(()),
                Some(path) => Err(InitError::NormalisationOffTape {
                    path: path.to_owned(),
                }),
            };
        }
        let parameters = table.biases_alone.clone();
        if !parameters.is_empty() {
            return Err(InitError::FrozenWeight { parameters });
        }
        let parameters: Vec<String> = table.uncovered().map(str::to_owned).collect();
        if parameters.is_empty() {
            Ok(())
        } else {
            Err(InitError::Uncovered { parameters })
        }
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
