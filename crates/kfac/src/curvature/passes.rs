//! The forward and backward passes over a batch that the factors are made from (section 5).

use burn::tensor::Tensor;

use super::estimate::FisherEstimate;
use crate::{
    blocks::{Blocks, GradientKind, Pass},
    capture::{CapturedPass, Network, Tape, with_own_statistics},
    error::StepError,
    loss::{Likelihood, Loss},
    network::{Batch, Cases, Layers, Outputs, Parts, detached, device_of, map_rows},
    random::RandomStream,
};

/// No more positions than this are not cut: the second moments of each part are added to those of the
/// others, which is as much work as those of hundreds of positions are.
const UNCUT_POSITIONS: usize = 1024;

/// And no more cases than this.
const UNCUT_CASES: usize = 64;

/// Passes over single batches.
pub(crate) struct Passes<'a, L, O, T> {
    pub(crate) blocks: &'a Blocks,
    pub(crate) loss: &'a L,
    pub(crate) estimate: FisherEstimate,
    /// Targets sampled for each case.
    pub(crate) samples: usize,
    /// At most so many cases are passed through at once.
    pub(crate) chunk_size: usize,
    /// The loss of the targets, which weighs the cases; `None` where the targets are not those of a loss.
    pub(crate) given: Option<&'a dyn Loss<O, T>>,
}

/// A forward pass that waits for its output gradients.
struct Forward {
    tape: Tape,
    cases: usize,
    /// The outputs, with autodiff.
    rows: Tensor<2>,
}

