//! Randomness: for identifiers and for spreading load, never for correctness beyond uniqueness.

/// A source of uniformly distributed bits.
pub trait Random: Clone + Send + Sync + 'static {
    /// 64 random bits.
    fn next_u64(&self) -> u64;

    /// 128 random bits.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number in `0..bound` (multiply-shift; the bias is below 2^-32 for the small bounds used here). Zero for a
    /// bound of zero.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}
