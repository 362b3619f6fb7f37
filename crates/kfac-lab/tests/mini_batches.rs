//! Does the loop of the README train the networks of the command, on mini-batches of every size?

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use kfac::{Network, Tape};
use kfac_lab::{
    data::FashionPart,
    network::Model,
    precision::Precision,
    task::{Rows, Task, TaskName},
};

#[path = "../../kfac/examples/mini_batches.rs"]
#[expect(dead_code, reason = "the example's own network is another one")]
mod mini_batches;

/// Parts of the test cases that are classified correctly after an epoch of 2000 cases, which is 62 steps of batches of
/// 32, 15 of 128 and 3 of 512: guessing has 0.1.
const LEAST: [(usize, f64); 3] = [(32, 0.55), (128, 0.4), (512, 0.15)];

fn batches(rows: &Rows, size: usize, device: &Device) -> Vec<(Tensor<2>, Tensor<1, Int>)> {
    let all: Vec<usize> = (0..rows.len()).collect();
    // The classes of the embedded part come in no order.
    let parts = all.chunks_exact(size);
    let batch = |part: &[usize]| {
        let batch = rows.batch(part, (device, Precision::F32));
        (batch.inputs, batch.targets.argmax(1).squeeze_dim(1))
    };
    parts.map(batch).collect()
}

/// With batch normalisations as in training: their running statistics move by a tenth a step, and have not arrived after
/// 15 of them.
fn accuracy(model: &Model, rows: &Rows, device: &Device) -> f64 {
    let mut correct = 0;
    for (inputs, classes) in batches(rows, 100, device) {
        let outputs = model.forward(inputs, &mut Tape::off());
        let found: Tensor<1, Int> = outputs.argmax(1).squeeze_dim(1);
        correct += found.equal(classes).int().sum().into_scalar::<i64>();
    }
    correct as f64 / rows.len() as f64
}

#[test]
fn the_readmes_loop_trains_every_network_on_batches_of_every_size() {
    let device = Device::flex().autodiff();
    for name in [
        TaskName::FashionLenet,
        TaskName::FashionEncoder,
        TaskName::FashionResnet20,
    ] {
        let task = Task::new(name);
        let data = task.load(Path::new(""), FashionPart::Embedded, 1).unwrap();
        for (size, least) in LEAST {
            let place = (&device, Precision::F32);
            let model = task.architecture.build((None, 1), place).unwrap();
            let model = mini_batches::train(model, &batches(&data.train, size, &device)).unwrap();
            let values = model.values();
            assert!(
                values.iter().all(|value| value.is_finite()),
                "{name:?}, {size}"
            );
            let accuracy = accuracy(&model, &data.test, &device);
            println!("{name:?}, batches of {size}: {accuracy}");
            assert!(accuracy > least, "{name:?}, batches of {size}: {accuracy}");
        }
    }
}
