//! Many runs at once, one thread each, as many as there are cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pairdb::mutant::Mutant;

use crate::outcome::{Options, Outcome};
use crate::run::run;
use crate::world::World;

/// Runs the worlds of `seeds` with `jobs` runs at a time. `each` sees every outcome, in no particular order, and
/// returns whether to go on.
pub fn sweep(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    mutant: Option<Mutant>,
    each: impl FnMut(Outcome) -> bool + Send,
) {
    let next = AtomicU64::new(seeds.start);
    let stopped = AtomicBool::new(false);
    let each = Mutex::new(each);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let options = Options {
                        mutant,
                        ..Options::default()
                    };
                    let outcome = run(World::draw(seed), options);
                    let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
                    if !each(outcome) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// How many runs this machine does at a time.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
