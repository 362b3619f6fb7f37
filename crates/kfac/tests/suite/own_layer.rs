//! Layers of the user's own: a low-rank adapter beside a frozen layer, and weights stored in any order.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Tensor, activation::sigmoid},
};
use kfac::{
    Batch, Bernoulli, Coverage, Gaussian, KfacConfig, LayerParameters, Loss, Network,
    ParameterTable, ParameterVector, Tape, WeightLayout,
};

use crate::support::{
    ROUNDING, assert_close, bits, column, dense_layer, diagonal_blocks, exact, exact_blocks,
    exact_config, normal, own_blocks, parameter, relative, trained,
};

/// `x W + b + x A B` with a frozen `W`.
#[derive(Module, Debug)]
struct Adapter {
    frozen: Linear,
    down: Param<Tensor<2>>,
    up: Param<Tensor<2>>,
}

impl Adapter {
    fn new([d_in, rank, d_out]: [usize; 3]) -> Self {
        Self {
            frozen: dense_layer([d_in, d_out], 1).no_grad(),
            down: parameter([d_in, rank], 0.5, 2),
            up: parameter([rank, d_out], 0.5, 3),
        }
    }

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let low = product(tape, &self.down, x.clone());
        self.frozen.forward(x) + product(tape, &self.up, low)
    }
}

fn product(tape: &mut Tape, weight: &Param<Tensor<2>>, x: Tensor<2>) -> Tensor<2> {
    let parameters = LayerParameters {
        name: "adapter",
        weight,
        bias: None,
        layout: WeightLayout::InputsFirst,
        shape: weight.dims(),
    };
    let rows = |x: Tensor<2>| x.inner().unsqueeze_dim(1);
    tape.layer(parameters, x, |x| x.matmul(weight.val()), rows)
}

/// An adapter, and a dense layer behind it unless the network is to be linear.
#[derive(Module, Debug)]
struct Adapted {
    adapter: Adapter,
    last: Option<Linear>,
}

impl Adapted {
    fn linear() -> Self {
        Self {
            adapter: Adapter::new([4, 2, 3]),
            last: None,
        }
    }

    fn curved() -> Self {
        Self {
            adapter: Adapter::new([4, 2, 3]),
            last: Some(dense_layer([3, 2], 4)),
        }
    }
}

impl Network for Adapted {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let adapted = self.adapter.forward(x, tape);
        match &self.last {
            Some(last) => tape.linear(last, adapted.tanh()),
            None => adapted,
        }
    }
}

/// The relative error of each layer's block against the exact Fisher's.
fn block_errors<L>(loss: &L, model: &Adapted, batch: &Batch<Tensor<2>>) -> Vec<f64>
where
    L: Loss<Tensor<2>, Tensor<2>>,
{
    let blocks = own_blocks(model, &batch.inputs);
    let dense = exact::fisher(model, blocks.layers(), loss, batch);
    let expected = diagonal_blocks(&dense, blocks.layers());
    let actual = exact_blocks(&blocks, loss, model, batch);
    let pairs = actual.iter().zip(&expected);
    pairs
        .map(|(actual, expected)| relative(actual, expected))
        .collect()
}

#[test]
fn blocks_of_an_adapter_are_exact_where_theory_says_so() {
    let one_case = Batch::new(normal([1, 4], 5), sigmoid(normal([1, 2], 6)));
    let errors = block_errors(&Bernoulli, &Adapted::curved(), &one_case);
    assert_eq!(errors.len(), 3);
    assert!(errors.iter().all(|error| *error < ROUNDING), "{errors:?}");
    // The output gradients of a linear network under squared error do not depend on the case.
    let cases = Batch::new(normal([7, 4], 7), normal([7, 3], 8));
    let errors = block_errors(&Gaussian, &Adapted::linear(), &cases);
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| *error < ROUNDING), "{errors:?}");
    // Elsewhere the factorisation is off by far more than rounding: the comparisons can fail.
    let cases = Batch::new(normal([7, 4], 7), sigmoid(normal([7, 2], 8)));
    let errors = block_errors(&Bernoulli, &Adapted::curved(), &cases);
    assert!(errors[0] > 1e-3, "{errors:?}");
}

/// The paths with a block, each with the index of its layer, and the paths that are frozen.
fn covered(table: &ParameterTable) -> (Vec<(&str, usize)>, Vec<&str>) {
    let mut blocks = Vec::new();
    let mut frozen = Vec::new();
    for row in table.rows() {
        match &row.coverage {
            Coverage::Block(block) => blocks.push((row.path.as_str(), block.layer)),
            Coverage::Frozen => frozen.push(row.path.as_str()),
            other => panic!("{}: {other}", row.path),
        }
    }
    (blocks, frozen)
}

#[test]
fn both_matrices_of_an_adapter_are_in_the_parameter_table() {
    let model = Adapted::curved();
    let optimizer = KfacConfig::new()
        .init(&model, Gaussian, &normal([1, 4], 1))
        .unwrap();
    let (blocks, frozen) = covered(optimizer.parameter_table());
    let expected = [
        ("adapter.down", 0),
        ("adapter.up", 1),
        ("last.weight", 2),
        ("last.bias", 2),
    ];
    assert_eq!(blocks, expected);
    assert_eq!(frozen, ["adapter.frozen.weight", "adapter.frozen.bias"]);
    let layers = optimizer.layers().iter();
    let paths: Vec<_> = layers.map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["adapter.down", "adapter.up", "last"]);
}

