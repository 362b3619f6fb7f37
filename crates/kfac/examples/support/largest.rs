//! A task for learners: which of eight numbers is the largest?

use std::{ops::Range, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher},
        dataset::InMemDataset,
    },
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, Int, Tensor},
    train::ClassificationOutput,
};
use kfac::{Batch, RandomStream};

pub(crate) const NUMBERS: usize = 8;

pub(crate) type Item = Batch<Tensor<2>, Tensor<1, Int>>;

/// Makes the cases of a batch, each of its own seed.
pub(crate) struct Cases;

impl Batcher<u64, Item> for Cases {
    fn batch(&self, seeds: Vec<u64>, device: &Device) -> Item {
        let like = Tensor::<2>::zeros([1, NUMBERS], device);
        let case = |&seed| RandomStream::from_seed(seed).normal_like(&like);
        let numbers = Tensor::cat(seeds.iter().map(case).collect(), 0); // [n, 8]
        Batch::new(numbers.clone(), numbers.argmax(1).squeeze_dim(1))
    }
}

/// Batches of 256 cases.
pub(crate) fn loader(seeds: Range<u64>) -> Arc<dyn DataLoader<Item>> {
    let loader = DataLoaderBuilder::new(Cases).batch_size(256).shuffle(1);
    loader.build(InMemDataset::new(seeds.collect()))
}

/// The cross entropy, and what Burn's metrics of classifications read.
pub(crate) fn judge(logits: Tensor<2>, classes: Tensor<1, Int>) -> ClassificationOutput {
    let loss = CrossEntropyLossConfig::new().init(&logits.device());
    let loss = loss.forward(logits.clone(), classes.clone());
    ClassificationOutput::new(loss, logits, classes)
}
