//! What a step's arithmetic needs (section 8).

use kfac::{InverseStructure, KfacConfig, Layer, ParameterAction, Phase};

/// Floating-point operations that a step of K-FAC needs, a phase at a time, averaged over the periods.
///
/// # Definition
///
/// Section 8's count with the layers' own dimensions, and every multiplication and addition counted as
/// one. With `a = d_in + 1`, `b = d_out`, m cases, and a pass `C₁ ℓ d² m = 2 m Σ a b`:
///
/// - gradient: three passes, two backward;
/// - curvature pass: one pass over τ₁ m, the backward one (the forward pass can be shared);
/// - factors: `2 τ₁ m Σ (a² + b²)`, and with the next layer's `2 τ₁ m Σ (a a′ + b b′)` within chains;
/// - inverse: `Σ (a³ + b³)` by Cholesky, once in T₃ iterations and for two more γ in T₂ (section 8 counts
///   `(1 + 2 / T₂) / T₃`, fewer than Algorithm 2 makes); within chains also the regressions, the whitened cross factors and the eigenvectors of the smaller side;
/// - proposal: `2 Σ a b (a + b)` for each γ; within chains also the regressions twice and the products
///   with canonical directions;
/// - quadratic model: two passes over τ₂ m for a direction, one direction more with momentum, for each
///   γ;
/// - λ: one pass in `1 / T₁` of the iterations.
///
/// A layer used at R positions of a case counts each, and one with groups each group.
///
/// The update of the parameters needs memory, not arithmetic.
#[derive(Clone, Debug)]
pub(super) struct StepFlops<'a> {
    pub(super) config: &'a KfacConfig,
    /// The layers whose blocks are products, in the order of the chain.
    pub(super) layers: Vec<LayerFlops>,
    /// m.
    pub(super) cases: usize,
    /// The cases of the factors, τ₁ m, and of the quadratic model, τ₂ m.
    pub(super) subsets: [f64; 2],
}

/// The dimensions of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerFlops {
    /// a, of the input factor of a group.
    a: f64,
    /// b, of the output factor of a group.
    b: f64,
    /// Groups with factors of their own.
    groups: f64,
    /// Positions of a case.
    positions: f64,
}

impl LayerFlops {
    /// `None` for a layer whose block is no Kronecker product: its arithmetic does not count.
    pub(super) fn of(layer: &Layer) -> Option<Self> {
        let product = matches!(layer.action, ParameterAction::Product { .. });
        product.then(|| Self {
            a: layer.activation_dimension() as f64,
            b: layer.gradient_dimension() as f64,
            groups: layer.action.groups() as f64,
            positions: layer.positions as f64,
        })
    }

    fn dimensions(self) -> [f64; 2] {
        [self.a, self.b]
    }
}

