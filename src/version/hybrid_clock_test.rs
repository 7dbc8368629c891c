//! A hybrid clock never goes back, whatever wall time it is brought and whatever it follows.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{HybridClock, Stamp};

#[derive(Clone, Debug)]
enum Step {
    Tick { wall_ms: u64 },
    Observe { seen: Stamp, limit_wall_ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let wall_ms = || prop_oneof![6 => 0..10_u64, 2 => any::<u64>(), 1 => Just(u64::MAX)];
    let seen = prop_oneof![
        6 => (0..10_u64, prop_oneof![0..3_u16, Just(u16::MAX)]).prop_map(|(ms, logical)| Stamp::new(ms, logical)),
        2 => any::<u64>().prop_map(Stamp),
        1 => Just(Stamp::MAX),
    ];
    prop_oneof![
        4 => wall_ms().prop_map(|wall_ms| Step::Tick { wall_ms }),
        3 => (seen, wall_ms()).prop_map(|(seen, limit_wall_ms)| Step::Observe { seen, limit_wall_ms }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn laws_of_a_clock(steps in vec(step(), 1..30)) {
        let mut clock = HybridClock::default();
        for step in steps {
            let before = clock.last();
            match step {
                Step::Tick { wall_ms } => {
                    let stamp = clock.tick(wall_ms);
                    prop_assert!(stamp > before, "strictly after all before");
                    prop_assert_eq!(stamp, clock.last());
                    let bounded_ms = wall_ms.max(before.wall_ms() + 1);
                    prop_assert!(stamp.wall_ms() <= bounded_ms, "ahead of the wall by what it followed, no more");
                }
                Step::Observe { seen, limit_wall_ms } => {
                    let followed = clock.observe(seen, limit_wall_ms);
                    prop_assert!(clock.last() >= before);
                    prop_assert_eq!(followed, clock.last() >= seen, "true promises to be after it");
                    prop_assert!(clock.last() == before || seen.wall_ms() <= limit_wall_ms);
                    prop_assert!(followed || clock.last() == before);
                }
                Step::Restart => clock = HybridClock::resume(clock.last()),
            }
        }
    }
}
