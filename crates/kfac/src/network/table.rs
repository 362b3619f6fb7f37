//! The parameter table: which curvature block, if any, covers each parameter of a model.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{DType, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{
    layer::{Layer, WeightSharing},
    layers::Layers,
};
use crate::error::StepError;

/// What the optimizer does with one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// Trained through the curvature block of a layer.
    Block(Block),
    /// Not a parameter: running statistics of a normalisation.
    Statistics,
    /// Frozen by the user (`require_grad` is off): left as it is, as asked.
    Frozen,
    /// Trainable, but no layer on the tape uses it: [`Kfac`](crate::Kfac) cannot train it,
    /// [`Preconditioner`](crate::Preconditioner) leaves its gradient as it is.
    Uncovered,
}

/// The curvature block of a layer, as the table shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Block {
    /// Index of the layer in [`Layers`].
    pub layer: usize,
    /// What the layer is called, for instance `convolution`.
    pub name: String,
    /// How the block is approximated.
    pub description: BlockDescription,
    /// How shared positions count.
    pub sharing: WeightSharing,
    /// The chain whose block-tridiagonal inverse the layer is part of, counted from one; `None`
    /// where its block stands alone.
    pub chain: Option<usize>,
}

/// What a structure makes of a layer's block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDescription {
    /// The name of the structure, for instance `kronecker`.
    pub structure: String,
    /// The block in words and numbers, for instance `factors 785 and 1000`.
    pub form: String,
    /// The numbers that an estimate of the block holds; its inverse holds as many.
    pub elements: usize,
}

/// A row of the [`ParameterTable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRow {
    /// The parameter's path in the model, for instance `encoder.weight`.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes of a number of the parameter's precision.
    pub bytes_per_element: usize,
    /// What covers it.
    pub coverage: Coverage,
}

impl ParameterRow {
    /// Bytes held for the parameter's block, which weight and bias share.
    pub fn memory(&self) -> usize {
        match &self.coverage {
            // The estimate and the inverse.
            Coverage::Block(block) => 2 * block.description.elements * self.bytes_per_element,
            Coverage::Statistics | Coverage::Frozen | Coverage::Uncovered => 0,
        }
    }
}

/// What becomes of a parameter that has a block and was frozen afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrozenLater {
    /// Nothing: it has no gradient.
    LeftAlone,
    /// The step is refused, which would move it.
    Refused,
}

/// Every float parameter of a model with what covers it; `Display` prints it as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterTable {
    rows: Vec<ParameterRow>,
    /// The row of each parameter.
    paths: HashMap<ParamId, usize>,
    /// The parameter of each row, and its precision.
    parameters: Vec<(ParamId, DType)>,
    /// Layers on the tape whose weight is made of a parameter, and not one itself.
    pub(crate) derived: Vec<String>,
    /// Trained biases of frozen weights.
    pub(crate) biases_alone: Vec<String>,
    /// The first parameter that does not go with the shape of its layer.
    pub(crate) misshapen: Option<Misshapen>,
}

/// A parameter that does not go with the shape of its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misshapen {
    pub(crate) parameter: String,
    /// Its shape.
    pub(crate) found: Vec<usize>,
    /// Inputs and outputs of the layer.
    pub(crate) layer: [usize; 2],
}