impl StepFlops<'_> {
    /// The operations of a step of stochastic gradient descent: the gradient's.
    pub(super) fn gradient(&self) -> f64 {
        3.0 * self.pass()
    }

    pub(super) fn of(&self, phase: Phase) -> f64 {
        let config = self.config;
        match phase {
            Phase::Gradient => self.gradient(),
            Phase::CurvaturePass => self.statistics_share() * self.pass(),
            Phase::FactorUpdate => self.factors(),
            Phase::Inverse => {
                let an_iteration = |period: u64| 1.0 / period as f64;
                let refreshes = an_iteration(config.curvature.inverse_period);
                self.inverse() * (refreshes + 2.0 * an_iteration(config.gamma_period))
            }
            Phase::Proposal => self.proposal() * self.candidates(),
            Phase::QuadraticModel => 4.0 * self.model_share() * self.pass() * self.candidates(),
            Phase::Lambda => self.pass() / config.lambda_period as f64,
            Phase::Update => 0.0,
        }
    }

    pub(super) fn total(&self) -> f64 {
        Phase::ALL.iter().map(|&phase| self.of(phase)).sum()
    }

    /// The mean number of γ an iteration.
    fn candidates(&self) -> f64 {
        1.0 + 2.0 / self.config.gamma_period as f64
    }

    /// τ₁.
    fn statistics_share(&self) -> f64 {
        self.subsets[0] / self.cases as f64
    }

    /// τ₂.
    fn model_share(&self) -> f64 {
        self.subsets[1] / self.cases as f64
    }

    /// `C₁ ℓ d² m`.
    fn pass(&self) -> f64 {
        let of_case = |layer: &LayerFlops| layer.positions * layer.groups * layer.a * layer.b;
        2.0 * self.cases as f64 * self.layers.iter().map(of_case).sum::<f64>()
    }

    fn factors(&self) -> f64 {
        let own = self
            .layers
            .iter()
            .map(|layer| layer.positions * layer.groups * (layer.a * layer.a + layer.b * layer.b));
        let between = self.links().map(|([a, b], [c, d])| a * c + b * d);
        2.0 * self.subsets[0] * own.chain(between).sum::<f64>()
    }

    fn inverse(&self) -> f64 {
        let layers = self.layers.iter();
        let own = layers.map(|layer| layer.groups * (layer.a.powi(3) + layer.b.powi(3)));
        let between = self
            .links()
            .map(|([a, b], [c, d])| link_inverse(a, c) + link_inverse(b, d));
        own.chain(between).sum()
    }

    fn proposal(&self) -> f64 {
        let own = self.layers.iter().map(|layer| {
            let dimensions = layer.dimensions();
            layer.groups * sandwich(dimensions, dimensions)
        });
        let between = self.links().map(|(this @ [a, b], next @ [c, d])| {
            let directions = [a.min(c), b.min(d)];
            let rotated = sandwich(this, directions) + sandwich(directions, this);
            sandwich(next, this) + sandwich(this, next) + rotated
        });
        own.chain(between).sum()
    }

    /// Each layer with the next one, where the structure links them.
    fn links(&self) -> impl Iterator<Item = ([f64; 2], [f64; 2])> {
        let pairs = self.layers.windows(2);
        let pairs = pairs.map(|pair| (pair[0].dimensions(), pair[1].dimensions()));
        let linked = self.config.curvature.structure == InverseStructure::BlockTridiagonal;
        pairs.take_while(move |_| linked)
    }
}

/// `L V R` from `[a, b]` to `[c, d]`, the cheaper product first.
fn sandwich([a, b]: [f64; 2], [c, d]: [f64; 2]) -> f64 {
    let left_first = c * a * b + c * b * d;
    let right_first = a * b * d + a * d * c;
    2.0 * left_first.min(right_first)
}

/// The regression of a factor of dimension `n` on the next, `p`, and its canonical directions: `Ψ`, two
/// triangular solves, the smaller Gram matrix, its eigenvectors (9 r³), and the directions.
fn link_inverse(n: f64, p: f64) -> f64 {
    let (small, large) = (n.min(p), n.max(p));
    let regression = 2.0 * n * p * p;
    let whitened = n * p * (n + p);
    let eigenvectors = small * small * large + 9.0 * small.powi(3);
    let directions = n * n * small + if n > p { 2.0 * n * p * small } else { 0.0 };
    regression + whitened + eigenvectors + directions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With layers of equal size the count is the paper's closed formula, where `C₁ = C₂ = 2`, but for the
    /// search's inverses.
    #[test]
    fn square_layers_need_what_section_8_says() {
        let config = KfacConfig::paper();
        let (d, layers, cases) = (300.0, 4, 2000);
        let layer = LayerFlops {
            a: d,
            b: d,
            groups: 1.0,
            positions: 1.0,
        };
        let flops = StepFlops {
            config: &config,
            layers: vec![layer; layers],
            cases,
            subsets: [0.125, 0.25].map(|part| part * cases as f64),
        };
        let (tau1, tau2) = (0.125, 0.25);
        let [t1, t2, t3] = [
            config.lambda_period as f64,
            config.gamma_period as f64,
            config.curvature.inverse_period as f64,
        ];
        let passes = 2.0 + tau1 + 4.0 * (1.0 + 2.0 / t2) * tau2 + 1.0 / t1;
        let of_cases = 2.0 * (passes + 1.0 + 2.0 * tau1) * cases as f64 * d.powi(2);
        let of_factors = (2.0 * (1.0 / t3 + 2.0 / t2) + 4.0 * (1.0 + 2.0 / t2)) * d.powi(3);
        let expected = layers as f64 * (of_cases + of_factors);
        let found = flops.total();
        // Some thirty operations in f64.
        assert!(
            (found / expected - 1.0).abs() < 1e-13,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn the_cheaper_product_comes_first() {
        // [2, 3] to [5, 7]: L first 5·2·3 + 5·3·7 = 135, R first 2·3·7 + 2·7·5 = 112.
        assert!((sandwich([2.0, 3.0], [5.0, 7.0]) - 224.0).abs() < 1e-12);
    }
}