impl<L: Likelihood<O>, O: Outputs, T: Cases> Passes<'_, L, O, T> {
    /// Passes over a batch, each handed to `take` as it is made.
    ///
    /// # Errors
    ///
    /// [`StepError`] where the targets do not go with the outputs, or the empirical estimate's are not of
    /// the loss at all.
    pub(crate) fn over<M: Network<Output = O>>(
        &self,
        model: &M,
        batch: &Batch<M::Input, T>,
        random: &mut RandomStream,
        mut take: impl FnMut(CapturedPass, Pass),
    ) -> Result<(), StepError> {
        // Parameters that need no gradient spare the backward pass half of its products.
        let model = if self.blocks.layers().normalises() {
            with_own_statistics(model).no_grad()
        } else {
            model.clone().no_grad()
        };
        let parts = self.parts(&model, batch);
        // All cases for a sample before the next: whatever the parts, a case's draws are the same.
        for sample in 0..self.samples() {
            for group in parts.groups(batch) {
                let round = Round {
                    layers: self.blocks.layers(),
                    parts: &parts,
                    model: &model,
                    group: &group,
                };
                self.over_group(&round, sample, random, &mut take)?;
            }
        }
        Ok(())
    }

    /// Targets of each case that are gone through.
    fn samples(&self) -> usize {
        match self.estimate {
            FisherEstimate::MonteCarlo => self.samples.max(1),
            FisherEstimate::Exact | FisherEstimate::Empirical => 1,
        }
    }

    /// A parameter on its own shows its gradient only summed over cases; the square of a sum is the sum
    /// of squares, in the mean, for sampled targets only.
    fn parts<M: Network>(&self, model: &M, batch: &Batch<M::Input, T>) -> Parts {
        let device = device_of(model);
        let sampled = self.estimate == FisherEstimate::MonteCarlo;
        if !sampled && self.blocks.layers().has_parameters_alone() {
            Parts::of_single_cases(&device)
        } else {
            Parts::beyond(self.uncut(), batch.len(), self.chunk_size, &device)
        }
    }

    /// How many cases are not cut: fewer where they have many positions.
    fn uncut(&self) -> usize {
        let sizes = self.blocks.iter().map(|(layer, structure)| {
            let elements = structure.describe(layer).elements;
            [elements * layer.positions, elements]
        });
        let [used, all] = sizes.fold([0, 0], |[a, b], [used, all]| [a + used, b + all]);
        // The positions of a case, of the larger blocks above all.
        let positions = used.div_ceil(all.max(1)).max(1);
        (UNCUT_POSITIONS / positions).max(UNCUT_CASES)
    }

    fn over_group<M: Network<Output = O>>(
        &self,
        round: &Round<'_, M, T>,
        sample: usize,
        random: &mut RandomStream,
        take: &mut impl FnMut(CapturedPass, Pass),
    ) -> Result<(), StepError> {
        let pass = |first, gradients| Pass { first, gradients };
        match self.estimate {
            FisherEstimate::MonteCarlo => {
                let kind = pass(sample == 0, GradientKind::Sampled { sample });
                let seed = |outputs: O, part: &Batch<M::Input, T>| {
                    self.check(kind, &outputs, &part.targets)?;
                    let gradient = self.loss.sampled_gradient(outputs, random);
                    let gradient = of_samples(self.samples, gradient);
                    Ok(self.root_weighted(gradient, &part.targets))
                };
                round.run(seed, |captured| take(captured, kind))?;
            }
            FisherEstimate::Empirical => {
                let loss = self.given.ok_or(StepError::EmpiricalOfOwnObjective)?;
                let kind = pass(true, GradientKind::Given);
                let seed = |outputs: O, part: &Batch<M::Input, T>| {
                    self.check(kind, &outputs, &part.targets)?;
                    Ok(loss.empirical_gradient(outputs, part.targets.clone()))
                };
                round.run(seed, |captured| take(captured, kind))?;
            }
            FisherEstimate::Exact => {
                let mut column = 0;
                loop {
                    // Burn's graph cannot be walked twice, so each column has a forward pass of its own.
                    let kind = pass(column == 0, GradientKind::Given);
                    let seed = |outputs: O, part: &Batch<M::Input, T>| {
                        self.check(kind, &outputs, &part.targets)?;
                        let unit = unit(&outputs, column);
                        let product = self.loss.factor_product(outputs, unit);
                        Ok(self.root_weighted(product, &part.targets))
                    };
                    let d_out = round.run(seed, |captured| take(captured, kind))?;
                    column += 1;
                    if column >= d_out {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Refuses outputs that the loss cannot have, and targets that do not go with them, in the first pass over
    /// their cases.
    fn check(&self, kind: Pass, outputs: &O, targets: &T) -> Result<(), StepError> {
        if kind.first {
            self.loss.check_outputs(outputs)?;
        }
        match self.given {
            Some(loss) if kind.first => loss.check(outputs, targets),
            _ => Ok(()),
        }
    }

    /// Vectors in the space of the outputs, weighted as the targets weigh their cases.
    fn root_weighted(&self, vectors: O, targets: &T) -> O {
        match self.given {
            Some(loss) => loss.root_weighted(vectors, targets),
            None => vectors,
        }
    }
}

/// The gradient of one of several samples: the sum of their second moments is then the mean.
fn of_samples<O: Outputs>(samples: usize, gradient: O) -> O {
    if samples <= 1 {
        return gradient;
    }
    map_rows(gradient, |rows| rows / (samples as f64).sqrt())
}

/// Ones in a column of the outputs' rows, zeros elsewhere.
fn unit<O: Outputs>(outputs: &O, column: usize) -> O {
    let zeros = outputs.clone().into_rows().zeros_like();
    let [n, _] = zeros.dims();
    outputs.with_rows(zeros.slice_fill([0..n, column..column + 1], 1.0))
}

/// The parts of a batch that are evaluated at once.
struct Round<'a, M: Network, T> {
    layers: &'a Layers,
    parts: &'a Parts,
    model: &'a M,
    group: &'a [Batch<M::Input, T>],
}

impl<M: Network, T: Cases> Round<'_, M, T> {
    /// One forward and backward pass of each part with the tape on; returns the number of outputs.
    ///
    /// The forward passes run at once, and so do the backward passes. What seeds these is made one part
    /// after another, so that random numbers come in the order of the cases.
    fn run(
        &self,
        mut seed: impl FnMut(M::Output, &Batch<M::Input, T>) -> Result<M::Output, StepError>,
        take: impl FnMut(CapturedPass),
    ) -> Result<usize, StepError> {
        let layers = self.layers;
        let inputs = self.group.iter();
        let inputs = inputs.map(|part| (self.model.clone(), part.inputs.clone()));
        let forward = self.parts.at_once(inputs.collect(), |(model, inputs)| {
            forward::<M>(layers, &model, inputs)
        });
        let d_out = forward.first().map_or(0, |(pass, _)| pass.rows.dims()[1]);
        let seeded: Result<Vec<_>, StepError> = forward
            .into_iter()
            .zip(self.group)
            .map(|((pass, outputs), part)| Ok((pass, seed(outputs, part)?)))
            .collect();
        let captured = self
            .parts
            .at_once(seeded?, |(pass, seed)| backward(layers, pass, seed));
        captured.into_iter().for_each(take);
        Ok(d_out)
    }
}

/// A forward pass, and its outputs without autodiff.
fn forward<M: Network>(layers: &Layers, model: &M, inputs: M::Input) -> (Forward, M::Output) {
    let cases = inputs.len();
    let mut tape = Tape::recording(layers);
    let (rows, outputs) = detached(model.forward(inputs, &mut tape));
    (Forward { tape, cases, rows }, outputs)
}

fn backward<O: Outputs>(layers: &Layers, pass: Forward, seed: O) -> CapturedPass {
    let empty = CapturedPass::empty(layers.len(), pass.cases);
    if !pass.rows.is_tracked() {
        // No recorded layer reaches the outputs.
        return empty;
    }
    let seed = seed.into_rows().autodiff();
    let mut gradients = (pass.rows * seed).sum().backward();
    pass.tape.into_pass(&mut gradients, empty)
}