impl ParameterTable {
    /// The table of a model none of whose parameters is covered yet.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        let mut visitor = RowVisitor::default();
        model.visit(&mut visitor);
        visitor.table
    }

    /// Enters the block of a layer.
    pub(crate) fn cover(&mut self, layer: &Layer, block: &Block) {
        for parameter in std::iter::once(&layer.weight).chain(&layer.bias) {
            if let Some(&row) = self.paths.get(parameter) {
                self.rows[row].coverage = Coverage::Block(block.clone());
            }
        }
    }

    /// Names each layer's chain, for an inverse that links the layers.
    #[must_use]
    pub(crate) fn with_chains(mut self, layers: &Layers) -> Self {
        let chains: Vec<Option<usize>> = layers.iter().map(|layer| layer.chain).collect();
        for row in &mut self.rows {
            if let Coverage::Block(block) = &mut row.coverage {
                block.chain = chains[block.layer];
            }
        }
        self
    }

    /// The rows, in the order of the model's fields.
    pub fn rows(&self) -> &[ParameterRow] {
        &self.rows
    }

    /// Paths of the trainable parameters that no block covers.
    pub fn uncovered(&self) -> impl Iterator<Item = &str> {
        let uncovered = |row: &&ParameterRow| row.coverage == Coverage::Uncovered;
        self.rows
            .iter()
            .filter(uncovered)
            .map(|row| row.path.as_str())
    }

    /// Bytes that all blocks and their inverses take.
    pub fn memory(&self) -> usize {
        self.memory_of_rows().iter().sum()
    }

    /// Bytes that the estimates of all blocks take; the inverses take as many.
    pub(crate) fn memory_of_estimates(&self) -> u64 {
        self.memory() as u64 / 2
    }

    /// The precision of the first parameter: that of the blocks.
    pub(crate) fn precision(&self) -> DType {
        self.parameters
            .first()
            .map_or(DType::F32, |(_, dtype)| *dtype)
    }

    /// Bytes of a number of the widest precision that a parameter has.
    pub(crate) fn bytes_per_element(&self) -> usize {
        let bytes = self.rows.iter().map(|row| row.bytes_per_element);
        bytes.max().unwrap_or(1)
    }

    /// The largest blocks, so many at most, in words.
    pub(crate) fn largest(&self, count: usize) -> Vec<String> {
        let mut rows: Vec<_> = self.memory_of_rows().into_iter().zip(&self.rows).collect();
        rows.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let blocks = rows.into_iter().take(count).filter(|(bytes, _)| *bytes > 0);
        blocks
            .map(|(_, row)| format!("`{}` ({})", row.path, row.coverage))
            .collect()
    }

    /// Bytes of each row, those of a block at its first parameter.
    fn memory_of_rows(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        let mut of_row = |row: &ParameterRow| match &row.coverage {
            Coverage::Block(block) if seen.insert(block.layer) => row.memory(),
            _ => 0,
        };
        self.rows.iter().map(&mut of_row).collect()
    }

    /// The paths of the first parameter that has several.
    pub(crate) fn shared(&self) -> Option<Vec<String>> {
        let paths_of = |id: ParamId| {
            let own = self.identified().filter(move |(other, _)| *other == id);
            own.map(|(_, row)| row.path.clone()).collect::<Vec<_>>()
        };
        let mut trained = self
            .identified()
            .filter(|(_, row)| row.coverage == Coverage::Uncovered);
        trained.find_map(|(id, _)| Some(paths_of(id)).filter(|paths| paths.len() > 1))
    }

    /// The rows, each with the identity of its parameter.
    fn identified(&self) -> impl Iterator<Item = (ParamId, &ParameterRow)> {
        let identities = self.parameters.iter().map(|(id, _)| *id);
        identities.zip(&self.rows)
    }

    /// The row of a parameter.
    pub(crate) fn row(&self, parameter: ParamId) -> Option<&ParameterRow> {
        self.paths.get(&parameter).map(|&row| &self.rows[row])
    }

    /// Refuses a model whose parameters are not those of the table: other identities, shapes or
    /// precisions, trained where the table says frozen, or the other way round where that is refused.
    ///
    /// # Errors
    ///
    /// [`StepError`] that names the first difference.
    pub(crate) fn check<M: Module>(
        &self,
        model: &M,
        frozen_later: FrozenLater,
    ) -> Result<(), StepError> {
        let found = Self::of(model);
        for (index, ((id, dtype), row)) in self.parameters.iter().zip(&self.rows).enumerate() {
            let parameter = row.path.clone();
            // Running statistics have no identity that a record keeps.
            let own = match row.coverage {
                Coverage::Statistics => (index < found.rows.len()).then_some(&index),
                _ => found.paths.get(id),
            };
            let Some(&own) = own else {
                return Err(StepError::OtherParameter { parameter });
            };
            let (other, (_, precision)) = (&found.rows[own], found.parameters[own]);
            if other.shape != row.shape {
                return Err(StepError::ParameterShape {
                    parameter,
                    expected: row.shape.clone(),
                    found: other.shape.clone(),
                });
            }
            if precision != *dtype {
                return Err(StepError::ParameterPrecision {
                    parameter,
                    expected: format!("{dtype:?}"),
                    found: format!("{precision:?}"),
                });
            }
            match (&row.coverage, &other.coverage) {
                (Coverage::Frozen, Coverage::Uncovered) => {
                    return Err(StepError::Unfrozen { parameter });
                }
                (Coverage::Block(_), Coverage::Frozen) if frozen_later == FrozenLater::Refused => {
                    return Err(StepError::Frozen { parameter });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The path of the first trained normalisation with running statistics whose scale has no block: it was called
    /// off the tape.
    pub(crate) fn normalised_off_tape(&self) -> Option<&str> {
        let owner =
            |row: &ParameterRow| row.path.rsplit_once('.').map(|(owner, _)| owner.to_owned());
        let uncovered = self
            .rows
            .iter()
            .filter(|row| row.coverage == Coverage::Uncovered);
        let owners: HashSet<Option<String>> = uncovered.map(owner).collect();
        let mut statistics = self
            .rows
            .iter()
            .filter(|row| row.coverage == Coverage::Statistics);
        let found = statistics.find(|row| owners.contains(&owner(row)))?;
        found.path.rsplit_once('.').map(|(owner, _)| owner)
    }

    /// The identities of the running statistics.
    pub(crate) fn running_statistics(&self) -> Vec<ParamId> {
        let rows = self.identified();
        let statistics = rows.filter(|(_, row)| row.coverage == Coverage::Statistics);
        statistics.map(|(id, _)| id).collect()
    }

    pub(crate) fn has_running_statistics(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.coverage == Coverage::Statistics)
    }

    /// Whether a parameter is the model's and not frozen.
    pub(crate) fn trained(&self, parameter: ParamId) -> bool {
        let row = self.row(parameter);
        row.is_some_and(|row| row.coverage != Coverage::Frozen)
    }

    /// The path of a parameter; empty where the model has none of this identity.
    pub(crate) fn path(&self, parameter: ParamId) -> &str {
        self.row(parameter).map_or("", |row| row.path.as_str())
    }
}

impl fmt::Display for ParameterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<[String; 4]> = self
            .rows
            .iter()
            .zip(self.memory_of_rows())
            .map(|(row, bytes)| {
                [
                    row.path.clone(),
                    format!("{:?}", row.shape),
                    memory(bytes),
                    row.coverage.to_string(),
                ]
            })
            .collect();
        let header = ["parameter", "shape", "memory", "block"].map(str::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&header).chain(&shown);
            cells.map(|row| row[column].len()).max().unwrap_or(0)
        };
        let [path, shape, bytes] = [width(0), width(1), width(2)];
        for row in std::iter::once(&header).chain(&shown) {
            let [a, b, c, d] = row;
            writeln!(f, "{a:path$}  {b:>shape$}  {c:>bytes$}  {d}")?;
        }
        writeln!(f, "memory of all blocks: {}", memory(self.memory()))
    }
}

