//! What storage nodes answer, looked at on its way: which write got which dot where, and who said to hold it.
//!
//! The tap sees what a node *says*, in the moment it says it, whether or not the answer arrives. It knows nothing that
//! is on a disk only.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use pairdb::ports::{Operation, RecordKey, Refusal, Reply, Request};
use pairdb::version::Record;

use crate::asked::record_of;
use crate::attempts::CallOf;
use crate::describe;
use crate::endpoint::Endpoint;
use crate::excuse::Excuse;
use crate::hash::Fnv;
use crate::history::History;
use crate::readings::Reading;
use crate::recorder::{Life, Recorder};
use crate::reign::Reign;
use crate::seen::{Said, Seen};
use crate::steps::{Nodes, Steps};
use crate::story::Story;

/// Looks at answers. Copies share what they have seen.
#[derive(Clone)]
pub struct Tap {
    history: History,
    story: Story,
    state: Arc<Mutex<Seen>>,
    steps: Arc<Mutex<Steps>>,
    nodes: Arc<OnceLock<Box<dyn Nodes>>>,
}

impl Tap {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(history: History, story: Story) -> Self {
        Self {
            history,
            story,
            state: Arc::default(),
            steps: Arc::default(),
            nodes: Arc::default(),
        }
    }

    /// Looks at these nodes, too.
    pub fn look_at(&self, nodes: Box<dyn Nodes>) {
        let _ = self.nodes.set(nodes);
    }

