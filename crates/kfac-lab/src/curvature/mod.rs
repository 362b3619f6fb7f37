//! `kfac curvature`: computes the curvature of a small network given in a file, with the library that users
//! run, and compares it with what the file expects.

mod blocks;
mod build;
mod case;
mod compare;
mod network;

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kfac::{
    Batch, DampingScheme, Eigenvalues, FisherEstimate, InverseMethod, Layer, Layers, MeanLoss,
    Network, ParameterVector, PiNorm, RandomStream, ScaleShiftBlock, Tape, WeightSharing,
    blocks::{BlockOptions, Blocks, EigenInverse, FactorSet},
    curvature::{Correction, FisherEstimator, FisherInverse, exact},
};
use serde_json::{Map, Value, json};

use crate::say::say;
use crate::{
    files,
    loss::{Distribution, Loss},
    matrix,
    verdict::Verdict,
};
use blocks::{Known, block_members, ekfac_members, exact_block, in_rows, trace_pi};
use build::Builder;
pub use case::{Case, Damping, Estimator, LossName, Nested, Sharing};
pub use compare::{Comparison, Deviation};
use network::CaseNetwork;

/// The members of a result.
const MEMBERS: [&str; 6] = [
    "objective",
    "outputs",
    "gradient",
    "blocks",
    "ekfac",
    "preconditioned",
];

/// A curvature case to be computed.
#[derive(Clone, Debug)]
pub struct CurvatureOptions {
    /// The case file.
    pub case: PathBuf,
    /// Where to write the result as JSON.
    pub out: Option<PathBuf>,
}

/// Computes a case, writes it, prints the comparison.
///
/// # Errors
/// Where the file is missing or malformed, the curvature is not finite, or the case expects values of
/// which none can be compared.
pub fn run(options: &CurvatureOptions) -> Result<Verdict> {
    let case = Case::read(&options.case)?;
    let found = compute(&case).with_context(|| options.case.display().to_string())?;
    if let Some(out) = &options.out {
        files::write(out, |file| {
            serde_json::to_writer(&mut *file, &found)?;
            writeln!(file)
        })?;
    }
    let Some(expected) = &case.expected else {
        say(format_args!(
            "{}: nothing to compare: the case states no expected values",
            case.name
        ));
        return Ok(Verdict::NothingExpected);
    };
    let comparison = Comparison::new(expected, &found);
    ensure!(
        !comparison.deviations.is_empty(),
        "{}: none of the expected values could be compared: expected has none of {}",
        options.case.display(),
        MEMBERS.join(", ")
    );
    say(format_args!("{}: {comparison}", case.name));
    Ok(if comparison.passed() {
        Verdict::Agrees
    } else {
        Verdict::Deviates
    })
}

/// The curvature of a case, in the members of the format's `expected`.
///
/// # Errors
/// Where the case's numbers do not fit together, or the curvature is not finite.
pub fn compute(case: &Case) -> Result<Value> {
    let problem = Problem::new(case)?;
    let estimator = FisherEstimator::new(&problem.blocks, &problem.loss)
        .with_estimate(match case.estimator {
            Estimator::Exact => FisherEstimate::Exact,
            Estimator::Empirical => FisherEstimate::Empirical,
        })
        .with_chunk_size(problem.batch.len());
    // Neither estimate draws random numbers.
    let mut random = RandomStream::from_seed(0);
    let factors = estimator.factors(&problem.model, &problem.batch, &mut random)?;
    let curvature = Curvature {
        exact: problem.exact(case.estimator),
        gradient: problem.gradient()?,
        corrected: problem.corrected(&estimator, &factors, case.damping)?,
        factors,
        problem,
    };
    curvature.members(case.damping)
}

/// Whether the numbers of a case fit together.
///
/// # Errors
/// Where they do not.
pub(crate) fn check(case: &Case) -> Result<()> {
    Problem::new(case).map(drop)
}

/// The network of a case with its data.
struct Problem {
    model: CaseNetwork,
    loss: Distribution,
    batch: Batch<Tensor<2>>,
    blocks: Blocks,
    /// For each of the layers the index that it has in the case.
    names: Vec<String>,
    /// The shape of a case's outputs, positions first.
    output_shape: Vec<usize>,
}

