//! How a case ended that states what to expect.

/// What a comparison with the expected numbers of a case found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every compared number is within its tolerance.
    Agrees,
    /// Some number is not.
    Deviates,
    /// The case states no expected numbers: there was nothing to compare.
    NothingExpected,
}
