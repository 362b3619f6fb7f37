//! A tiny language model: a distribution over the next token at each position of a sequence.
//!
//! The outputs are `[n, R, tokens]`, and the last axis is the distribution; the targets are the tokens
//! themselves, `[n, R]`. The language is that of the Fibonacci numbers modulo seven, where a token is the
//! sum of the two before it.

use std::error::Error;

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Int, Tensor, TensorData, activation::tanh},
};
use kfac::{Batch, Categorical, KfacConfig, Network, Tape};

const MODULUS: i64 = 7;
const TOKENS: usize = MODULUS as usize;
const LENGTH: usize = 10;
const WIDTH: usize = 8;

#[derive(Module, Debug)]
struct LanguageModel {
    embedding: Embedding,
    hidden: Linear,
    logits: Linear,
}

impl Network for LanguageModel {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;

    /// `[n, R + 1] -> [n, R, tokens]`: each position sees its own token and the one before.
    fn forward(&self, tokens: Tensor<2, Int>, tape: &mut Tape) -> Tensor<3> {
        let positions = tokens.dims()[1] - 1;
        let embedded = tape.embedding(&self.embedding, tokens); // [n, R + 1, width]
        let before = embedded.clone().slice_dim(1, 0..positions);
        let own = embedded.slice_dim(1, 1..=positions);
        let pairs = Tensor::cat(vec![before, own], 2); // [n, R, 2 · width]
        let hidden = tanh(tape.linear(&self.hidden, pairs));
        tape.linear(&self.logits, hidden)
    }
}

/// The sequence of each pair of first tokens, with the next token at each position.
fn sentences(device: &Device) -> Batch<Tensor<2, Int>, Tensor<2, Int>> {
    let sentence = |first: i64, second: i64| {
        let mut sentence = vec![first, second];
        while sentence.len() < LENGTH + 2 {
            let next = sentence[sentence.len() - 2] + sentence[sentence.len() - 1];
            sentence.push(next % MODULUS);
        }
        sentence
    };
    let firsts = (0..MODULUS).flat_map(|first| (0..MODULUS).map(move |second| (first, second)));
    let all: Vec<i64> = firsts
        .flat_map(|(first, second)| sentence(first, second))
        .collect();
    let data = TensorData::new(all, [TOKENS * TOKENS, LENGTH + 2]);
    let all = Tensor::<2, Int>::from_data(data, device);
    let inputs = all.clone().slice_dim(1, 0..=LENGTH); // [n, R + 1]
    let targets = all.slice_dim(1, 2..LENGTH + 2); // [n, R]
    Batch::new(inputs, targets)
}

/// Trains; returns the perplexity of a token before it and after every ten steps.
pub(crate) fn train() -> Result<Vec<f64>, Box<dyn Error>> {
    let device = Device::default().autodiff();
    let mut model = LanguageModel {
        embedding: EmbeddingConfig::new(TOKENS, WIDTH).init(&device),
        hidden: LinearConfig::new(2 * WIDTH, 32).init(&device),
        logits: LinearConfig::new(32, TOKENS).init(&device),
    };
    let batch = sentences(&device.inner());
    // All positions of a sequence count, so the objective is a mean over cases of a sum of ten.
    let config = KfacConfig::new().with_l2(0.0).with_gamma_min(Some(1e-3));
    let config = config.map_curvature(|curvature| curvature.with_statistics_fraction(Some(1.0)));
    let mut optimizer = config.init(&model, Categorical, &batch.inputs)?;
    println!("{}", optimizer.parameter_table());

    let perplexity = |objective: f64| (objective / LENGTH as f64).exp();
    let mut perplexities = vec![perplexity(optimizer.objective(&model, &batch)?)];
    for _ in 0..6 {
        for _ in 0..10 {
            optimizer.step(&mut model, &batch)?;
        }
        perplexities.push(perplexity(optimizer.objective(&model, &batch)?));
    }
    Ok(perplexities)
}

fn main() -> Result<(), Box<dyn Error>> {
    for (tens, perplexity) in train()?.iter().enumerate() {
        println!("step {:2}: perplexity {perplexity:.3}", 10 * tens);
    }
    Ok(())
}
