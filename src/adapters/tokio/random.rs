//! Randomness of the process.

use crate::ports::Random;

/// The thread's cryptographically strong generator, seeded and reseeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRandom;

impl Random for ThreadRandom {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::conformance;

    #[test]
    fn conforms() {
        conformance::random(&ThreadRandom);
    }
}