    /// Who writes down what passes.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        self.history.recorder()
    }

    /// A coordinator asks a node.
    pub fn asks(&self, from: Endpoint, request: &Request) -> Vec<CallOf> {
        let now = self.history.now();
        self.state().attempts.asks(from, request, now)
    }

    /// It has an answer of that node that is no refusal.
    pub fn heard(&self, calls: Vec<CallOf>) {
        let now = self.history.now();
        self.state().attempts.heard(calls, now);
    }

    /// A coordinator has what it read.
    pub fn read(&self, reading: Reading, reply: &Reply) {
        let now = self.history.now();
        self.state().readings.heard(reading, reply, now);
    }

    /// A request has arrived at a node.
    #[must_use]
    pub fn arrived(&self, from: Endpoint, who: Endpoint, request: &Request) -> Said {
        self.history.message(&digest(who, request));
        self.history.describe(|| describe::request(who, request));
        self.story.arrived(who, request);
        self.state().arrived(from, who, request)
    }

    /// A node answers.
    pub fn answered(
        &self,
        who: Endpoint,
        request: &Request,
        result: &Result<Reply, Refusal>,
        said: Said,
    ) {
        let held;
        let (true_of_it, counts) = match result {
            // Whether or not it counts for a quorum, it is true.
            Ok(Reply::Refilling(reply)) => {
                held = Ok((**reply).clone());
                (&held, false)
            }
            result => (result, true),
        };
        self.story.answers(who, request, true_of_it);
        let at = self.history.now();
        {
            let mut seen = self.state();
            seen.done(who, &request.operation);
            match true_of_it {
                Ok(reply) => {
                    seen.answered(who, request, (reply, counts), said, at);
                    if joins(request, reply) && self.holds_records(who) {
                        let what = format!("{who} joined with records that it had before");
                        seen.contradiction("step", None, what);
                    }
                }
                Err(refusal) => seen.fences.refused(who, request, refusal),
            }
        }
        let Some(key) = record_of(&request.operation) else {
            return;
        };
        self.history.describe(|| describe::answer(who, key, result));
        let answer = fingerprint(&request.operation, true_of_it);
        self.history.message(&answer.to_be_bytes());
    }

    /// Whether a node was told to remove the whole tree that a record is in, and is at it.
    #[must_use]
    pub fn drops_tree(&self, who: Endpoint, key: &RecordKey) -> bool {
        self.state().drops_tree(who, key)
    }

    /// A node dropped its copy of a record; `owners` have what they hold of it.
    pub fn dropped(
        &self,
        who: Endpoint,
        key: &RecordKey,
        old: &Bytes,
        owners: &[(Endpoint, Option<Bytes>)],
    ) {
        let at = self.history.now();
        self.state().dropped(who, key, old, owners, at);
    }

    /// A topology was stored: what it relies on is looked at.
    pub fn stored(&self, before: &Reign, now: &Reign) {
        if let Some(nodes) = self.nodes.get() {
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.stored(&**nodes, (before, now), &mut self.state());
        }
    }

    /// A node is taken for lost, with all it holds.
    pub fn given_up(&self, who: Endpoint) {
        let at = self.history.now();
        self.state().given_up(who, at);
    }

    /// Which nodes were taken for lost, and have not begun anew since.
    #[must_use]
    pub fn lost_for_good(&self) -> BTreeSet<Endpoint> {
        self.state().lost_for_good().clone()
    }

    /// A node gets an empty disk, to join once more.
    pub fn begins_anew(&self, who: Endpoint) {
        let at = self.history.now();
        self.state().begins_anew(who, at);
    }

    /// What a node had taken on to refuse is lost with its disk, or was set back.
    pub fn fences_lost(&self, who: Endpoint) {
        self.state().fences.lost(who);
    }

    /// A node removed a record. `others` have what the other owners hold of it; `owed`: it had
    /// noted that one lacks it.
    pub fn purged(
        &self,
        who: Endpoint,
        key: &RecordKey,
        old: &Bytes,
        others: &[(Endpoint, Option<Bytes>)],
        owed: bool,
    ) {
        self.state().purged(who, key, old, others, owed);
    }

    /// A node may have removed a record in a commit that made it anew: what it knew of it before may be gone.
    pub fn perhaps_purged(&self, who: Endpoint, key: &RecordKey, old: &Bytes) {
        self.state().perhaps_purged(who, key, old);
    }

    /// A node was made to believe in an epoch that nobody published: what it asks of others by it is no evidence.
    pub fn misled(&self, who: Endpoint) {
        self.state().misled(who);
    }

    /// A node's process ended.
    pub fn ended(&self, who: Endpoint) {
        let at = self.history.now();
        self.history.recorder().life(who, Life::Ends);
        self.state().ended(who, at);
    }

    /// A node lost something that it had said to hold, and knows that.
    pub fn lost(&self, who: Endpoint) {
        let at = self.history.now();
        self.state().lost(who, at);
    }

    /// A node's disk went back to an earlier state, and the node does not know.
    pub fn went_back(&self, who: Endpoint) {
        let at = self.history.now();
        self.state().went_back(who, at);
    }

    /// A record on a node's disk can't be read any more.
    pub fn damaged(&self, who: Endpoint, key: &RecordKey) {
        let at = self.history.now();
        self.state().damaged(who, at, key);
    }

    /// Something that was found is excused.
    pub fn excused(&self, excuse: Excuse) {
        self.state().excuses.note(excuse);
    }

    /// All that was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.state().clone()
    }

    fn holds_records(&self, who: Endpoint) -> bool {
        let nodes = self.nodes.get();
        nodes.is_some_and(|nodes| !nodes.records(who).is_empty())
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a node has joined as one that is new.
const fn joins(request: &Request, reply: &Reply) -> bool {
    matches!(
        (&request.operation, reply),
        (
            Operation::AdoptEpochIfEmpty { is_new: true, .. },
            Reply::Adopted { adopted: true }
        )
    )
}

/// What tells one request from another.
fn digest(who: Endpoint, request: &Request) -> [u8; 8] {
    let mut hash = Fnv::default();
    hash.write(who.to_string().as_bytes());
    hash.write(&request.epoch.0.to_be_bytes());
    match &request.operation {
        Operation::Accept(stamp) => {
            hash.write(b"stamp");
            hash.write(stamp.key.as_bytes());
            hash.write(&stamp.write_id.0.to_be_bytes());
            hash.write(&stamp.stamp.0.to_be_bytes());
        }
        Operation::Join { key, record, .. } => {
            hash.write(b"join");
            hash.write(key.as_bytes());
            hash.write(record);
        }
        Operation::Read { key } => {
            hash.write(b"read");
            hash.write(key.as_bytes());
        }
        _ => hash.write(b"other"),
    }
    hash.finish().to_be_bytes()
}

/// What tells one answer from another.
fn fingerprint(operation: &Operation, result: &Result<Reply, Refusal>) -> u64 {
    let mut hash = Fnv::default();
    match (operation, result) {
        (
            Operation::Accept(_),
            Ok(Reply::Accepted { record, .. } | Reply::Superseded { record, .. }),
        ) => {
            hash.write(record);
        }
        (Operation::Join { .. }, Ok(Reply::Joined { greatest, .. })) => {
            hash.write(&greatest.stamp.0.to_be_bytes());
            hash.write(&greatest.write_id.0.to_be_bytes());
        }
        (
            Operation::Read { .. },
            Ok(Reply::Found {
                record: Some(record),
            }),
        ) => hash.write(record),
        (Operation::Read { .. }, Ok(Reply::Found { record: None })) => {
            hash.write(&Record::default().encode());
        }
        (_, Ok(_)) => hash.write(b"other"),
        (_, Err(refusal)) => hash.write(refusal.to_string().as_bytes()),
    }
    hash.finish()
}
