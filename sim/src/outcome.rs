//! What came of a run, and how it was to be run.
//!
//! Values only; [`crate::run`] makes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pairdb::marks::Marks;
use pairdb::mutant::Mutant;

use crate::counts::Counts;
use crate::excuse::Excuses;
use crate::history::History;
use crate::invariants::{NO_PANIC, Violation};
use crate::op::{Op, OpId};
use crate::recorder::Log;
use crate::world::World;

/// How to run a world; none of it belongs to the world.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// A bug to put back.
    pub mutant: Option<Mutant>,
    /// Whether to write messages down too.
    pub messages: bool,
    /// Whether to record everything for a page.
    pub record: bool,
    /// Whether to say of each client what it did, as steps.
    pub spell: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world's seed.
    pub seed: u64,
    /// What was broken; empty if nothing was.
    pub violations: Vec<Violation>,
    /// The history, one event a line.
    pub history: String,
    /// The hash of all events and messages.
    pub fingerprint: u64,
    /// How many operations clients started.
    pub operations: usize,
    /// How many of them succeeded.
    pub succeeded: usize,
    /// How many messages reached storage nodes.
    pub messages: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// Everything, if it was recorded.
    pub recording: Option<Arc<Recording>>,
    /// Which interesting branches of the core were reached.
    pub marks: Marks,
    /// What excused something that was found.
    pub excuses: Excuses,
    /// What came of clients' operations, and what coordinators sent storage nodes.
    pub counts: Counts,
    /// The world with what each client did as steps, if that was asked for.
    pub spelled: Option<World>,
}

/// Everything that a page shows.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The world that was run.
    pub world: Arc<World>,
    /// What passed between processes, and what went wrong.
    pub log: Log,
    /// What clients wanted and were answered.
    pub ops: BTreeMap<OpId, Op>,
}

impl Recording {
    /// What was recorded up to now, if anything was.
    #[must_use]
    pub fn of(world: &Arc<World>, history: &History) -> Option<Arc<Self>> {
        let log = history.recorder().log()?;
        let (world, ops) = (Arc::clone(world), history.ops());
        Some(Arc::new(Self { world, log, ops }))
    }
}

impl Outcome {
    /// A run that ended in a panic.
    #[must_use]
    pub fn crashed(seed: u64, panic: String, history: Option<&History>) -> Self {
        Self {
            seed,
            violations: vec![Violation::of_no_key(NO_PANIC, 0, panic)],
            history: history.map(History::text).unwrap_or_default(),
            fingerprint: history.map(History::fingerprint).unwrap_or_default(),
            operations: 0,
            succeeded: 0,
            messages: 0,
            simulated: Duration::ZERO,
            recording: None,
            marks: Marks::default(),
            excuses: Excuses::new(),
            counts: Counts::default(),
            spelled: None,
        }
    }
}
