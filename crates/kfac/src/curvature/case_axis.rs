//! Whether the layers of a network see the cases of a batch one after another.

use burn::tensor::Tensor;

use crate::{
    capture::{CapturedPass, LayerUses, Network, Tape},
    error::StepError,
    linalg::host,
    network::{Cases, Layer, Layers, Outputs, ParameterAction},
};

/// Inputs of a layer that differ by more than this, relative to their size, are not the same.
const TOLERANCE: f64 = 1e-3;

/// Refuses a network in which a layer does not see the cases along its first axis, each with all its
/// positions before the next: the inputs of the first and the last case have to be the same in a pass of
/// both as in a pass of its own, and so have the outputs. One case shows nothing.
///
/// # Cost
///
/// Three forward passes, of four cases in all.
///
/// # Errors
///
/// [`StepError::CaseAxis`] that names the first such layer, [`StepError::MixedCases`] for the outputs.
pub(crate) fn check_case_axis<M: Network>(
    layers: &Layers,
    model: &M,
    inputs: &M::Input,
) -> Result<(), StepError> {
    let cases = inputs.len();
    if cases < 2 {
        return Ok(());
    }
    // Without autodiff nothing that the network calls off the tape draws noise or mixes cases.
    let model = model.valid();
    let pass = |cases: &[usize]| inputs_of(layers, &model, inputs.select(cases));
    let (both, together) = pass(&[0, cases - 1]);
    let (apart, alone): (Vec<_>, Vec<_>) =
        [0, cases - 1].map(|case| pass(&[case])).into_iter().unzip();
    for (index, layer) in layers.iter().enumerate() {
        if layer.action == ParameterAction::Alone || both.layers[index].is_empty() {
            continue;
        }
        let same = |case: usize| {
            let together = features(layer, &both.layers[index], case);
            let alone = features(layer, &apart[case].layers[index], 0);
            // Inputs that are not finite are refused elsewhere, by what they make.
            together.zip(alone).is_some_and(|(together, alone)| {
                let mut groups = together.iter().zip(&alone);
                groups.all(|(together, alone)| host::agree(together, alone, TOLERANCE))
            })
        };
        if !(both.layers[index].cases() == 2 && same(0) && same(1)) {
            return Err(StepError::CaseAxis {
                layer: layer.path.clone(),
            });
        }
    }
    // Outputs without an axis of cases are refused elsewhere, by what goes with them.
    let alone = Tensor::cat(alone, 0);
    if together.dims() == alone.dims() && !host::agree(&together, &alone, TOLERANCE) {
        return Err(StepError::MixedCases);
    }
    Ok(())
}

/// What the layers see of some cases, and the outputs.
fn inputs_of<M: Network>(
    layers: &Layers,
    model: &M,
    inputs: M::Input,
) -> (CapturedPass, Tensor<2>) {
    let empty = CapturedPass::empty(layers.len(), inputs.len());
    let mut tape = Tape::recording(layers);
    let outputs = model.forward(inputs.detached(), &mut tape);
    (tape.into_inputs(empty), outputs.into_rows().inner())
}

/// The inputs of a layer at all positions of a case; `None` where it did not see that many.
fn features(layer: &Layer, uses: &LayerUses, case: usize) -> Option<Vec<Tensor<3>>> {
    (case < uses.cases()).then(|| uses.features(layer, &(case..case + 1)))
}
