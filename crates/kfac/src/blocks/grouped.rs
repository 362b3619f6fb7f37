//! Blocks of convolutions with groups: a Kronecker product for each.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    block::{
        BlockEstimate, BlockInverse, BlockStructure, Factor, InverseMethod, Inversion,
        PreparedBlock,
    },
    eigen::{EigenBasis, EigenInverse},
    identity::IdentityInverse,
    kronecker::{KroneckerFactors, KroneckerInverse, PreparedKronecker, ProductInverse},
    magnitudes::Magnitudes,
    moments::{Moments, Pass, of_product},
};
use crate::{
    capture::LayerUses,
    damping::DampingRule,
    linalg::columns,
    network::{BlockDescription, Layer},
    record::{Record, RecordError},
};

/// `diag(Ā₁ ⊗ G₁, Ā₂ ⊗ G₂, …)`: a product for each group of outputs, which are columns of the layer's
/// matrix side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouped;

/// The factors of each group.
#[derive(Clone, Debug)]
pub struct GroupedFactors(pub Vec<KroneckerFactors>);

/// The groups with what does not depend on γ.
#[derive(Debug)]
struct PreparedGroups(Vec<PreparedKronecker>);

/// The inverse of each group's product.
#[derive(Clone, Debug)]
pub struct GroupedInverse(pub Vec<KroneckerInverse>);

impl BlockStructure for Grouped {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let [a, g] = [layer.activation_dimension(), layer.gradient_dimension()];
        let groups = layer.action.groups();
        BlockDescription {
            structure: "grouped kronecker".to_owned(),
            form: format!("{groups} groups with factors {a} and {g}"),
            elements: groups * (a * a + g * g),
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, pass: Pass) -> Moments {
        of_product(layer, uses, pass)
    }

    fn estimate(
        &self,
        layer: &Layer,
        mut factors: Vec<Tensor<2>>,
    ) -> Option<Arc<dyn BlockEstimate>> {
        let groups = layer.action.groups();
        if factors.len() != 2 * groups {
            return None;
        }
        let gradients = factors.split_off(groups);
        let pair = |(activation, gradient)| KroneckerFactors {
            activation,
            gradient,
        };
        let groups: Vec<_> = factors.into_iter().zip(gradients).map(pair).collect();
        let expected = [layer.activation_dimension(), layer.gradient_dimension()];
        let fits = groups.iter().all(|group| group.dimensions() == expected);
        fits.then(|| Arc::new(GroupedFactors(groups)) as Arc<dyn BlockEstimate>)
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        let groups = layer.action.groups();
        match record.form.as_str() {
            GroupedInverse::FORM => {
                let group = |group| KroneckerInverse::restore(record.part(group)?);
                let groups = (0..groups).map(group).collect::<Result<_, _>>()?;
                Ok(Arc::new(GroupedInverse(groups)))
            }
            EigenInverse::FORM => Ok(Arc::new(EigenInverse::restore(record, groups)?)),
            IdentityInverse::FORM => Ok(Arc::new(IdentityInverse::restore(record)?)),
            _ => Err(record.of_other_form("`groups`, `eigen` or `identity`")),
        }
    }
}

impl BlockEstimate for GroupedFactors {
    /// The input factors of all groups, then their output factors.
    fn factors(&self) -> Vec<Factor<'_>> {
        let of_groups = |at: usize| self.0.iter().map(move |group| group.factors()[at]);
        of_groups(0).chain(of_groups(1)).collect()
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        let groups = self.0.len();
        let group = |(index, old): (usize, &KroneckerFactors)| {
            let factor = |at: usize, old: &Tensor<2>| factors.get(at).unwrap_or(old).clone();
            KroneckerFactors {
                activation: factor(index, &old.activation),
                gradient: factor(groups + index, &old.gradient),
            }
        };
        Arc::new(Self(self.0.iter().enumerate().map(group).collect()))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        by_group(&v, &self.0, BlockEstimate::multiply)
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let groups = self.0.iter().map(|group| group.with_damping(rule, gamma));
        Some(Arc::new(Self(groups.collect::<Option<_>>()?)))
    }

    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock> {
        let groups = self.0.iter().map(|group| group.prepared(rule, method));
        Arc::new(PreparedGroups(groups.collect()))
    }
}

impl PreparedBlock for PreparedGroups {
    /// The geometric mean over the groups.
    fn pi(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|group| group.pi().ln()).sum();
        (sum / self.0.len() as f64).exp()
    }

    /// All groups or none: where one fails, the layer's last good inverse stays in use.
    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let mut products = Vec::with_capacity(self.0.len());
        let mut bases: Vec<EigenBasis> = Vec::new();
        let mut repairs = Vec::new();
        for group in &self.0 {
            let inversion = group.inverse(rule, gamma);
            repairs.extend(inversion.repairs);
            match inversion.inverse {
                Some(ProductInverse::Factored(inverse)) => products.push(*inverse),
                Some(ProductInverse::Eigen(basis)) => bases.push(*basis),
                None => {}
            }
        }
        let groups = self.0.len();
        let inverse: Option<Arc<dyn BlockInverse>> = if products.len() == groups {
            Some(Arc::new(GroupedInverse(products)))
        } else if bases.len() == groups {
            Some(Arc::new(EigenInverse::new(bases)))
        } else {
            None
        };
        Inversion { inverse, repairs }
    }
}

impl GroupedInverse {
    const FORM: &str = "groups";
}

impl BlockInverse for GroupedInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        by_group(&v, &self.0, BlockInverse::multiply)
    }

    fn magnitudes(&self) -> Magnitudes {
        let groups = self.0.iter().map(BlockInverse::magnitudes);
        groups.fold(Magnitudes::EMPTY, Magnitudes::beside)
    }

    fn record(&self) -> Record {
        Record::new(Self::FORM).with_parts(self.0.iter().map(BlockInverse::record).collect())
    }
}

/// What `f` makes of each group's columns, side by side.
fn by_group<T>(v: &Tensor<2>, groups: &[T], f: impl Fn(&T, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let group = |(index, group): (usize, &T)| f(group, columns(v, groups.len(), index));
    Tensor::cat(groups.iter().enumerate().map(group).collect(), 1)
}
