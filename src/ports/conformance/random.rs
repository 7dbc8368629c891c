//! What every [`Random`] does: fill all 64 bits, repeat nothing, and stay below bounds.

use std::collections::BTreeSet;

use crate::ports::Random;

/// Panics unless `random` keeps to [`Random`]. A good source fails by chance about once in 2^90 runs.
pub fn random(random: &impl Random) {
    let copy = random.clone();
    let draws: Vec<u64> = (0..100)
        .flat_map(|_| [random.next_u64(), copy.next_u64()])
        .collect();
    let distinct: BTreeSet<u64> = draws.iter().copied().collect();
    assert!(
        distinct.len() + 1 >= draws.len(),
        "a source and its copy repeat numbers"
    );
    assert_eq!(
        draws.iter().fold(0, |any, draw| any | draw),
        u64::MAX,
        "a bit is never set"
    );
    assert_eq!(
        draws.iter().fold(u64::MAX, |all, draw| all & draw),
        0,
        "a bit is always set"
    );

    let wide = random.next_u128();
    assert_ne!(
        wide >> 64,
        wide & u128::from(u64::MAX),
        "128 bits are the same 64 bits twice"
    );

    assert_eq!(random.below(0), 0);
    assert_eq!(random.below(1), 0);
    let thrown: BTreeSet<u64> = (0..1000).map(|_| random.below(6)).collect();
    assert_eq!(thrown, (0..6).collect(), "below(6) is not 0 to 5");
}
