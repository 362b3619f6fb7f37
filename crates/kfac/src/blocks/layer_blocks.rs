//! The layers of a network with the structures of their blocks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    block::BlockStructure,
    diagonal::{Diagonal, SummedDiagonal},
    full::Full,
    grouped::Grouped,
    kronecker::Kronecker,
    one_hot::OneHot,
};
use crate::{
    capture::{LayerChoice, Network},
    network::{Block, Layer, Layers, ParameterAction, ParameterTable, WeightSharing},
};

/// How the block of a scale and shift is approximated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum ScaleShiftBlock {
    /// Their diagonals: `E[d²]` for each parameter.
    #[default]
    Diagonal,
    /// All elements: `E[d dᵀ]` for all scales and shifts of the layer, exact, of the size of the
    /// features squared.
    Full,
}

/// What is chosen about the layers' blocks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BlockOptions {
    /// Weight sharing, where nothing is said about the layer.
    pub sharing: WeightSharing,
    /// Weight sharing of layers, by their paths.
    pub sharing_of: Vec<(String, WeightSharing)>,
    /// The blocks of scales and shifts.
    pub scale_shift: ScaleShiftBlock,
    /// Structures of layers, by their paths; others have that of their kind.
    pub structure_of: Vec<(String, Arc<dyn BlockStructure>)>,
}

/// The layers of a network, each with the structure of its block.
#[derive(Clone, Debug)]
pub struct Blocks {
    layers: Layers,
    structures: Vec<Arc<dyn BlockStructure>>,
}

impl Blocks {
    /// Finds the layers by one forward pass over the first case of `example`, and lists what covers
    /// each parameter of the model.
    pub fn discover<M: Network>(
        model: &M,
        example: &M::Input,
        options: &BlockOptions,
    ) -> (Self, ParameterTable) {
        let choose = |path: &str| {
            let sharing = named(&options.sharing_of, path).copied();
            LayerChoice {
                sharing: sharing.unwrap_or(options.sharing),
                // Links are made between Kronecker products only.
                links: named(&options.structure_of, path).is_none(),
            }
        };
        let (layers, mut table) = Layers::discover(model, example, choose);
        let structure = |layer: &Layer| options.structure(layer);
        let structures: Vec<_> = layers.iter().map(structure).collect();
        for (index, (layer, structure)) in layers.iter().zip(&structures).enumerate() {
            let block = Block {
                layer: index,
                name: layer.name.to_string(),
                description: structure.describe(layer),
                sharing: layer.sharing,
                chain: None,
            };
            table.cover(layer, &block);
        }
        (Self { layers, structures }, table)
    }

    /// The layers, first seen first.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Each layer with the structure of its block.
    pub fn iter(&self) -> impl Iterator<Item = (&Layer, &dyn BlockStructure)> {
        let structures = self.structures.iter().map(|structure| &**structure);
        self.layers.iter().zip(structures)
    }
}

impl BlockOptions {
    /// The options with this weight sharing, where nothing is said about a layer.
    #[must_use]
    pub fn with_sharing(self, sharing: WeightSharing) -> Self {
        Self { sharing, ..self }
    }

    /// The options with these blocks of scales and shifts.
    #[must_use]
    pub fn with_scale_shift(self, scale_shift: ScaleShiftBlock) -> Self {
        Self {
            scale_shift,
            ..self
        }
    }

    /// The options with this structure for the layer of a path.
    #[must_use]
    pub fn with_structure(
        mut self,
        path: impl Into<String>,
        structure: Arc<dyn BlockStructure>,
    ) -> Self {
        self.structure_of.push((path.into(), structure));
        self
    }

    /// The structure of a layer's block.
    fn structure(&self, layer: &Layer) -> Arc<dyn BlockStructure> {
        if let Some(own) = named(&self.structure_of, &layer.path) {
            return own.clone();
        }
        match (layer.action, self.scale_shift) {
            (ParameterAction::Product { groups: 1 }, _) => Arc::new(Kronecker),
            (ParameterAction::Product { .. }, _) => Arc::new(Grouped),
            (ParameterAction::Lookup, _) => Arc::new(OneHot),
            (ParameterAction::Scale, ScaleShiftBlock::Diagonal) => Arc::new(Diagonal),
            (ParameterAction::Scale, ScaleShiftBlock::Full) => Arc::new(Full),
            (ParameterAction::Alone, _) => Arc::new(SummedDiagonal),
        }
    }

    /// The paths that are named and that no layer has.
    pub(crate) fn unknown_paths(&self, layers: &Layers) -> Vec<String> {
        let known = |path: &str| layers.iter().any(|layer| layer.path == path);
        let sharing = self.sharing_of.iter().map(|(path, _)| path);
        let structures = self.structure_of.iter().map(|(path, _)| path);
        let unknown = sharing.chain(structures).filter(|path| !known(path));
        unknown.cloned().collect()
    }
}

fn named<'a, T>(of_paths: &'a [(String, T)], path: &str) -> Option<&'a T> {
    let found = of_paths.iter().rfind(|(own, _)| own == path);
    found.map(|(_, value)| value)
}
