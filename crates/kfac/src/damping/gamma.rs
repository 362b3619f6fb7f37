//! The candidates of the search for γ (section 6.6).

/// The range of the candidates that change γ.
///
/// The paper has no bounds; the authors' released code has `[√η, 1]`. Its upper bound also makes
/// a shortcut: from γ = 12 the "higher" candidate is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GammaBounds {
    /// The lower candidate is at least this.
    pub min: f64,
    /// The higher candidate is at most this; infinite for no bound.
    pub max: f64,
}

/// The three candidates, in the order in which ties are broken: lower, unchanged, higher.
///
/// # Definition
///
/// ```text
/// max(ω₂ γ, min),   γ,   min(γ / ω₂, max)
/// ```
///
/// # References
///
/// Martens and Grosse (2015), section 6.6, arXiv 1503.05671; the bounds are the released code's.
pub fn gamma_candidates(gamma: f64, omega: f64, bounds: GammaBounds) -> [f64; 3] {
    [
        (omega * gamma).max(bounds.min),
        gamma,
        (gamma / omega).min(bounds.max),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: [f64; 3], b: [f64; 3]) {
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12),
            "{a:?} is not {b:?}"
        );
    }

    #[test]
    fn candidates_and_bounds() {
        let free = GammaBounds {
            min: 0.0,
            max: f64::INFINITY,
        };
        let code = GammaBounds {
            min: 1e-3,
            max: 1.0,
        };
        close(gamma_candidates(2.0, 0.5, free), [1.0, 2.0, 4.0]);
        close(gamma_candidates(12.0, 0.5, code), [6.0, 12.0, 1.0]);
        close(gamma_candidates(1e-3, 0.5, code), [1e-3, 1e-3, 2e-3]);
    }
}
