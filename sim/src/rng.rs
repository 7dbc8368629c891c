//! The harness's own randomness: one independent stream for each purpose.
//!
//! A stream is named, so that taking a fault out of a world or adding a client shifts the draws of nothing else: what
//! is shrunk keeps failing for the same reason. SplitMix64 (Steele, Lea, Flood 2014) is written out here because a
//! seed has to mean the same for as long as scenario files live, whatever the random number crates do.

use crate::hash::Fnv;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream called `name` of the run with this seed.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hash = Fnv::default();
        hash.write(&seed.to_be_bytes());
        hash.write(name.as_bytes());
        let mut rng = Self {
            state: hash.finish(),
        };
        rng.next_u64();
        rng
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        if most <= least {
            return least;
        }
        least + self.below(most - least + 1)
    }

    /// A number between two powers of ten, its magnitude uniform: small ones are as likely as large ones.
    pub fn log_between(&mut self, least: u64, most: u64) -> u64 {
        let least = least.max(1);
        let most = most.max(least);
        let doublings = u64::from((most / least).ilog2());
        let scale = least << self.between(0, doublings);
        self.between(scale, (scale * 2).min(most))
    }

    /// True in `permille` of a thousand draws.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// An index, each as likely as its weight; 0 when all weights are zero.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut at = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            let weight = u64::from(*weight);
            if at < weight {
                return index;
            }
            at -= weight;
        }
        0
    }

    /// `count` different ones of `choices` (all, if there are fewer), in random order.
    pub fn sample<T: Clone>(&mut self, choices: &[T], count: usize) -> Vec<T> {
        let mut left: Vec<T> = choices.to_vec();
        let mut taken = Vec::new();
        while taken.len() < count && !left.is_empty() {
            let index = self.below(left.len() as u64) as usize;
            taken.push(left.swap_remove(index));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_stable() {
        let draw = |seed, name| Rng::new(seed, name).next_u64();
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "net"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut rng = Rng::new(7, "bounds");
        for _ in 0..1000 {
            assert!(rng.below(3) < 3);
            assert!((5..=9).contains(&rng.between(5, 9)));
            assert!((10..=10_000).contains(&rng.log_between(10, 10_000)));
            assert!(rng.weighted(&[0, 2, 0, 1]) % 2 == 1);
        }
        assert!(!rng.chance(0) && rng.chance(1000));
        assert_eq!(rng.sample(&[1, 2], 5).len(), 2);
    }
}