fn memory(bytes: usize) -> String {
    match bytes {
        0 => "-".to_owned(),
        1..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => block.fmt(f),
            Self::Statistics => f.write_str("none: running statistics"),
            Self::Frozen => f.write_str("none: frozen"),
            Self::Uncovered => f.write_str("NONE: not on the tape"),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.name, self.description.form)?;
        if self.sharing == WeightSharing::Reduce {
            write!(f, ", reduce")?;
        }
        match self.chain {
            Some(chain) => write!(f, ", chain {chain}"),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct RowVisitor {
    path: Vec<String>,
    /// The kinds of the modules on the path.
    containers: Vec<String>,
    table: ParameterTable,
}

impl ModuleVisitor for RowVisitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let in_normalisation = self
            .containers
            .iter()
            .rev()
            .any(|kind| kind.contains("BatchNorm"));
        let statistics = in_normalisation
            && self
                .path
                .last()
                .is_some_and(|name| name.starts_with("running_"));
        let coverage = if statistics {
            Coverage::Statistics
        } else if param.val().is_require_grad() {
            Coverage::Uncovered
        } else {
            Coverage::Frozen
        };
        self.table.paths.insert(param.id, self.table.rows.len());
        self.table.parameters.push((param.id, param.val().dtype()));
        self.table.rows.push(ParameterRow {
            path: self.path.join("."),
            shape: param.dims().to_vec(),
            bytes_per_element: param.val().dtype().size(),
            coverage,
        });
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.containers.pop();
    }
}