impl Problem {
    fn new(case: &Case) -> Result<Self> {
        let (plain, device) = (Device::flex(), Device::flex().autodiff());
        let Some((&cases, input_shape)) = case.inputs.shape.split_first() else {
            bail!("inputs: expected a list of cases");
        };
        ensure!(cases > 0, "inputs: expected at least one case");
        let (model, owners) = Builder::build(&case.model, input_shape, &device)?;
        let inputs = matrix_of(&case.inputs, cases, &plain);
        let outputs = model
            .clone()
            .forward(inputs.clone().autodiff(), &mut Tape::off());
        let (loss, targets) = loss_and_targets(case, outputs.dims())?;
        let targets = matrix_of(&targets, cases, &plain);
        let sharing = match case.weight_sharing {
            Some(Sharing::Reduce) => WeightSharing::Reduce,
            Some(Sharing::Expand) | None => WeightSharing::Expand,
        };
        let options = BlockOptions::default()
            .with_sharing(sharing)
            .with_scale_shift(ScaleShiftBlock::Full);
        let (blocks, _) = Blocks::discover(&model, &inputs.clone().autodiff(), &options);
        let name = |layer: &Layer| {
            let index = owners.iter().position(|owner| *owner == Some(layer.weight));
            index.map(|index| index.to_string())
        };
        let names: Option<Vec<String>> = blocks.layers().iter().map(name).collect();
        let output_shape = match loss {
            Loss::CategoricalSequence { classes } => vec![outputs.dims()[1] / classes, classes],
            _ => case.targets.shape.get(1..).unwrap_or_default().to_vec(),
        };
        Ok(Self {
            names: names.context("a layer that is not in the case")?,
            batch: Batch::new(inputs.autodiff(), targets),
            model,
            loss: loss.distribution(),
            blocks,
            output_shape,
        })
    }

    fn layers(&self) -> &Layers {
        self.blocks.layers()
    }

    fn objective(&self) -> MeanLoss<'_, Distribution> {
        MeanLoss {
            layers: self.layers(),
            loss: &self.loss,
            l2: 0.0,
            chunk_size: self.batch.len(),
        }
    }

    fn gradient(&self) -> Result<(f64, ParameterVector)> {
        let parameters = self.layers().parameters(&self.model);
        Ok(self
            .objective()
            .gradient(&self.model, &parameters, &self.batch)?)
    }

    /// The diagonal blocks of the exact matrix that the estimator aims at.
    fn exact(&self, estimator: Estimator) -> faer::Mat<f64> {
        let (model, layers, loss) = (&self.model, self.layers(), &self.loss);
        let fisher = match estimator {
            Estimator::Exact => exact::fisher(model, layers, loss, &self.batch.inputs),
            Estimator::Empirical => exact::empirical_fisher(model, layers, loss, &self.batch),
        };
        let size = fisher.shape()[0];
        let values: Vec<f64> = fisher.iter::<f64>().collect();
        faer::Mat::from_fn(size, size, |i, j| values[i * size + j])
    }

    fn corrected(
        &self,
        estimator: &FisherEstimator<'_, Distribution>,
        factors: &FactorSet,
        damping: Damping,
    ) -> Result<FisherInverse> {
        let gamma = damping.lambda.sqrt();
        let rule = DampingScheme::ExactTikhonov.rule();
        let inverse = factors.damped_inverse(self.layers(), rule, InverseMethod::Eigen, gamma)?;
        let correction = Correction {
            inverse: &inverse,
            eigenvalues: Eigenvalues::PerCase,
            damping: gamma * gamma,
        };
        let mut random = RandomStream::from_seed(0);
        Ok(estimator.corrected(correction, &self.model, &self.batch, &mut random)?)
    }

    /// The network's outputs, in the shape of the targets where that has as many numbers.
    fn outputs(&self) -> Result<Value> {
        let outputs = self
            .model
            .forward(self.batch.inputs.clone(), &mut Tape::off());
        let values: Vec<f64> = matrix::values(&outputs.inner());
        let mut shape = vec![self.batch.len()];
        shape.extend_from_slice(&self.output_shape);
        let expected: usize = shape.iter().product();
        if expected != values.len() {
            shape = vec![self.batch.len(), values.len() / self.batch.len()];
        }
        nested(&values, &shape).context("outputs without a shape")
    }
}

fn matrix_of(nested: &Nested, cases: usize, device: &Device) -> Tensor<2> {
    let shape = [cases, nested.values.len() / cases];
    Tensor::from_data(
        TensorData::new(nested.values.clone(), shape),
        (device, DType::F64),
    )
}

/// The loss, and the targets as it wants them: classes become one-hot rows.
fn loss_and_targets(case: &Case, [cases, outputs]: [usize; 2]) -> Result<(Loss, Nested)> {
    let targets = &case.targets;
    let per_case = targets.values.len() / cases;
    ensure!(
        targets.shape.first() == Some(&cases),
        "targets: expected {cases} cases, found shape {:?}",
        targets.shape
    );
    let plain = |loss| {
        ensure!(
            per_case == outputs,
            "targets: expected {outputs} numbers a case, as the network has outputs, found {per_case}"
        );
        Ok((loss, targets.clone()))
    };
    match case.loss {
        LossName::Bernoulli => plain(Loss::Bernoulli),
        LossName::Gaussian => plain(Loss::Gaussian),
        LossName::SoftmaxCrossEntropy => {
            let classes = outputs / per_case.max(1);
            let mut values = vec![0.0; cases * outputs];
            for (at, class) in targets.values.iter().enumerate() {
                let class = *class as usize;
                ensure!(class < classes, "targets: class {class} of {classes}");
                values[at * classes + class] = 1.0;
            }
            let loss = if per_case == 1 {
                Loss::Categorical
            } else {
                Loss::CategoricalSequence { classes }
            };
            let shape = vec![cases, outputs];
            Ok((loss, Nested { shape, values }))
        }
    }
}

