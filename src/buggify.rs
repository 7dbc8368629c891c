//! Rare but legal behaviour that the simulation makes common: a full queue, a batch of one, an owner asked too early.
//!
//! Two levels: a run makes some sites *active*, and an active site *fires* now and then. Which sites, how often, and
//! when is decided by the harness's seed. Nothing that fires may break a promise: whatever a site does could happen
//! without it, only not often enough to be met with the fault that makes it interesting.
//!
//! Without the feature `mutants` [`on`] is the constant `false`, [`pause`] is over at once, and the compiler removes
//! both. Production never turns the feature on.
//!
//! Source: FoundationDB's `BUGGIFY` (Zhou et al., *FoundationDB: A Distributed Unbundled Transactional Key Value
//! Store*, 2021, section 4).

#[cfg(not(feature = "mutants"))]
use std::{future::Future, time::Duration};

macro_rules! sites {
    ($($variant:ident $name:literal $what:literal)*) => {
        /// A place in the core where rare behaviour can be made common.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Site {
            $(#[doc = $what] $variant,)*
        }

        impl Site {
            /// Every site, in the order of the enum.
            pub const ALL: &[Site] = &[$(Site::$variant),*];

            /// The name in scenario files.
            pub fn name(self) -> &'static str {
                match self {
                    $(Site::$variant => $name,)*
                }
            }

            /// What it does, in one line.
            pub fn what(self) -> &'static str {
                match self {
                    $(Site::$variant => $what,)*
                }
            }
        }
    };
}

sites! {
    WorstOwnerFirst "worst-owner-first" "owners are asked in the reverse order of their promise"
    StampImpatience "stamp-impatience" "the next owner is asked to stamp at once"
    HedgeAtOnce "hedge-at-once" "a read is hedged at once"
    PauseBeforeStamp "pause-before-stamp" "a coordinator stands still before it has a write stamped"
    PauseBeforeJoin "pause-before-join" "a coordinator stands still between the stamp of a write and its joins"
    PauseBeforeSettle "pause-before-settle" "a coordinator stands still between the answers to a read and their repair"
    PauseAfterClaim "pause-after-claim" "a coordinator stands still after it has claimed an idempotency key"
    PauseBeforeComplete "pause-before-complete" "a coordinator stands still before it stores the answer for an idempotency key"
    AnswerNotStored "answer-not-stored" "the answer for an idempotency key is not stored"
    RepairQueueFull "repair-queue-full" "the queue of repairs says that it is full"
    RepairRetriedAtOnce "repair-retried-at-once" "a background repair that failed is tried again at once"
    PauseBeforePurge "pause-before-purge" "a purge stands still between the owners' consent and the removal"
    PauseBeforeCopy "pause-before-copy" "who leads a change of owners stands still before it has a partition copied"
    FewPartitionsMove "few-partitions-move" "a change of owners moves few partitions at a time"
    PauseBeforeStep "pause-before-step" "who leads a change of owners stands still before it publishes a step"
    PauseBeforeRepair "pause-before-repair" "a background repair stands still between reading and joining"
    TenantExpired "tenant-expired" "a cached tenant is past its time"
    TopologyRefreshed "topology-refreshed" "the topology is refreshed without need"
    BatchOfOne "batch-of-one" "a batch of operations has one"
    QueueFull "queue-full" "a storage node's queue says that it is full"
    CountersOneByOne "counters-one-by-one" "one counter is reserved at a time"
    RecentForgotten "recent-forgotten" "a last-write-wins write that is remembered is forgotten"
    PauseBeforeRead "pause-before-read" "a storage node stands still before it reads"
    PauseBeforeCommit "pause-before-commit" "a storage node stands still before it commits"
}

/// Whether this site fires now. Always false in production.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn on(_: Site) -> bool {
    false
}

/// Stands still for a while if this site fires; `sleep` is told how long. Over at once in production.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub async fn pause<F: Future<Output = ()>>(_: Site, _: impl FnOnce(Duration) -> F) {}

#[cfg(feature = "mutants")]
pub use active::{Draw, activate, on, pause};

#[cfg(feature = "mutants")]
mod active {
    use std::cell::RefCell;
    use std::future::Future;
    use std::time::Duration;

    use super::Site;

    /// The longest pause.
    const PAUSE_MAX_US: u64 = 200_000;

    /// A stream of random numbers, the harness's.
    pub type Draw = Box<dyn FnMut() -> u64>;

    struct Active {
        /// How many of a thousand times each site fires, in the order of [`Site::ALL`].
        permille: Vec<u32>,
        draw: Draw,
    }

    thread_local! {
        static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
    }

    /// Makes sites active on this thread: each with how many of a thousand times it fires, by numbers out of `draw`.
    pub fn activate(sites: &[(Site, u32)], draw: Draw) {
        let mut permille = vec![0; Site::ALL.len()];
        for (site, often) in sites {
            permille[*site as usize] = *often;
        }
        let active = (!sites.is_empty()).then_some(Active { permille, draw });
        ACTIVE.with(|slot| *slot.borrow_mut() = active);
    }

    /// Whether this site fires now.
    pub fn on(site: Site) -> bool {
        fires(site).is_some()
    }

    /// Stands still for a while if this site fires; `sleep` is told how long.
    pub async fn pause<F: Future<Output = ()>>(site: Site, sleep: impl FnOnce(Duration) -> F) {
        if let Some(number) = fires(site) {
            // Short ones are as likely as long ones.
            let most_us = PAUSE_MAX_US >> (number % 12);
            sleep(Duration::from_micros(number / 12 % most_us.max(1))).await;
        }
    }

    /// A random number if it fires. An inactive site draws none.
    fn fires(site: Site) -> Option<u64> {
        ACTIVE.with(|slot| {
            let mut slot = slot.borrow_mut();
            let active = slot.as_mut()?;
            let permille = active.permille[site as usize];
            if permille == 0 {
                return None;
            }
            let number = (active.draw)();
            (number % 1_000 < u64::from(permille)).then_some(number / 1_000)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Site::ALL.iter().map(|site| site.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Site::ALL.len());
    }
}
