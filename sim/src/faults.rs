//! The faults that are active now. Network, disks and stores ask here before everything they do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use madsim::time::TimeHandle;

use crate::endpoint::Endpoint;
use crate::rng::Rng;
use crate::world::{Fault, NetworkPlan};

/// The active faults. Copies share them.
#[derive(Clone)]
pub struct Faults {
    plan: Arc<NetworkPlan>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    healed: bool,
    active: BTreeMap<usize, Fault>,
    traps: BTreeMap<usize, Trap>,
}

/// Waits for one message of a process.
struct Trap {
    who: Endpoint,
    peer: Option<Endpoint>,
    left: u32,
    tell: oneshot::Sender<()>,
}

/// Chances, out of a thousand, that a message is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Losses {
    /// On the way there.
    pub request_permille: u32,
    /// On the way back.
    pub reply_permille: u32,
}

impl Faults {
    /// No faults but the network's constant ones.
    #[must_use]
    pub fn new(plan: NetworkPlan) -> Self {
        let plan = Arc::new(plan);
        let state = Arc::default();
        Self { plan, state }
    }

    /// The fault of step `index` begins.
    pub fn begin(&self, index: usize, fault: Fault) {
        self.state().active.insert(index, fault);
    }

    /// The fault of step `index` ends.
    pub fn end(&self, index: usize) {
        let mut state = self.state();
        state.active.remove(&index);
        state.traps.remove(&index);
    }

    /// Whether the fault of step `index` goes on.
    #[must_use]
    pub fn goes_on(&self, index: usize) -> bool {
        self.state().active.contains_key(&index)
    }

