//! The settings of the curvature and of its inverse, which both ways in share.

use super::config::{ConfigFault, CoveragePolicy};
use crate::{
    capture::{LayerOptions, Layers, ScaleShiftBlock, WeightSharing},
    curvature::{Eigenvalues, FisherEstimate, InverseStructure},
    damping::{DampingScheme, InverseKind, InverseMethod},
};

/// How the layers are found, their curvature is estimated and its inverse is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurvatureSettings<'a> {
    pub(super) fisher: FisherEstimate,
    pub(super) inverse: InverseKind,
    pub(super) eigenvalues: Eigenvalues,
    pub(super) weight_sharing: WeightSharing,
    pub(super) weight_sharing_of: &'a [(String, WeightSharing)],
    pub(super) scale_shift: ScaleShiftBlock,
    pub(super) coverage: CoveragePolicy,
}

impl CurvatureSettings<'_> {
    /// The settings that exclude each other.
    pub(super) fn check_combinations(&self, faults: &mut Vec<ConfigFault>) {
        let InverseKind {
            structure,
            damping,
            method,
        } = self.inverse;
        let exact = damping == DampingScheme::ExactTikhonov;
        if exact && method == InverseMethod::Cholesky {
            faults.push(ConfigFault::CholeskyOfExactDamping);
        }
        if exact && structure == InverseStructure::BlockTridiagonal {
            faults.push(ConfigFault::TridiagonalOfExactDamping);
        }
        if self.eigenvalues != Eigenvalues::Kronecker && !exact {
            faults.push(ConfigFault::CorrectionOfFactoredDamping);
        }
        if self.eigenvalues == Eigenvalues::BatchMean && self.fisher != FisherEstimate::MonteCarlo {
            faults.push(ConfigFault::BatchMeanOfUnsampledTargets);
        }
    }

    pub(super) fn layer_options(&self) -> LayerOptions {
        LayerOptions {
            sharing: self.weight_sharing,
            sharing_of: self.weight_sharing_of.to_vec(),
            scale_shift: self.scale_shift,
        }
    }

    /// The paths that a setting names and that no layer has.
    pub(super) fn unknown_layers(&self, layers: &Layers) -> Vec<String> {
        let known = |path: &str| layers.iter().any(|layer| layer.path == path);
        let named = self.weight_sharing_of.iter().map(|(path, _)| path);
        named.filter(|path| !known(path)).cloned().collect()
    }
}
