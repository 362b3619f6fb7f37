//! Seeded parameters for Burn's own modules, whose initialisation draws from a global generator.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Tensor},
};
use kfac::RandomStream;

/// The module with seeded parameters in a precision; running statistics keep their values.
///
/// The parameters are numbers of single precision, so that they are the same in either.
pub(crate) fn randomised<M: Module>(module: M, dtype: DType, seed: u64) -> M {
    let random = RandomStream::from_seed(seed);
    module.map(&mut Randomise { dtype, random })
}

struct Randomise {
    dtype: DType,
    random: RandomStream,
}

impl ModuleMapper for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let plain = old.clone().inner().cast(self.dtype);
            if !old.is_require_grad() {
                return plain.autodiff();
            }
            let new = self.random.normal_like(&plain) * 0.5;
            new.autodiff().require_grad()
        })
    }
}