    /// Completes over the `count`-th message from now on that `who` exchanges with `peer`, or with anybody; cancelled
    /// when the fault of step `index` ends before.
    pub fn trap(
        &self,
        index: usize,
        who: Endpoint,
        peer: Option<Endpoint>,
        count: u32,
    ) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let trap = Trap {
            who,
            peer,
            left: count.max(1),
            tell,
        };
        self.state().traps.insert(index, trap);
        told
    }

    /// `who` sends something to `peer`, or gets something from it.
    pub fn message(&self, who: Endpoint, peer: Endpoint) {
        let mut state = self.state();
        if state.traps.is_empty() {
            return;
        }
        let mut sprung = Vec::new();
        for (index, trap) in &mut state.traps {
            if trap.who == who && trap.peer.is_none_or(|wanted| wanted == peer) {
                trap.left -= 1;
                if trap.left == 0 {
                    sprung.push(*index);
                }
            }
        }
        for index in sprung {
            if let Some(trap) = state.traps.remove(&index) {
                let _ = trap.tell.send(()); // nobody there: the fault has ended
            }
        }
    }

    /// Every fault ends, the constant ones too.
    pub fn heal(&self) {
        let mut state = self.state();
        state.healed = true;
        state.active.clear();
        state.traps.clear();
    }

    /// Whether all faults have ended for good.
    #[must_use]
    pub fn are_healed(&self) -> bool {
        self.state().healed
    }

    /// Whether nothing passes from one to the other; `Some(true)` if that is noticed at once.
    #[must_use]
    pub fn blocked(&self, from: Endpoint, to: Endpoint) -> Option<bool> {
        let cuts = |a: &[Endpoint], b: &[Endpoint], both_ways| {
            let there = a.contains(&from) && b.contains(&to);
            there || both_ways && a.contains(&to) && b.contains(&from)
        };
        self.find(|fault| match fault {
            Fault::Partition {
                from: a,
                to: b,
                both_ways,
                refused,
            } => cuts(a, b, *both_ways).then_some(*refused),
            Fault::Flapping {
                from: a,
                to: b,
                both_ways,
                refused,
                down_ms,
                up_ms,
            } => {
                let now_ms = TimeHandle::current().elapsed().as_millis() as u64;
                let is_down = now_ms % (down_ms + up_ms).max(1) < *down_ms;
                (is_down && cuts(a, b, *both_ways)).then_some(*refused)
            }
            _ => None,
        })
    }

    /// How likely messages between the two get lost.
    #[must_use]
    pub fn losses(&self, from: Endpoint, to: Endpoint) -> Losses {
        let state = self.state();
        let mut losses = Losses {
            request_permille: self.plan.lost_request_permille,
            reply_permille: self.plan.lost_reply_permille,
        };
        if state.healed {
            losses.request_permille = 0;
            losses.reply_permille = 0;
        }
        for fault in state.active.values() {
            if let Fault::Lossy {
                who,
                request_permille,
                reply_permille,
            } = fault
                && concerns(*who, from, to)
            {
                losses.request_permille = losses.request_permille.max(*request_permille);
                losses.reply_permille = losses.reply_permille.max(*reply_permille);
            }
        }
        losses
    }

    /// How much longer than others one link takes, always.
    pub fn distance(&self, rng: &mut Rng) -> Duration {
        match self.plan.link_spread_us {
            0 => Duration::ZERO,
            most => Duration::from_micros(rng.log_between(1, most)),
        }
    }

    /// How long one message between the two takes.
    pub fn latency(&self, from: Endpoint, to: Endpoint, rng: &mut Rng) -> Duration {
        let usual = rng.between(self.plan.latency_us_min, self.plan.latency_us_max);
        let factor = match rng.chance(self.plan.straggler_permille) {
            true => rng.between(2, 10),
            false => 1,
        };
        let mut latency = Duration::from_micros(usual * factor);
        for fault in self.state().active.values() {
            if let Fault::Slow {
                who,
                permille,
                late_ms_max,
            } = fault
                && concerns(*who, from, to)
                && rng.chance(*permille)
            {
                latency += Duration::from_micros(rng.between(0, late_ms_max * 1_000));
            }
        }
        latency
    }

    /// How many of a thousand events of a store are lost.
    #[must_use]
    pub fn lost_event_permille(&self) -> u32 {
        self.plan.lost_event_permille
    }

    /// Whether a request is delivered once more, and how much later.
    pub fn duplicate(&self, rng: &mut Rng) -> Option<Duration> {
        let state = self.state();
        let constant = (
            self.plan.duplicate_permille,
            self.plan.duplicate_late_ms_max,
        );
        let constant = (!state.healed).then_some(constant);
        let active = state.active.values().filter_map(|fault| match fault {
            Fault::Duplicate {
                permille,
                late_ms_max,
            } => Some((*permille, *late_ms_max)),
            _ => None,
        });
        let (permille, late_ms_max) = constant.into_iter().chain(active).max()?;
        rng.chance(permille)
            .then(|| Duration::from_micros(rng.between(0, late_ms_max * 1_000)))
    }

    /// How much longer than usual a disk may take.
    #[must_use]
    pub fn disk_late_ms_max(&self, disk: Endpoint) -> u64 {
        self.find(|fault| match fault {
            Fault::SlowDisk { who, late_ms_max } if *who == disk => Some(*late_ms_max),
            _ => None,
        })
        .unwrap_or(0)
    }

    /// Whether a disk finishes no commit.
    #[must_use]
    pub fn disk_stuck(&self, disk: Endpoint) -> bool {
        let stuck = Fault::StuckDisk { who: disk };
        self.find(|fault| (*fault == stuck).then_some(())).is_some()
    }

    /// Whether a disk is full.
    #[must_use]
    pub fn disk_full(&self, disk: Endpoint) -> bool {
        let full = Fault::FullDisk { who: disk };
        self.find(|fault| (*fault == full).then_some(())).is_some()
    }

    /// Whether a disk fails what it is told to commit.
    #[must_use]
    pub fn disk_failing(&self, disk: Endpoint) -> bool {
        let failing = Fault::FailingDisk { who: disk };
        self.find(|fault| (*fault == failing).then_some(()))
            .is_some()
    }

    /// How many of a thousand calls of a store fail.
    #[must_use]
    pub fn store_trouble_permille(&self, store: Endpoint) -> u32 {
        self.find(|fault| match fault {
            Fault::StoreTrouble { who, permille } if *who == store => Some(*permille),
            _ => None,
        })
        .unwrap_or(0)
    }

    /// After how many milliseconds clients give up at most.
    #[must_use]
    pub fn impatience_ms_max(&self) -> Option<u64> {
        self.find(|fault| match fault {
            Fault::Impatience { after_ms_max } => Some(*after_ms_max),
            _ => None,
        })
    }

    fn find<T>(&self, what: impl FnMut(&Fault) -> Option<T>) -> Option<T> {
        self.state().active.values().find_map(what)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn concerns(who: Option<Endpoint>, from: Endpoint, to: Endpoint) -> bool {
    who.is_none_or(|who| who == from || who == to)
}
