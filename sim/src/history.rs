//! What happened: every operation of every client and every fault, as text for people and as values for the oracle.
//!
//! The text of one seed is the same to the byte in every process (promise 12). Messages between processes are not
//! written down but taken into the fingerprint, so that two runs which differ in a message differ in their histories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use madsim::time::TimeHandle;
use pairdb::quorum::Consistency;
use pairdb::version::Stamp;

use crate::endpoint::Endpoint;
use crate::hash::Fnv;
use crate::page::Recorder;

/// Simulated time since the start of the run, in nanoseconds.
pub type Time = u64;

/// The number of a client's operation, unique in a run, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(pub u32);

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value, named after its operation.
    Write,
    /// A tombstone.
    Delete,
    /// To know.
    Read,
}

impl Kind {
    /// In one word.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Read => "read",
        }
    }
}

/// A client's operation, with what it knows at its start.
#[derive(Clone, Debug)]
pub struct Op {
    /// Its number.
    pub id: OpId,
    /// Who wants it.
    pub client: u8,
    /// An index into the world's tenants.
    pub tenant: usize,
    /// The key.
    pub key: String,
    /// What is wanted.
    pub kind: Kind,
    /// The consistency asked for.
    pub consistency: Consistency,
    /// The operation whose answer's context was given along.
    pub given: Option<OpId>,
    /// The context itself; empty for none.
    pub context: Bytes,
    /// Whether it carries an idempotency key.
    pub idempotent: bool,
    /// When the first attempt left the client.
    pub invoked: Time,
    /// Every answer, in the order of their arrival; several only for operations that are retried.
    pub answers: Vec<Answer>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The attempts that arrived at a coordinator.
    pub arrived: Vec<Arrived>,
    /// Whom the last attempt went to.
    pub last_to: Option<Endpoint>,
    /// Whether some attempt's fate is unknown to the client.
    pub unknown: bool,
    /// Whether the idempotency store forgot its claim, if it had one.
    pub claim_forgotten: bool,
}

/// An attempt at a coordinator.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// When it arrived there.
    pub at: Time,
    /// When the client was told that another one with its idempotency key is at work, if it was.
    pub told_in_use: Option<Time>,
}

/// What a client was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it arrived.
    pub at: Time,
    /// What it says.
    pub result: Answered,
}

/// The content of an answer.
#[derive(Clone, Debug)]
pub enum Answered {
    /// A write or delete was acknowledged.
    Written {
        /// The context for later.
        context: Bytes,
        /// Whether it is an earlier attempt's answer.
        is_duplicate: bool,
        /// Whether no claim was made.
        without_idempotency: bool,
    },
    /// A read found values.
    Found {
        /// Each with its stamp, in the order of the answer.
        values: Vec<(Bytes, Stamp)>,
        /// The context for later.
        context: Bytes,
    },
    /// A read found nothing.
    NotFound {
        /// The context for later.
        context: Bytes,
    },
    /// It failed and had no effect.
    Refused,
    /// It failed and may have had its effect.
    Indeterminate,
}

impl Op {
    /// The first answer that acknowledges the operation.
    #[must_use]
    pub fn success(&self) -> Option<&Answer> {
        self.answers
            .iter()
            .find(|answer| answer.result.is_success())
    }

    /// When it was acknowledged.
    #[must_use]
    pub fn completed(&self) -> Option<Time> {
        self.success().map(|answer| answer.at)
    }

    /// Whether an attempt may have been made that no claim held back, because the idempotency store was down. Such a one is
    /// a write of its own, which may take effect at any later time.
    #[must_use]
    pub fn may_be_unclaimed(&self) -> bool {
        let unclaimed = |answer: &Answer| {
            matches!(
                answer.result,
                Answered::Written {
                    without_idempotency: true,
                    ..
                } | Answered::Indeterminate
            )
        };
        let unclaimed = self.answers.iter().any(unclaimed);
        self.attempts > 1 && (self.unknown || unclaimed)
    }

    /// Whether one operation may have become several writes: an attempt was repeated that no claim held back any more.
    /// `degrades`: coordinators go without a claim when they can't make one.
    #[must_use]
    pub fn may_be_remade(&self, degrades: bool) -> bool {
        self.attempts > 1 && self.claim_forgotten || degrades && self.may_be_unclaimed()
    }