#[test]
fn an_adapter_learns_and_its_frozen_layer_stays() {
    let start = Adapted::curved();
    let batch = Batch::new(normal([20, 4], 9), normal([20, 2], 10));
    let optimizer = exact_config()
        .init(&start, Gaussian, &batch.inputs)
        .unwrap();
    let before = optimizer.objective(&start, &batch).unwrap();
    let (optimizer, model, _) = trained(optimizer, start.clone(), &batch, 10);
    let after = optimizer.objective(&model, &batch).unwrap();
    assert!(after < 0.9 * before, "{before} -> {after}");
    assert_eq!(bits(&model.adapter.frozen), bits(&start.adapter.frozen));
    assert_ne!(bits(&model.adapter.down), bits(&start.adapter.down));
    assert_ne!(bits(&model.adapter.up), bits(&start.adapter.up));
}

/// A dense layer of four inputs and three outputs whose weight is stored in some order of four axes, and
/// a dense layer behind it.
#[derive(Module, Debug)]
struct Stored {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    last: Linear,
    #[module(skip)]
    layout: WeightLayout,
}

const INPUTS: usize = 4;
const OUTPUTS: usize = 3;

impl Stored {
    /// The network of the same function for each layout.
    fn new(layout: WeightLayout) -> Self {
        let weight: Tensor<2> = normal([INPUTS, OUTPUTS], 1);
        let stored: Tensor<4> = match layout {
            WeightLayout::InputsFirst => weight.reshape([2, 2, OUTPUTS, 1]),
            WeightLayout::OutputsFirst => weight.transpose().reshape([OUTPUTS, 1, 2, 2]),
            // The places of the matrix are the axes 2, 0, 3 and 1.
            _ => weight.reshape([2, 2, OUTPUTS, 1]).permute([1, 3, 0, 2]),
        };
        Self {
            weight: Param::from_tensor(stored.autodiff()),
            bias: parameter([OUTPUTS], 0.3, 2),
            last: dense_layer([OUTPUTS, 2], 3),
            layout,
        }
    }

    fn matrix(&self) -> Tensor<2> {
        let stored = self.weight.val();
        match self.layout {
            WeightLayout::InputsFirst => stored.reshape([INPUTS, OUTPUTS]),
            WeightLayout::OutputsFirst => stored.reshape([OUTPUTS, INPUTS]).transpose(),
            _ => stored.permute([2, 0, 3, 1]).reshape([INPUTS, OUTPUTS]),
        }
    }
}

const PERMUTED: WeightLayout = WeightLayout::Permuted {
    shape: [2, 1, 2, OUTPUTS],
    order: [2, 0, 3, 1],
};

impl Network for Stored {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let parameters = LayerParameters {
            name: "stored",
            weight: &self.weight,
            bias: Some(&self.bias),
            layout: self.layout,
            shape: [INPUTS, OUTPUTS],
        };
        let forward = |x: Tensor<2>| x.matmul(self.matrix()) + self.bias.val().unsqueeze();
        let rows = |x: Tensor<2>| x.inner().unsqueeze_dim(1);
        let hidden = tape.layer(parameters, x, forward, rows).tanh();
        tape.linear(&self.last, hidden)
    }
}

#[test]
fn factors_and_steps_do_not_depend_on_how_a_weight_is_stored() {
    let batch = Batch::new(normal([9, INPUTS], 4), normal([9, 2], 5));
    let run = |layout| {
        let start = Stored::new(layout);
        let optimizer = exact_config()
            .init(&start, Gaussian, &batch.inputs)
            .unwrap();
        let (optimizer, model, _) = trained(optimizer, start.clone(), &batch, 4);
        let factors = optimizer.factors().kronecker().into_iter();
        let factors = factors.flat_map(|own| [own.activation.clone(), own.gradient.clone()]);
        let layers = optimizer.layers();
        [
            column(&layers.parameters(&start)),
            column(&ParameterVector::new(factors.collect())),
            column(&layers.parameters(&model)),
        ]
    };
    let expected = run(WeightLayout::InputsFirst);
    assert!(
        relative(&expected[2], &expected[0]) > 1e-2,
        "nothing was learned"
    );
    for layout in [WeightLayout::OutputsFirst, PERMUTED] {
        let actual = run(layout);
        for (what, at, tolerance) in [
            ("start", 0, 0.0),
            ("factors", 1, STEPS),
            ("steps", 2, STEPS),
        ] {
            assert_close(
                &format!("{layout:?}, {what}"),
                &actual[at],
                &expected[at],
                tolerance,
            );
        }
    }
}

/// Products with a transposed operand sum in another order; four steps multiply rounding by the condition
/// of the damped factors and of the 2 × 2 systems, below a thousand here.
const STEPS: f64 = 1e-9;
