//! How large a damped block is.

/// Log-determinant, trace and Frobenius norm of a symmetric positive definite matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Magnitudes {
    /// The number of rows.
    pub dimension: usize,
    /// The sum of the logarithms of the eigenvalues.
    pub log_determinant: f64,
    /// The sum of the eigenvalues.
    pub trace: f64,
    /// The root of the sum of the squared eigenvalues.
    pub frobenius_norm: f64,
}

impl Magnitudes {
    /// Of a matrix with these eigenvalues.
    pub fn of_eigenvalues(eigenvalues: impl Iterator<Item = f64>) -> Self {
        let one = |value: f64| Self {
            dimension: 1,
            log_determinant: value.ln(),
            trace: value,
            frobenius_norm: value.abs(),
        };
        eigenvalues.map(one).fold(Self::EMPTY, Self::beside)
    }

    /// Of the Kronecker product of two matrices.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let of = |own: Self, times: Self| own.log_determinant * times.dimension as f64;
        Self {
            dimension: self.dimension * other.dimension,
            log_determinant: of(self, other) + of(other, self),
            trace: self.trace * other.trace,
            frobenius_norm: self.frobenius_norm * other.frobenius_norm,
        }
    }

    /// Of the block-diagonal matrix of two matrices.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            dimension: self.dimension + other.dimension,
            log_determinant: self.log_determinant + other.log_determinant,
            trace: self.trace + other.trace,
            frobenius_norm: self.frobenius_norm.hypot(other.frobenius_norm),
        }
    }

    /// Of a matrix without rows.
    pub const EMPTY: Self = Self {
        dimension: 0,
        log_determinant: 0.0,
        trace: 0.0,
        frobenius_norm: 0.0,
    };
}
