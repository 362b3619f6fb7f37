//! Are padded positions left out of the factors, as if the sequences had been shorter?

use burn::tensor::Tensor;
use faer::Mat;
use kfac::{Batch, Categorical, FactorKind, Network, WeightSharing};

use crate::support::{
    Call, EncoderNetwork, Estimate, Estimates, SequenceNetwork, Sequences, assert_close,
    assert_same_factors, class_targets, dense, pairs, sequences, tensor,
};

/// Sums of some hundred products of order one in double precision.
const ROUNDING: f64 = 1e-12;

/// The positions that are not padding, of cases that all have equally many.
fn without_padding((tokens, padding): &Sequences) -> Sequences {
    let (tokens, padding) = (dense(tokens), dense(padding));
    let rows: Vec<Vec<f64>> = (0..tokens.nrows())
        .map(|i| {
            let valid = (0..tokens.ncols()).filter(|r| padding[(i, *r)] < 0.5);
            valid.map(|r| tokens[(i, r)]).collect()
        })
        .collect();
    let kept = Mat::from_fn(rows.len(), rows[0].len(), |i, r| rows[i][r]);
    (
        tensor(&kept),
        tensor(&Mat::zeros(kept.nrows(), kept.ncols())),
    )
}

/// Cases with two of five positions padded, others in each.
fn padded_batch(seed: u64) -> Batch<Sequences> {
    let n = 6;
    let padded = |case: usize, position: usize| matches!((case + position) % 5, 0 | 2);
    Batch::new(sequences([n, 5], seed, padded), class_targets(n, seed))
}

fn assert_padding_is_left_out<M: Network<Input = Sequences, Output = Tensor<2>>>(
    what: &str,
    model: &M,
) {
    let batch = padded_batch(3);
    let shorter = Batch::new(without_padding(&batch.inputs), batch.targets.clone());
    assert_eq!(shorter.inputs.0.dims(), [6, 3]);
    for estimate in Estimate::all() {
        let found = estimate.factors(model, &Categorical, &batch);
        let expected = estimate.factors(model, &Categorical, &shorter);
        let what = format!("{what}, {estimate:?}");
        assert_same_factors(&what, &found, &expected, ROUNDING);
        let chunks = estimate
            .in_chunks_of(4)
            .factors(model, &Categorical, &batch);
        assert_same_factors(&what, &chunks, &expected, ROUNDING);
    }
}

#[test]
fn padded_positions_are_left_out() {
    assert_padding_is_left_out("sequence", &SequenceNetwork::new(Call::Positions, 1));
}

#[test]
fn an_encoder_leaves_padded_positions_out() {
    for norm_first in [true, false] {
        let model = EncoderNetwork::new(norm_first, 2);
        assert_padding_is_left_out(&format!("encoder, norm first {norm_first}"), &model);
    }
}

/// A case on its own has the factors of its own positions; a batch has their sums.
#[test]
fn cases_of_different_lengths_are_the_sum_of_cases_without_padding() {
    let lengths = [1.0, 4.0, 2.0, 3.0];
    let padded = |case: usize, position: usize| position as f64 >= lengths[case];
    let (tokens, padding) = sequences([4, 4], 5, padded);
    let batch = Batch::new((tokens, padding), class_targets(4, 5));
    let model = SequenceNetwork::new(Call::Positions, 1);
    let all: f64 = lengths.iter().sum();
    for estimate in Estimate::all() {
        let found = estimate.factors(&model, &Categorical, &batch);
        let single: Vec<Estimates> = (0..4)
            .map(|case| {
                let one = batch.slice(case..case + 1);
                let one = Batch::new(without_padding(&one.inputs), one.targets);
                estimate.factors(&model, &Categorical, &one)
            })
            .collect();
        for (layer, found) in found.iter().enumerate() {
            let by_position = estimate.sharing == WeightSharing::Expand
                && found.factors()[0].kind == FactorKind::Activation
                && layer != 3; // the last layer has one position a case
            let mean = |factor: usize, weight: &dyn Fn(usize) -> f64| {
                let of_case = |case: usize| {
                    pairs(&single[case][layer])[0][factor].clone() * faer::Scale(weight(case))
                };
                (1..4).fold(of_case(0), |sum, case| sum + of_case(case))
            };
            let activation = mean(0, &|_| 0.25);
            let gradient = mean(1, &|case| {
                if by_position {
                    lengths[case] / all
                } else {
                    0.25
                }
            });
            let what = format!("layer {layer}, {estimate:?}");
            assert_close(
                &format!("Ā, {what}"),
                &pairs(found)[0][0],
                &activation,
                ROUNDING,
            );
            assert_close(
                &format!("G, {what}"),
                &pairs(found)[0][1],
                &gradient,
                ROUNDING,
            );
        }
    }
}
