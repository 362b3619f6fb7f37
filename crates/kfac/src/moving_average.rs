//! Averages that forget.

/// The weight `ε = min(1 − 1/k, cap)` of the old estimate in update `k`, counted from one.
///
/// Until the cap is reached the estimate is the plain mean of all updates; the first update
/// replaces whatever was there.
///
/// # References
///
/// Martens and Grosse (2015), section 5, arXiv 1503.05671.
pub(crate) fn old_weight(update: u64, cap: f64) -> f64 {
    (1.0 - 1.0 / update as f64).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_a_plain_mean_until_the_cap() {
        let weights = [1, 2, 19, 20, 21, 1000].map(|k| old_weight(k, 0.95));
        let expected = [0.0, 0.5, 18.0 / 19.0, 0.95, 0.95, 0.95];
        assert!(
            weights
                .iter()
                .zip(expected)
                .all(|(w, e)| (w - e).abs() < 1e-15)
        );
    }
}
