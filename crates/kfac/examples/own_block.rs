//! A block structure of your own: a dense block for each output of a layer, and nothing between outputs.
//!
//! A structure makes a block in four states: moments of a batch, an estimate, what all inverses share,
//! and the damped inverse. This one is made of the library's `FullFactors`, one for each column of the
//! layer's matrix, so that their factorisations, repairs and records serve here too.

use std::{error::Error, sync::Arc};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Distribution, Tensor, activation::tanh},
};
use kfac::{
    Batch, BlockDescription, Extensions, Gaussian, InverseMethod, KfacConfig, Layer, LayerUses,
    Network, Tape,
    blocks::{
        BlockEstimate, BlockInverse, BlockStructure, Divisor, Factor, Finish, Full, FullFactors,
        Inversion, Magnitudes, Moments, Pass, PreparedBlock, Record, RecordError,
    },
    damping::DampingRule,
};

/// `diag(E[g₁² ā āᵀ], E[g₂² ā āᵀ], …)`: where a Kronecker product has one `Ā` for all outputs, each has a
/// matrix of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByOutput;

/// The block of each output.
#[derive(Debug)]
struct Outputs(Vec<FullFactors>);

/// The same with what does not depend on γ.
#[derive(Debug)]
struct Prepared(Vec<Arc<dyn PreparedBlock>>);

/// The inverse of each output's block.
#[derive(Debug)]
struct Inverses(Vec<Arc<dyn BlockInverse>>);

impl BlockStructure for ByOutput {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let [outputs, d] = [layer.d_out, layer.activation_dimension()];
        BlockDescription {
            structure: "by output".to_owned(),
            form: format!("{outputs} blocks of {d}"),
            elements: outputs * d * d,
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, _pass: Pass) -> Moments {
        let inputs = uses.activations(layer, &(0..uses.cases())).swap_remove(0); // [n, R, d_in + 1]
        let gradients = inputs.swap_dims(1, 2).matmul(uses.output_gradients()); // [n, d_in + 1, d_out]
        let of_output = |output: usize| {
            let own = gradients.clone().slice_dim(2, output..=output);
            let own: Tensor<2> = own.squeeze_dim(2); // [n, d_in + 1]
            own.clone().transpose().matmul(own)
        };
        Moments {
            inputs: Vec::new(),
            gradients: (0..layer.d_out).map(of_output).collect(),
            divisor: Divisor::Cases,
            finish: Finish::Mean,
        }
    }

    fn estimate(&self, layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let shape = [layer.activation_dimension(); 2];
        let fits = factors.len() == layer.d_out && factors.iter().all(|f| f.dims() == shape);
        fits.then(|| -> Arc<dyn BlockEstimate> {
            Arc::new(Outputs(factors.into_iter().map(FullFactors).collect()))
        })
    }

    fn restore(
        &self,
        layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        record.expect_form("by output")?;
        let outputs = record.parts.iter().map(|part| Full.restore(layer, part));
        Ok(Arc::new(Inverses(outputs.collect::<Result<_, _>>()?)))
    }
}

impl BlockEstimate for Outputs {
    fn factors(&self) -> Vec<Factor<'_>> {
        self.0.iter().flat_map(BlockEstimate::factors).collect()
    }

    fn with_factors(&self, factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        Arc::new(Self(factors.into_iter().map(FullFactors).collect()))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        by_column(v, |output, column| self.0[output].multiply(column))
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let damped = self.0.iter().map(|block| block.damped(rule, gamma));
        let damped = damped.map(|block| block?.downcast::<FullFactors>().cloned());
        Some(Arc::new(Self(damped.collect::<Option<_>>()?)))
    }

    fn prepare(&self, rule: &dyn DampingRule, method: InverseMethod) -> Arc<dyn PreparedBlock> {
        let blocks = self.0.iter().map(|block| block.prepare(rule, method));
        Arc::new(Prepared(blocks.collect()))
    }
}

impl PreparedBlock for Prepared {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let outputs = self.0.iter().map(|block| block.invert(rule, gamma));
        // All outputs or none, with the repairs of all.
        let all = outputs.fold(Inversion::of(Vec::new()), |all, inversion| {
            all.zip(inversion).map(|(mut all, inverse)| {
                all.push(inverse);
                all
            })
        });
        all.map(|all| -> Arc<dyn BlockInverse> { Arc::new(Inverses(all)) })
    }
}

impl BlockInverse for Inverses {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        by_column(v, |output, column| self.0[output].multiply(column))
    }

    fn magnitudes(&self) -> Magnitudes {
        let outputs = self.0.iter().map(|inverse| inverse.magnitudes());
        outputs.fold(Magnitudes::EMPTY, Magnitudes::beside)
    }

    fn record(&self) -> Record {
        let parts = self.0.iter().map(|inverse| inverse.record());
        Record::new("by output").with_parts(parts.collect())
    }
}

/// What `f` makes of each column, side by side.
fn by_column(v: Tensor<2>, f: impl Fn(usize, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let column = |output: usize| f(output, v.clone().slice_dim(1, output..=output));
    Tensor::cat((0..v.dims()[1]).map(column).collect(), 1)
}

#[derive(Module, Debug)]
struct Regression {
    hidden: Linear,
    last: Linear,
}

impl Network for Regression {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let hidden = tanh(tape.linear(&self.hidden, x));
        tape.linear(&self.last, hidden)
    }
}

/// Trains a small network whose first layer has the structure above; returns the parameter table, and
/// the objective at the start and after each step.
pub(crate) fn train() -> Result<(String, Vec<f64>), Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut model = Regression {
        hidden: LinearConfig::new(3, 6).init(&device),
        last: LinearConfig::new(6, 2).init(&device),
    };
    let inputs = Tensor::random(
        [128, 3],
        Distribution::Normal(0.0, 1.0),
        &device.clone().inner(),
    );
    let sums: Tensor<2> = inputs.clone().sum_dim(1);
    let targets = Tensor::cat(vec![sums.clone().sin(), sums.cos()], 1);
    let batch = Batch::new(inputs, targets);

    let extensions = Extensions::new().with_structure("hidden", Arc::new(ByOutput));
    let mut optimizer = KfacConfig::new().init_with(extensions, &model, Gaussian, &batch.inputs)?;
    let mut objectives = vec![optimizer.objective(&model, &batch)?];
    for _ in 0..30 {
        optimizer.step(&mut model, &batch)?;
        objectives.push(optimizer.objective(&model, &batch)?);
    }
    Ok((optimizer.parameter_table().to_string(), objectives))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (table, objectives) = train()?;
    println!("{table}");
    for (step, objective) in objectives.iter().enumerate().step_by(10) {
        println!("step {step:2}: objective {objective:.4}");
    }
    Ok(())
}
