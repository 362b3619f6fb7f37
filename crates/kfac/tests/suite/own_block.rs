//! Block structures of the user's own, and the library's for layers that have another by default.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use faer::{Mat, linalg::solvers::DenseSolveCore};
use kfac::{
    Batch, BlockDescription, Categorical, Coverage, Extensions, FactorKind, FisherEstimate,
    Gaussian, InitError, InverseMethod, Kfac, Layer, LayerUses, RandomStream, StepError,
    blocks::{
        BlockEstimate, BlockInverse, BlockOptions, BlockStructure, Blocks, Diagonal, Divisor,
        Factor, FactorForm, Finish, Full, Inversion, Magnitudes, Moments, Pass, PreparedBlock,
        Record, RecordError, SummedDiagonal,
    },
    curvature::FisherEstimator,
    damping::DampingRule,
};

use crate::support::{
    Fault, Faulty, ROUNDING, SEVERAL_POSITIONS, SEVERAL_TOKENS, Several, TwoLayers, assert_close,
    blocks_of, classes, column, dense, diagonal_blocks, exact, exact_config, normal, relative,
    trained,
};

/// The full block of a dense layer with one position a case, made from scratch, and inverted by elimination.
#[derive(Debug)]
struct OwnFull;

#[derive(Clone, Debug)]
struct OwnBlock(Tensor<2>);

#[derive(Debug)]
struct OwnInverse(Tensor<2>);

impl BlockStructure for OwnFull {
    fn describe(&self, layer: &Layer) -> BlockDescription {
        let size = layer.activation_dimension() * layer.d_out;
        BlockDescription {
            structure: "own".to_owned(),
            form: format!("own, of {size}"),
            elements: size * size,
        }
    }

    fn moments(&self, layer: &Layer, uses: &LayerUses, _pass: Pass) -> Moments {
        let inputs = uses.activations(layer, &(0..uses.cases())).swap_remove(0);
        let [n, _, d] = inputs.dims();
        let gradients = inputs.swap_dims(1, 2) * uses.output_gradients(); // [n, d_in + 1, d_out]
        let rows: Tensor<2> = gradients.reshape([n, d * layer.d_out]);
        Moments {
            inputs: Vec::new(),
            gradients: vec![rows.clone().transpose().matmul(rows)],
            divisor: Divisor::Cases,
            finish: Finish::Mean,
        }
    }

    fn estimate(&self, _layer: &Layer, factors: Vec<Tensor<2>>) -> Option<Arc<dyn BlockEstimate>> {
        let [block] = factors.try_into().ok()?;
        Some(Arc::new(OwnBlock(block)))
    }

    fn restore(
        &self,
        _layer: &Layer,
        record: &Record,
    ) -> Result<Arc<dyn BlockInverse>, RecordError> {
        record.expect_form("own")?;
        Ok(Arc::new(OwnInverse(record.tensor("inverse")?)))
    }
}

impl BlockEstimate for OwnBlock {
    fn factors(&self) -> Vec<Factor<'_>> {
        vec![Factor {
            kind: FactorKind::Block,
            form: FactorForm::SecondMoment,
            tensor: &self.0,
        }]
    }

    fn with_factors(&self, mut factors: Vec<Tensor<2>>) -> Arc<dyn BlockEstimate> {
        Arc::new(Self(factors.swap_remove(0)))
    }

    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        times(&self.0, v)
    }

    fn damped(&self, rule: &dyn DampingRule, gamma: f64) -> Option<Arc<dyn BlockEstimate>> {
        let eye = Tensor::<2>::eye(self.0.dims()[0], &self.0.device()).cast(self.0.dtype());
        Some(Arc::new(Self(self.0.clone() + eye * rule.block(gamma))))
    }

    fn prepare(&self, _rule: &dyn DampingRule, _method: InverseMethod) -> Arc<dyn PreparedBlock> {
        Arc::new(self.clone())
    }
}

impl PreparedBlock for OwnBlock {
    fn pi(&self) -> f64 {
        1.0
    }

    fn invert(&self, rule: &dyn DampingRule, gamma: f64) -> Inversion<Arc<dyn BlockInverse>> {
        let mut damped = dense(&self.0);
        for i in 0..damped.nrows() {
            damped[(i, i)] += rule.block(gamma);
        }
        let inverse = damped.partial_piv_lu().inverse();
        let size = inverse.nrows();
        let values: Vec<f64> = (0..size * size)
            .map(|at| inverse[(at / size, at % size)])
            .collect();
        let data = TensorData::new(values, [size, size]);
        let place = (&self.0.device(), self.0.dtype());
        Inversion::of(Arc::new(OwnInverse(Tensor::from_data(data, place))))
    }
}

impl BlockInverse for OwnInverse {
    fn multiply(&self, v: Tensor<2>) -> Tensor<2> {
        times(&self.0, v)
    }

    fn magnitudes(&self) -> Magnitudes {
        Magnitudes::EMPTY
    }

    fn record(&self) -> Record {
        Record::new("own").with_tensor("inverse", &self.0)
    }
}

fn times(matrix: &Tensor<2>, v: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = v.dims();
    let product = matrix.clone().matmul(v.reshape([rows * columns, 1]));
    product.reshape([rows, columns])
}

