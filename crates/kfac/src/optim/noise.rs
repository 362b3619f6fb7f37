//! Whether a network is a function.

use crate::{
    capture::{Network, Tape, with_own_statistics},
    linalg::host,
    network::{Cases, Outputs},
};

/// Whether two forward passes over the first case give the same outputs, but for rounding.
pub(super) fn repeats<M: Network>(model: &M, inputs: &M::Input) -> bool {
    let outputs = || {
        let case = inputs.slice(0..1).detached();
        let outputs = with_own_statistics(model).forward(case, &mut Tape::evaluating());
        outputs.into_rows().inner()
    };
    let (first, second) = (outputs(), outputs());
    let tolerance = host::machine_epsilon(first.dtype()).sqrt();
    // Outputs that are not finite are refused elsewhere, by what they make.
    host::agree(&second, &first, tolerance)
}
