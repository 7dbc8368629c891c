//! How far a world's explicit steps and faults have come: what has happened, who waits for it, and what went otherwise
//! than was expected.
//!
//! What this is not: it decides nothing by chance, and a world without explicit steps pays nothing for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use pairdb::placement::{MoveState, Topology, TopologyChange};
use pairdb::ports::{Operation, Refusal, Reply, Request};
use pairdb::version::{Content, Record};

use crate::endpoint::Endpoint;
use crate::history::History;
use crate::op::{Ask, OpId, Time};
use crate::pause::pause;
use crate::value;
use crate::world::Event;

/// The story so far. Copies are the same one.
#[derive(Clone)]
pub struct Story {
    history: History,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When chaos began.
    began: Option<Time>,
    over: bool,
    happened: BTreeSet<Event>,
    waiting: Vec<(Event, oneshot::Sender<()>)>,
    /// How many changes of owners have begun.
    changes: u32,
    /// What the operations of steps are called.
    names: BTreeMap<OpId, String>,
    /// Deletes under way; their tombstones don't name them.
    deletes: BTreeMap<(String, String), String>,
    /// What each step's answer gave to be given along.
    contexts: BTreeMap<String, (OpId, Bytes)>,
    /// What each step asked.
    asked: BTreeMap<String, Ask>,
    complaints: Vec<Complaint>,
    /// Every request of every client; `None` unless somebody wants to know.
    attempts: Option<Vec<Attempt>>,
}

/// A client's request: what the history does not say of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The operation.
    pub op: OpId,
    /// When it left the client.
    pub at: Time,
    /// Which coordinator was asked.
    pub to: u8,
    /// How many bytes the value has beyond its name.
    pub padding: u64,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// How long the server may take.
    pub timeout: Duration,
    /// When the client gives up, if before that.
    pub gives_up: Option<Duration>,
    /// Whether the server's work ends with that.
    pub aborts: bool,
}

/// Something that went otherwise than was expected.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The operation it is about.
    pub op: Option<OpId>,
    /// What.
    pub what: String,
}

impl Story {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(history: History) -> Self {
        let state = Arc::default();
        Self { history, state }
    }

    /// Chaos begins.
    pub fn begin(&self) {
        let now = self.history.now();
        self.state().began = Some(now);
    }

    /// Chaos is over: nobody waits any longer.
    pub fn end(&self) {
        let mut state = self.state();
        state.over = true;
        state.waiting.clear();
    }

    /// Waits for `after`, and then for `us` microseconds; without an event those count from the beginning of chaos.
    /// Returns whether chaos still goes on.
    pub async fn reach(&self, after: Option<&Event>, us: u64) -> bool {
        let start = match after {
            None => self.state().began.unwrap_or_default(),
            Some(event) => {
                let waiting = self.wait_for(event);
                if let Some(waiting) = waiting
                    && waiting.await.is_err()
                {
                    return false;
                }
                self.history.now()
            }
        };
        let until = start + us * 1_000;
        let now = self.history.now();
        if now < until {
            pause(Duration::from_nanos(until - now)).await;
        }
        !self.state().over
    }

