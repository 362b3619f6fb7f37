//! Class indices as targets, and outputs with axes of positions.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{DType, Device, Int, Tensor},
};
use kfac::{
    Batch, Cases, Categorical, CategoricalSequence, FisherEstimate, KfacConfig, Loss, Network,
    StepError, StepReport, Tape,
};

use crate::support::{
    TwoLayers, bits, classes, dense_layer, exact_config, normal, sampled_config, trained,
    without_times,
};

const CLASSES: usize = 3;
/// Updates of λ are within them.
const STEPS: usize = 7;

fn configs() -> [KfacConfig; 4] {
    let empirical =
        exact_config().map_curvature(|curvature| curvature.with_fisher(FisherEstimate::Empirical));
    [
        exact_config(),
        sampled_config(),
        empirical,
        KfacConfig::new(),
    ]
}

fn run<M, T, L>(config: &KfacConfig, loss: L, model: &M, batch: &Batch<M::Input, T>) -> Run
where
    M: Network,
    T: Cases,
    L: Loss<M::Output, T>,
{
    let optimizer = config.init(model, loss, &batch.inputs).unwrap();
    let (_, model, reports) = trained(optimizer, model.clone(), batch, STEPS);
    (bits(&model), without_times(&reports))
}

type Run = (Vec<u64>, Vec<StepReport>);

fn one_hot<const T: usize, const O: usize>(classes: Tensor<T, Int>) -> Tensor<O> {
    classes.one_hot::<O>(CLASSES).float().cast(DType::F64)
}

/// Two dense layers at each position of any number of axes.
#[derive(Module, Debug)]
struct ByPosition<const D: usize> {
    hidden: Linear,
    last: Linear,
}

impl<const D: usize> ByPosition<D> {
    fn new() -> Self {
        Self {
            hidden: dense_layer([4, 5], 1),
            last: dense_layer([5, CLASSES], 2),
        }
    }
}

impl<const D: usize> Network for ByPosition<D> {
    type Input = Tensor<D>;
    type Output = Tensor<D>;

    fn forward(&self, inputs: Tensor<D>, tape: &mut Tape) -> Tensor<D> {
        let hidden = tape.linear(&self.hidden, inputs).tanh();
        tape.linear(&self.last, hidden)
    }
}

#[test]
fn classes_and_one_hot_rows_give_the_same_bits() {
    let inputs = normal([10, 4], 3);
    let targets: Tensor<1, Int> = classes([10], CLASSES, 4);
    let model = TwoLayers::new([4, 5, CLASSES], 1);
    let rows = Batch::new(inputs.clone(), one_hot::<1, 2>(targets.clone()));
    let indices = Batch::new(inputs, targets);
    for config in configs() {
        let expected = run(&config, Categorical, &model, &rows);
        assert_eq!(run(&config, Categorical, &model, &indices), expected);
    }
}

#[test]
fn so_do_those_of_positions() {
    let model = ByPosition::<3>::new();
    let inputs = normal([6, 2, 4], 5);
    let targets: Tensor<2, Int> = classes([6, 2], CLASSES, 6);
    let rows = Batch::new(inputs.clone(), one_hot::<2, 3>(targets.clone()));
    let indices = Batch::new(inputs, targets);
    for config in configs() {
        let expected = run(&config, Categorical, &model, &rows);
        assert_eq!(run(&config, Categorical, &model, &indices), expected);
    }
    let model = ByPosition::<4>::new();
    let inputs = normal([4, 2, 3, 4], 7);
    let targets: Tensor<3, Int> = classes([4, 2, 3], CLASSES, 8);
    let rows = Batch::new(inputs.clone(), one_hot::<3, 4>(targets.clone()));
    let indices = Batch::new(inputs, targets);
    let expected = run(&sampled_config(), Categorical, &model, &rows);
    assert_eq!(
        run(&sampled_config(), Categorical, &model, &indices),
        expected
    );
}

/// The same network with its outputs flattened, as `CategoricalSequence` takes them.
#[derive(Module, Debug)]
struct Flattened {
    inner: ByPosition<3>,
}

impl Network for Flattened {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn forward(&self, inputs: Tensor<3>, tape: &mut Tape) -> Tensor<2> {
        let outputs = self.inner.forward(inputs, tape);
        let [n, positions, classes] = outputs.dims();
        outputs.reshape([n, positions * classes])
    }
}

#[test]
fn outputs_with_positions_step_like_flattened_ones() {
    let inner = ByPosition::<3>::new();
    let inputs = normal([6, 4, 4], 9);
    let targets: Tensor<2, Int> = classes([6, 4], CLASSES, 10);
    let rows: Tensor<2> = one_hot::<2, 3>(targets.clone()).reshape([6, 4 * CLASSES]);
    let flat = Batch::new(inputs.clone(), rows);
    let ranked = Batch::new(inputs, targets);
    let loss = CategoricalSequence { classes: CLASSES };
    for config in configs() {
        let flattened = Flattened {
            inner: inner.clone(),
        };
        let expected = run(&config, loss, &flattened, &flat);
        assert_eq!(run(&config, Categorical, &inner, &ranked), expected);
    }
}

/// What a step says of targets that do not go with a network.
fn refusal<M, T>(model: &M, batch: &Batch<M::Input, T>) -> StepError
where
    M: Network,
    T: Cases,
    Categorical: Loss<M::Output, T>,
{
    let mut moved = model.clone();
    let mut optimizer = exact_config()
        .init(model, Categorical, &batch.inputs)
        .unwrap();
    let error = optimizer.step(&mut moved, batch).unwrap_err();
    assert_eq!((bits(&moved), optimizer.iteration()), (bits(model), 0));
    error
}

fn of(classes: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(classes, &Device::default())
}

#[test]
fn a_class_out_of_range_is_named() {
    let model = TwoLayers::new([4, 5, CLASSES], 1);
    for class in [3, 40, -1] {
        let batch = Batch::new(normal([3, 4], 1), of(&[0, class, 2]));
        let classes = CLASSES;
        assert_eq!(
            refusal(&model, &batch),
            StepError::ClassOutOfRange { class, classes }
        );
    }
    let model = ByPosition::<3>::new();
    let targets: Tensor<2, Int> = of(&[0, 1, 2, 7]).reshape([2, 2]);
    let batch = Batch::new(normal([2, 2, 4], 1), targets);
    let expected = StepError::ClassOutOfRange {
        class: 7,
        classes: CLASSES,
    };
    assert_eq!(refusal(&model, &batch), expected);
}

#[test]
fn wrong_numbers_of_classes_are_refused() {
    let model = TwoLayers::new([4, 5, CLASSES], 1);
    let few = Batch::new(normal([3, 4], 1), of(&[0, 1]));
    let expected = StepError::CaseCount {
        inputs: 3,
        targets: 2,
    };
    assert_eq!(refusal(&model, &few), expected);
    let model = ByPosition::<3>::new();
    let targets: Tensor<2, Int> = classes([2, 3], CLASSES, 1);
    let long = Batch::new(normal([2, 2, 4], 1), targets);
    let expected = StepError::OutputShape {
        outputs: vec![2, 2, CLASSES],
        targets: vec![2, 3],
    };
    assert_eq!(refusal(&model, &long), expected);
    let one_hot: Tensor<3> = normal([2, 2, CLASSES + 1], 1);
    let wide = Batch::new(normal([2, 2, 4], 1), one_hot);
    let expected = StepError::OutputShape {
        outputs: vec![2, 2, CLASSES],
        targets: vec![2, 2, CLASSES + 1],
    };
    assert_eq!(refusal(&model, &wide), expected);
}