fn batch() -> Batch<Tensor<2>> {
    Batch::new(normal([12, 3], 1), normal([12, 2], 2))
}

fn optimizer(structure: Arc<dyn BlockStructure>, model: &TwoLayers) -> Kfac<Gaussian> {
    let extensions = Extensions::new().with_structure("hidden", structure);
    let config = exact_config();
    config
        .init_with(extensions, model, Gaussian, &batch().inputs)
        .unwrap()
}

/// Six steps multiply the rounding of two ways to invert by the condition of the damped blocks, below 10⁴
/// with γ² above 0.1.
const STEPS: f64 = 1e-9;

#[test]
fn a_full_block_of_the_users_own_steps_like_the_librarys() {
    let start = TwoLayers::new([3, 4, 2], 3);
    let run = |structure| {
        let (optimizer, model, _) =
            trained(optimizer(structure, &start), start.clone(), &batch(), 6);
        column(&optimizer.layers().parameters(&model))
    };
    let (own, full) = (run(Arc::new(OwnFull)), run(Arc::new(Full)));
    assert_close("six steps", &own, &full, STEPS);
    let plain = exact_config()
        .init(&start, Gaussian, &batch().inputs)
        .unwrap();
    let (plain, model, _) = trained(plain, start.clone(), &batch(), 6);
    let kronecker = column(&plain.layers().parameters(&model));
    assert!(
        relative(&full, &kronecker) > 1e-3,
        "the structure makes no difference"
    );
}

#[test]
fn a_structure_of_the_users_own_is_in_the_parameter_table() {
    let model = TwoLayers::new([3, 4, 2], 3);
    let optimizer = optimizer(Arc::new(OwnFull), &model);
    let rows = optimizer.parameter_table().rows().iter();
    let described: Vec<_> = rows
        .map(|row| match &row.coverage {
            Coverage::Block(block) => block.description.form.as_str(),
            other => panic!("{}: {other}", row.path),
        })
        .collect();
    assert_eq!(
        described,
        [
            "own, of 16",
            "own, of 16",
            "factors 5 and 2",
            "factors 5 and 2"
        ]
    );
}

#[test]
fn a_structure_for_no_layer_is_refused() {
    let extensions = Extensions::new().with_structure("hiden", Arc::new(OwnFull));
    let model = TwoLayers::new([3, 4, 2], 3);
    let refused = exact_config().init_with(extensions, &model, Gaussian, &batch().inputs);
    let paths = vec!["hiden".to_owned()];
    assert_eq!(refused.unwrap_err(), InitError::UnknownLayers { paths });
}

#[test]
fn a_structure_without_a_block_is_named() {
    let mut model = TwoLayers::new([3, 4, 2], 3);
    let broken = Faulty {
        of: Arc::new(OwnFull),
        fault: Fault::NoBlock,
    };
    let mut optimizer = optimizer(Arc::new(broken), &model);
    let error = optimizer.step(&mut model, &batch()).unwrap_err();
    let layer = "hidden".to_owned();
    assert_eq!(error, StepError::NoBlock { layer });
}

/// The blocks of all layers with one structure, and the exact Fisher's.
fn of_structure(structure: Arc<dyn BlockStructure>, cases: usize) -> [Vec<Mat<f64>>; 2] {
    let model = Several::new();
    let tokens: Tensor<2, Int> = classes([cases, SEVERAL_POSITIONS], SEVERAL_TOKENS, 4);
    let targets: Tensor<2, Int> = classes([cases, SEVERAL_POSITIONS - 1], 3, 5);
    let batch = Batch::new(tokens, targets);
    let mut options = BlockOptions::default();
    for path in ["embedding", "grouped", "normalisation", "dense"] {
        options
            .structure_of
            .push((path.to_owned(), structure.clone()));
    }
    let (blocks, _) = Blocks::discover(&model, &batch.inputs, &options);
    let estimator =
        FisherEstimator::new(&blocks, &Categorical).with_estimate(FisherEstimate::Exact);
    let random = &mut RandomStream::from_seed(1);
    let factors = estimator.factors(&model, &batch, random).unwrap();
    let dense = exact::fisher(&model, blocks.layers(), &Categorical, &batch);
    [
        blocks_of(&factors, blocks.layers()),
        diagonal_blocks(&dense, blocks.layers()),
    ]
}

#[test]
fn the_full_block_of_every_layer_is_the_exact_one() {
    let [actual, expected] = of_structure(Arc::new(Full), 6);
    assert_eq!(actual.len(), 4);
    for (layer, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        assert_close(&format!("layer {layer}"), actual, expected, ROUNDING);
    }
}

#[test]
fn the_diagonal_block_of_every_layer_is_the_exact_ones_diagonal() {
    let diagonal = |block: &Mat<f64>| {
        Mat::from_fn(block.nrows(), block.ncols(), |i, j| {
            if i == j { block[(i, i)] } else { 0.0 }
        })
    };
    let structures: [Arc<dyn BlockStructure>; 2] = [Arc::new(Diagonal), Arc::new(SummedDiagonal)];
    for structure in structures {
        let [actual, expected] = of_structure(structure.clone(), 6);
        for (layer, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            let what = format!("{structure:?}, layer {layer}");
            assert_close(&what, actual, &diagonal(expected), ROUNDING);
        }
    }
}
