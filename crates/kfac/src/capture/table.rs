//! The parameter table: which curvature block, if any, covers each parameter of a model.

use std::{collections::HashMap, fmt};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use super::{layers::Layers, tape::Sighting};

/// What the optimizer does with one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// Trained through the Kronecker-factored block of a dense layer.
    Dense {
        /// The dimension of the input factor `Ā`.
        activation: usize,
        /// The dimension of the output factor `G`.
        gradient: usize,
        /// The chain whose block-tridiagonal inverse the layer is part of, counted from one; `None`
        /// where its block stands alone.
        chain: Option<usize>,
    },
    /// Frozen by the user (`require_grad` is off): left as it is, as asked.
    Frozen,
    /// Trainable, but no layer on the tape uses it: the optimizer cannot train it.
    Uncovered,
}

/// A row of the [`ParameterTable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRow {
    /// The parameter's path in the model, for instance `encoder.weight`.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What covers it.
    pub coverage: Coverage,
}

/// Every float parameter of a model with what covers it; `Display` prints it as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterTable {
    rows: Vec<ParameterRow>,
    paths: HashMap<ParamId, usize>,
}

impl ParameterTable {
    pub(super) fn of<M: Module>(model: &M, sightings: &[Sighting]) -> Self {
        let mut covered = HashMap::new();
        for sighting in sightings {
            let bias = usize::from(sighting.bias.is_some());
            let dense = Coverage::Dense {
                activation: sighting.d_in + bias,
                gradient: sighting.d_out,
                chain: None,
            };
            covered.insert(sighting.weight, dense.clone());
            if let Some(bias) = sighting.bias {
                covered.insert(bias, dense);
            }
        }
        let mut visitor = RowVisitor {
            covered,
            path: Vec::new(),
            table: Self::default(),
        };
        model.visit(&mut visitor);
        visitor.table
    }

    /// Names each layer's chain, for an inverse that links the layers.
    #[must_use]
    pub(crate) fn with_chains(mut self, layers: &Layers) -> Self {
        for layer in layers {
            for parameter in std::iter::once(&layer.weight).chain(&layer.bias) {
                let row = self.paths.get(parameter).map(|&row| &mut self.rows[row]);
                if let Some(Coverage::Dense { chain, .. }) = row.map(|row| &mut row.coverage) {
                    *chain = layer.chain;
                }
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

    /// The path of the layer that owns a weight.
    pub(super) fn layer_path(&self, weight: ParamId) -> String {
        let path = self
            .paths
            .get(&weight)
            .map_or("", |&row| self.rows[row].path.as_str());
        path.rsplit_once('.')
            .map_or(path, |(layer, _)| layer)
            .to_owned()
    }
}

impl fmt::Display for ParameterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .rows
            .iter()
            .map(|row| row.path.len())
            .max()
            .unwrap_or(0)
            .max(9);
        writeln!(f, "{:width$}  {:>14}  block", "parameter", "shape")?;
        for row in &self.rows {
            let shape = format!("{:?}", row.shape);
            let block = match &row.coverage {
                Coverage::Dense {
                    activation,
                    gradient,
                    chain,
                } => {
                    let chain = chain.map_or_else(String::new, |chain| format!(", chain {chain}"));
                    format!("dense, factors {activation} and {gradient}{chain}")
                }
                Coverage::Frozen => "none: frozen".to_owned(),
                Coverage::Uncovered => "NONE: not on the tape, not trained".to_owned(),
            };
            writeln!(f, "{:width$}  {shape:>14}  {block}", row.path)?;
        }
        Ok(())
    }
}

struct RowVisitor {
    covered: HashMap<ParamId, Coverage>,
    path: Vec<String>,
    table: ParameterTable,
}

impl ModuleVisitor for RowVisitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let coverage = match self.covered.get(&param.id) {
            Some(coverage) => coverage.clone(),
            None if param.val().is_require_grad() => Coverage::Uncovered,
            None => Coverage::Frozen,
        };
        self.table.paths.insert(param.id, self.table.rows.len());
        self.table.rows.push(ParameterRow {
            path: self.path.join("."),
            shape: param.dims().to_vec(),
            coverage,
        });
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}
