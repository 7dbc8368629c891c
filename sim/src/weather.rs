//! The weather of a run: which faults were active when, and when each process served. Written down as it goes, and
//! asked afterwards who could rely on whom.
//!
//! Invariant: what it calls fair was fair. A fault that this file does not know makes the rest of the run foul.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::endpoint::Endpoint;
use crate::history::History;
use crate::op::Time;
use crate::world::{Fault, World};

/// Keeps the weather. Copies share it.
#[derive(Clone)]
pub struct Weather {
    history: History,
    log: Arc<Mutex<WeatherLog>>,
}

/// The weather so far.
#[derive(Clone, Default, Debug)]
pub struct WeatherLog {
    /// Each fault that began: its index in the world, since when, and until when.
    faults: Vec<(usize, Time, Time)>,
    /// When each process served.
    serving: BTreeMap<Endpoint, Vec<(Time, Time)>>,
}

/// What a fault gets in the way of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoils<'a> {
    /// Nothing that a quorum operation needs.
    Nothing,
    /// Whatever one process does.
    One(Endpoint),
    /// Messages between any of these and any of those: a request is of no use without its answer.
    Between(&'a [Endpoint], &'a [Endpoint]),
    /// Everything, as long as it is active.
    All,
    /// Everything, from then on.
    AllForEver,
}

impl Weather {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(history: History) -> Self {
        let log = Arc::default();
        Self { history, log }
    }

    /// The world's fault `index` begins.
    pub fn begins(&self, index: usize) {
        let now = self.history.now();
        self.lock().begins(index, now);
    }

    /// It ends.
    pub fn ends(&self, index: usize) {
        let now = self.history.now();
        self.lock().ends(index, now);
    }

    /// A process serves from now on.
    pub fn serves(&self, who: Endpoint) {
        let now = self.history.now();
        self.lock().serves(who, now);
    }

    /// A process serves no more.
    pub fn is_gone(&self, who: Endpoint) {
        let now = self.history.now();
        self.lock().is_gone(who, now);
    }

    /// Whether a process serves now.
    #[must_use]
    pub fn is_serving(&self, who: Endpoint) -> bool {
        let log = self.lock();
        let last = log.serving.get(&who).and_then(|lives| lives.last());
        last.is_some_and(|(_, until)| *until == Time::MAX)
    }

    /// The weather so far.
    #[must_use]
    pub fn log(&self) -> WeatherLog {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, WeatherLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WeatherLog {
    /// The world's fault `index` begins.
    pub fn begins(&mut self, index: usize, now: Time) {
        self.faults.push((index, now, Time::MAX));
    }

    /// It ends.
    pub fn ends(&mut self, index: usize, now: Time) {
        let faults = self.faults.iter_mut();
        for (_, _, until) in faults.filter(|(i, _, _)| *i == index) {
            *until = now.min(*until);
        }
    }

    /// A process serves from now on.
    pub fn serves(&mut self, who: Endpoint, now: Time) {
        self.serving.entry(who).or_default().push((now, Time::MAX));
    }

    /// A process serves no more.
    pub fn is_gone(&mut self, who: Endpoint, now: Time) {
        if let Some((_, until)) = self.serving.entry(who).or_default().last_mut() {
            *until = now.min(*until);
        }
    }

    /// Whether nothing was wrong with everything at once from `from` to `to`.
    #[must_use]
    pub fn is_fair(&self, world: &World, from: Time, to: Time) -> bool {
        let network = &world.network;
        let constant = network.lost_request_permille == 0
            && network.lost_reply_permille == 0
            && world.transport.no_room_permille == 0;
        constant
            && self
                .faults
                .iter()
                .all(|(index, begin, end)| match spoils(world, *index) {
                    Spoils::All => *begin > to || *end < from,
                    Spoils::AllForEver => *begin > to,
                    _ => true,
                })
    }

    /// Whether a process, or a store, did its work all the time from `from` to `to`.
    #[must_use]
    pub fn is_well(&self, world: &World, who: Endpoint, from: Time, to: Time) -> bool {
        let served = match who {
            Endpoint::Storage(_) | Endpoint::Coordinator(_) => {
                let lives = self.serving.get(&who).into_iter().flatten();
                lives
                    .into_iter()
                    .any(|(since, until)| *since <= from && *until >= to)
            }
            _ => true,
        };
        served
            && !self
                .during(world, from, to)
                .any(|spoils| spoils == Spoils::One(who))
    }

    /// Whether messages passed both ways between two all the time from `from` to `to`.
    #[must_use]
    pub fn are_linked(
        &self,
        world: &World,
        a: Endpoint,
        b: Endpoint,
        from: Time,
        to: Time,
    ) -> bool {
        !self.during(world, from, to).any(|spoils| match spoils {
            Spoils::Between(these, those) => {
                these.contains(&a) && those.contains(&b) || these.contains(&b) && those.contains(&a)
            }
            _ => false,
        })
    }

    fn during<'a>(
        &'a self,
        world: &'a World,
        from: Time,
        to: Time,
    ) -> impl Iterator<Item = Spoils<'a>> {
        let active = self
            .faults
            .iter()
            .filter(move |(_, begin, end)| *begin <= to && *end >= from);
        active.map(move |(index, _, _)| spoils(world, *index))
    }
}

fn spoils(world: &World, index: usize) -> Spoils<'_> {
    let Some(step) = world.faults.get(index) else {
        return Spoils::AllForEver;
    };
    let of = |who: &Option<Endpoint>| who.map_or(Spoils::All, Spoils::One);
    match &step.fault {
        // That nobody serves there is known by itself; a disk that was lost is empty, and serves.
        Fault::Crash { who }
        | Fault::Restart { who }
        | Fault::Upgrade { who }
        | Fault::GoBack { who }
        | Fault::LoseDisk { who }
        | Fault::DamagedJournal { who, .. }
        | Fault::OldDisk { who }
        | Fault::LoseDigests { who }
        | Fault::Pause { who }
        | Fault::StandingClock { who, .. }
        | Fault::SlowDisk { who, .. }
        | Fault::StuckDisk { who }
        | Fault::FullDisk { who }
        | Fault::CrashLoop { who, .. }
        | Fault::CrashOn { who, .. }
        | Fault::FailingDisk { who }
        | Fault::CorruptRecord { who }
        | Fault::WrongEpoch { who }
        | Fault::StoreTrouble { who, .. } => Spoils::One(*who),
        Fault::ForgetClaims => Spoils::One(Endpoint::Idempotency),
        Fault::PowerFailure
        | Fault::Duplicate { .. }
        | Fault::Impatience { .. }
        | Fault::RollingRestart { .. } => Spoils::All,
        Fault::Lossy { who, .. } | Fault::Slow { who, .. } => of(who),
        Fault::Partition { from, to, .. } | Fault::Flapping { from, to, .. } => {
            Spoils::Between(from, to)
        }
        // Who has to answer while owners change is known by itself, and that a leader which crashes does not serve.
        Fault::ClockJump { .. }
        | Fault::ClockDrift { .. }
        | Fault::MadeUpEpoch { .. }
        | Fault::Change(_)
        | Fault::CrashLeader
        | Fault::CancelChange => Spoils::Nothing,
        // A request that arrives twice and is refused the second time looks lost.
        Fault::NewEpoch if world.network.duplicate_permille > 0 => Spoils::All,
        Fault::NewEpoch => Spoils::Nothing,
        #[allow(
            unreachable_patterns,
            reason = "a fault that is new here spoils everything"
        )]
        _ => Spoils::AllForEver,
    }
}