/// Numbers as nested lists of a shape.
fn nested(values: &[f64], shape: &[usize]) -> Option<Value> {
    match shape {
        [] => values.first().map(|value| json!(value)),
        [length, inner @ ..] => {
            let size = values.len() / (*length).max(1);
            let lists: Option<Vec<Value>> = values
                .chunks(size.max(1))
                .map(|part| nested(part, inner))
                .collect();
            lists.map(Value::Array)
        }
    }
}

/// All that a case asks for.
struct Curvature {
    problem: Problem,
    factors: FactorSet,
    gradient: (f64, ParameterVector),
    exact: faer::Mat<f64>,
    corrected: FisherInverse,
}

impl Curvature {
    fn members(&self, damping: Damping) -> Result<Value> {
        let (objective, gradient) = &self.gradient;
        Ok(json!({
            "objective": objective,
            "outputs": self.problem.outputs()?,
            "gradient": self.by_layer(|index| Some(in_rows(&gradient.blocks()[index]))),
            "blocks": self.blocks()?,
            "ekfac": self.ekfac()?,
            "preconditioned": self.preconditioned(damping)?,
        }))
    }

    /// The estimate of a layer's block.
    fn known(&self, index: usize) -> Option<Known<'_>> {
        Known::of(&**self.factors.blocks.get(index)?)
    }

    fn by_layer(&self, of: impl Fn(usize) -> Option<Value>) -> Value {
        let names = self.problem.names.iter().enumerate();
        let members = names.filter_map(|(index, name)| Some((name.clone(), of(index)?)));
        Value::Object(members.collect())
    }

    fn blocks(&self) -> Result<Value> {
        let layers = self.problem.layers().as_slice();
        let mut blocks = Map::new();
        for (index, name) in self.problem.names.iter().enumerate() {
            let exact = exact_block(&self.exact, layers, index)?;
            let factors = self.known(index).context("a block of another structure")?;
            let members = block_members(&layers[index], &factors, &exact);
            blocks.insert(name.clone(), Value::Object(members));
        }
        Ok(Value::Object(blocks))
    }

    fn ekfac(&self) -> Result<Value> {
        let layers = self.problem.layers().as_slice();
        let solutions = self.corrected.multiply(&self.gradient.1);
        let mut all = Map::new();
        for (index, name) in self.problem.names.iter().enumerate() {
            let inverse = self.corrected.blocks()[index].downcast();
            let Some([inverse]) = inverse.map(EigenInverse::bases) else {
                continue;
            };
            let exact = exact_block(&self.exact, layers, index)?;
            let factors = self.known(index).context("a block of another structure")?;
            let mut members = ekfac_members(&factors, inverse, &exact)?;
            let solution = in_rows(&solutions.blocks()[index]);
            members.insert("preconditioned".to_owned(), solution);
            all.insert(name.clone(), Value::Object(members));
        }
        Ok(Value::Object(all))
    }

    fn preconditioned(&self, Damping { gamma, lambda }: Damping) -> Result<Value> {
        let layers = self.problem.layers();
        let solve = |scheme: DampingScheme, gamma| {
            let method = InverseMethod::Automatic;
            let inverse = self
                .factors
                .damped_inverse(layers, scheme.rule(), method, gamma)?;
            Ok::<_, kfac::StepError>(inverse.multiply(&self.gradient.1))
        };
        let factored = solve(DampingScheme::FactoredTikhonov { pi: PiNorm::Trace }, gamma)?;
        let exact = solve(DampingScheme::ExactTikhonov, lambda.sqrt())?;
        let pi = |index: usize| self.known(index).and_then(|factors| trace_pi(&factors));
        let is_product = |index: usize| pi(index).is_some();
        Ok(json!({
            "factored_tikhonov_trace_pi": {
                "gamma": gamma,
                "pi": self.by_layer(pi),
                "layers": self.by_layer(|index| {
                    is_product(index).then(|| in_rows(&factored.blocks()[index]))
                }),
            },
            "exact": {
                "lambda": lambda,
                "layers": self.by_layer(|index| Some(in_rows(&exact.blocks()[index]))),
            },
        }))
    }
}