    /// Whether a write or delete may have had an effect.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.unknown
            || self.answers.iter().any(|answer| {
                answer.result.is_success() || matches!(answer.result, Answered::Indeterminate)
            })
    }
}

impl Answered {
    /// Whether the operation did what it should.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Written { .. } | Self::Found { .. } | Self::NotFound { .. }
        )
    }

    /// The context, if there is one.
    #[must_use]
    pub const fn context(&self) -> Option<&Bytes> {
        match self {
            Self::Written { context, .. }
            | Self::Found { context, .. }
            | Self::NotFound { context } => Some(context),
            Self::Refused | Self::Indeterminate => None,
        }
    }
}

/// The record of a run. Copies share it.
#[derive(Clone)]
pub struct History {
    time: TimeHandle,
    recorder: Recorder,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whether messages are written down too, for people.
    verbose: bool,
    text: String,
    fingerprint: Fnv,
    ops: BTreeMap<OpId, Op>,
    messages: u64,
}

impl History {
    /// An empty history by the clock of the current simulation.
    #[must_use]
    pub fn new() -> Self {
        Self {
            time: TimeHandle::current(),
            recorder: Recorder::new(TimeHandle::current()),
            state: Arc::default(),
        }
    }

    /// Who writes the same down for a page, if told to.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The idempotency store has lost the claims of all operations so far.
    pub fn claims_forgotten(&self) {
        for op in self.state().ops.values_mut() {
            op.claim_forgotten = op.idempotent;
        }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Time {
        u64::try_from(self.time.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes down an event.
    pub fn note(&self, event: std::fmt::Arguments<'_>) {
        let now = self.now();
        let mut state = self.state();
        let start = state.text.len();
        let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
        let _ = writeln!(state.text, "{seconds:>3}.{nanos:09} {event}");
        let line = state.text[start..].to_owned();
        state.fingerprint.write(line.as_bytes());
    }

    /// Writes messages down from now on. They change the text and nothing else.
    pub fn write_messages(&self) {
        self.state().verbose = true;
    }

    /// Describes a message, if anybody wants to know.
    pub fn describe(&self, message: impl FnOnce() -> String) {
        let now = self.now();
        if self.state().verbose {
            let message = message();
            let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
            let text = &mut self.state().text;
            let _ = writeln!(text, "{seconds:>3}.{nanos:09}   {message}");
        }
    }

    /// Takes a message into the fingerprint.
    pub fn message(&self, what: &[u8]) {
        let now = self.now();
        let mut state = self.state();
        state.messages += 1;
        state.fingerprint.write(&now.to_be_bytes());
        state.fingerprint.write(what);
    }

    /// The operation whose context was given to `id`.
    #[must_use]
    pub fn given(&self, id: OpId) -> Option<OpId> {
        self.state().ops.get(&id)?.given
    }

    /// Starts an operation; the number is the next free one.
    pub fn invoke(&self, make: impl FnOnce(OpId, Time) -> Op) -> OpId {
        let now = self.now();
        let mut state = self.state();
        let id = OpId(state.ops.len() as u32 + 1);
        state.ops.insert(id, make(id, now));
        id
    }

    /// An answer has arrived.
    pub fn answer(&self, id: OpId, result: Answered) {
        let at = self.now();
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.answers.push(Answer { at, result });
        }
    }

    /// An attempt leaves the client.
    pub fn attempt(&self, id: OpId, to: Endpoint) {
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.attempts += 1;
            op.last_to = Some(to);
        }
    }

    /// An attempt has arrived at its coordinator.
    pub fn arrived(&self, id: OpId) {
        let now = self.now();
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.arrived.push(Arrived {
                at: now,
                told_in_use: None,
            });
        }
    }

    /// The last attempt's answer says that another one with its idempotency key is at work.
    pub fn in_use(&self, id: OpId) {
        let now = self.now();
        if let Some(op) = self.state().ops.get_mut(&id)
            && let Some(last) = op.arrived.last_mut()
        {
            last.told_in_use = Some(now);
        }
    }

    /// An attempt's fate will not be known.
    pub fn unknown(&self, id: OpId) {
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.unknown = true;
        }
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.state().text.clone()
    }

    /// The hash of all events and messages so far.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint.finish()
    }

    /// How many messages there were so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.state().messages
    }

    /// All operations so far.
    #[must_use]
    pub fn ops(&self) -> BTreeMap<OpId, Op> {
        self.state().ops.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}
