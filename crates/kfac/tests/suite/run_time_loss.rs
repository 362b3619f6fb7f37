//! A loss that is chosen at run time.

use std::sync::Arc;

use burn::tensor::Tensor;
use kfac::{
    Batch, Bernoulli, Categorical, Gaussian, Head, KfacConfig, Loss, PredictiveDistribution,
    StepReport,
};

use crate::support::{
    TwoLayers, bits, exact_config, normal, sampled_config, trained, without_times,
};

/// Updates of λ are within them.
const STEPS: usize = 7;

fn run<L>(config: &KfacConfig, loss: L) -> (Vec<u64>, Vec<StepReport>)
where
    L: Loss<Tensor<2>, Tensor<2>>,
{
    let start = TwoLayers::new([3, 4, 2], 1);
    // Probabilities that add up to one are targets of all three losses.
    let first = normal([9, 1], 3).abs() / 4.0;
    let targets = Tensor::cat(vec![first.clone(), first.neg() + 1.0], 1);
    let batch = Batch::new(normal([9, 3], 2), targets);
    let optimizer = config.init(&start, loss, &batch.inputs).unwrap();
    let (_, model, reports) = trained(optimizer, start, &batch, STEPS);
    (bits(&model), without_times(&reports))
}

fn assert_same<L: PredictiveDistribution + Copy + 'static>(loss: L) {
    for config in [exact_config(), sampled_config()] {
        let expected = run(&config, loss);
        let boxed: Box<dyn PredictiveDistribution> = Box::new(loss);
        assert_eq!(run(&config, boxed), expected, "{loss:?} in a box");
        let shared: Arc<dyn PredictiveDistribution> = Arc::new(loss);
        assert_eq!(run(&config, shared), expected, "{loss:?}, shared");
        let borrowed: &dyn PredictiveDistribution = &loss;
        assert_eq!(run(&config, borrowed), expected, "{loss:?}, borrowed");
    }
}

#[test]
fn a_loss_chosen_at_run_time_gives_the_same_bits() {
    assert_same(Bernoulli);
    assert_same(Categorical);
    assert_same(Gaussian);
}

#[test]
fn so_does_one_of_a_head() {
    type Chosen = Head<Box<dyn PredictiveDistribution>>;
    let boxed: Chosen = Head::new("only", Box::new(Bernoulli));
    let fixed = Head::new("only", Bernoulli);
    let outputs = (normal([4, 3], 1), normal([4, 3], 2));
    let targets = (normal([4, 3], 3), normal([4, 3], 4));
    let fixed = (fixed.clone(), fixed);
    let other: Chosen = Head::new("only", Box::new(Bernoulli));
    let chosen = (boxed, other);
    let expected = fixed.value(outputs.clone(), targets.clone()).to_data();
    assert_eq!(chosen.value(outputs, targets).to_data(), expected);
}