    /// `None` if it has happened. The receiver is canceled when chaos ends.
    pub fn wait_for(&self, event: &Event) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        if state.happened.contains(event) {
            return None;
        }
        let (happens, happened) = oneshot::channel();
        if !state.over {
            state.waiting.push((event.clone(), happens));
        }
        Some(happened)
    }

    /// Something happens, for the first time or once more.
    pub fn happens(&self, event: Event) {
        let mut state = self.state();
        if state.began.is_none() {
            return;
        }
        let mut index = 0;
        while index < state.waiting.len() {
            if state.waiting[index].0 == event {
                let (_, waiting) = state.waiting.swap_remove(index);
                let _ = waiting.send(());
            } else {
                index += 1;
            }
        }
        state.happened.insert(event);
    }

    fn next_change(&self) -> u32 {
        let mut state = self.state();
        state.changes += 1;
        state.changes
    }

    /// A topology is stored after another one.
    pub fn published(&self, before: &Topology, now: &Topology) {
        let (old, new) = (before.change.as_deref(), now.change.as_deref());
        let is_same = |change: &&TopologyChange| old.is_some_and(|old| old.id == change.id);
        let same = new.filter(is_same);
        if old.is_some() && same.is_none() {
            let number = self.state().changes;
            self.happens(Event::ChangeEnds(number));
        }
        let Some(change) = new else {
            return;
        };
        if same.is_none() {
            let number = self.next_change();
            self.happens(Event::ChangeBegins(number));
        }
        if change.cancelled && !old.is_some_and(|old| old.cancelled) {
            let number = self.state().changes;
            self.happens(Event::ChangeTurnedBack(number));
        }
        for moving in &change.moves {
            let was = same.and(old).and_then(|old| old.of(moving.partition));
            let is_news = was.is_none_or(|was| was.state != moving.state);
            if is_news && moving.state != MoveState::Waiting {
                self.happens(Event::PartitionIs(moving.partition.0, moving.state));
            }
        }
    }

    /// `op` is what the step `name` asks.
    pub fn named(&self, op: OpId, name: &str) {
        self.state().names.insert(op, name.to_owned());
    }

    /// The delete of this place that is under way now is the step `name`'s.
    pub fn deletes(&self, tenant: &str, key: &str, name: &str) {
        let place = (tenant.to_owned(), key.to_owned());
        self.state().deletes.insert(place, name.to_owned());
    }

    /// What the step is called that `op` belongs to.
    #[must_use]
    pub fn name(&self, op: OpId) -> Option<String> {
        self.state().names.get(&op).cloned()
    }

    /// A step asks this.
    pub fn remember(&self, step: &str, ask: &Ask) {
        self.state().asked.insert(step.to_owned(), ask.clone());
    }

    /// What a step asked.
    #[must_use]
    pub fn asked(&self, step: &str) -> Option<Ask> {
        self.state().asked.get(step).cloned()
    }

    /// Keeps every request from now on.
    pub fn keep_attempts(&self) {
        self.state().attempts = Some(Vec::new());
    }

    /// A request leaves a client.
    pub fn attempted(&self, attempt: impl FnOnce() -> Attempt) {
        if let Some(attempts) = &mut self.state().attempts {
            attempts.push(attempt());
        }
    }

    /// The client of the latest request of `op` has gone away, and the server's work with it.
    pub fn aborted(&self, op: OpId) {
        if let Some(attempts) = &mut self.state().attempts
            && let Some(attempt) = attempts.iter_mut().rfind(|attempt| attempt.op == op)
        {
            attempt.aborts = true;
        }
    }

    /// The requests that were kept, and when chaos began.
    #[must_use]
    pub fn attempts(&self) -> (Time, Vec<Attempt>) {
        let state = self.state();
        let attempts = state.attempts.clone().unwrap_or_default();
        (state.began.unwrap_or_default(), attempts)
    }

    /// A step's answer gave out a context.
    pub fn gave(&self, step: &str, op: OpId, context: Bytes) {
        self.state().contexts.insert(step.to_owned(), (op, context));
    }

    /// The context in a step's answer.
    #[must_use]
    pub fn context(&self, step: &str) -> Option<(OpId, Bytes)> {
        self.state().contexts.get(step).cloned()
    }

    /// Something went otherwise than was expected.
    pub fn complain(&self, op: Option<OpId>, what: String) {
        self.history
            .note(format_args!("not as the story goes: {what}"));
        self.state().complaints.push(Complaint { op, what });
    }

    /// What went otherwise than was expected.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        self.state().complaints.clone()
    }

    /// A request has arrived at a storage node.
    pub fn arrived(&self, who: Endpoint, request: &Request) {
        if let Operation::Accept(stamp) = &request.operation
            && let Some(name) = self.writer(stamp.key.tenant(), stamp.key.key(), &stamp.content)
        {
            self.happens(Event::Reaches(name, who));
        }
    }

    /// A storage node is about to answer.
    pub fn answers(&self, who: Endpoint, request: &Request, result: &Result<Reply, Refusal>) {
        match (&request.operation, result) {
            (Operation::Accept(stamp), Ok(Reply::Accepted { .. })) => {
                let (tenant, key) = (stamp.key.tenant(), stamp.key.key());
                if let Some(name) = self.writer(tenant, key, &stamp.content) {
                    self.happens(Event::StampedBy(name.clone(), who));
                    self.happens(Event::Stamped(name));
                }
            }
            (Operation::Join { key, record, .. }, Ok(Reply::Joined { .. })) if self.is_told() => {
                let record = Record::decode(record.clone()).unwrap_or_default();
                for version in record.siblings() {
                    let writer = self.writer(key.tenant(), key.key(), &version.content);
                    if let Some(name) = writer {
                        self.happens(Event::JoinedBy(name, who));
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether there are steps at all.
    fn is_told(&self) -> bool {
        !self.state().names.is_empty()
    }

    /// The step that wrote this.
    fn writer(&self, tenant: &str, key: &str, content: &Content) -> Option<String> {
        if !self.is_told() {
            return None;
        }
        match content {
            Content::Value(value) => self.name(value::parse(tenant, key, value)?),
            Content::Tombstone => {
                let place = (tenant.to_owned(), key.to_owned());
                self.state().deletes.get(&place).cloned()
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use madsim::runtime::Runtime;
    use pairdb::placement::MoveState;

    use super::Story;
    use crate::endpoint::Endpoint;
    use crate::history::History;
    use crate::reign::tests::{begun, founded, stepped, world};
    use crate::world::{ChangePlan, Event};

    #[test]
    fn what_a_topology_says_of_a_change_happens_when_it_is_stored() {
        Runtime::new().block_on(async {
            let story = Story::new(History::new());
            story.begin();
            let world = world();
            let plan = ChangePlan {
                add: vec![Endpoint::Storage(4)],
                ..ChangePlan::default()
            };
            let first = founded(&world);
            let waiting = begun(&world, &first, &plan, 10);
            let copying = stepped(&waiting, 20);
            let topology = |reign: &crate::reign::Reign| reign.placement.topology().clone();
            let has_happened = |event: &Event| story.wait_for(event).is_none();

            story.published(&topology(&first), &topology(&waiting));
            assert!(has_happened(&Event::ChangeBegins(1)));
            let is_copying = Event::PartitionIs(0, MoveState::Copying);
            assert!(!has_happened(&is_copying));
            story.published(&topology(&waiting), &topology(&copying));
            assert!(has_happened(&is_copying) && !has_happened(&Event::ChangeTurnedBack(1)));
            let back = topology(&copying).cancelled().expect("it leads back");
            story.published(&topology(&copying), &back);
            assert!(has_happened(&Event::ChangeTurnedBack(1)));
            assert!(has_happened(&Event::PartitionIs(0, MoveState::Moved)));
            assert!(!has_happened(&Event::ChangeEnds(1)));
            story.published(&back, &back.finished().expect("it ends"));
            assert!(has_happened(&Event::ChangeEnds(1)) && !has_happened(&Event::ChangeBegins(2)));
        });
    }
}
