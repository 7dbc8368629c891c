//! What happened: every operation of every client and every fault, as text for people and as values for the oracle.
//!
//! The text of one seed is the same to the byte in every process (promise 12). Messages between processes are not
//! written down but taken into the fingerprint, so that two runs which differ in a message differ in their histories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use madsim::time::TimeHandle;

use pairdb::quorum::Consistency;

use crate::endpoint::Endpoint;
use crate::hash::Fnv;
use crate::op::{Answer, Answered, Arrived, Op, OpId, Time};
use crate::recorder::Recorder;

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

    /// An answer to an attempt at this consistency has arrived.
    pub fn answer(&self, id: OpId, result: Answered, consistency: Consistency) {
        let at = self.now();
        if let Some(op) = self.state().ops.get_mut(&id) {
            // What is acknowledged counts as the attempt that was; an earlier one's answer as the least of them.
            let is_own = matches!(
                result,
                Answered::Written {
                    is_duplicate: false,
                    ..
                }
            );
            if is_own && op.success().is_none() {
                op.consistency = consistency;
            }
            op.answers.push(Answer { at, result });
        }
    }

    /// One operation.
    #[must_use]
    pub fn op(&self, id: OpId) -> Option<Op> {
        self.state().ops.get(&id).cloned()
    }

    /// An operation brings the idempotency key of another one, which is a mistake.
    pub fn has_key_of(&self, id: OpId, other: OpId) {
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.key_of = Some(other);
        }
    }

    /// An operation was told that its idempotency key was used for something else.
    pub fn conflicts(&self, id: OpId) {
        if let Some(op) = self.state().ops.get_mut(&id) {
            op.told_conflict = true;
        }
    }

    /// An attempt at this consistency leaves the client.
    pub fn attempt(&self, id: OpId, to: Endpoint, consistency: Consistency) {
        if let Some(op) = self.state().ops.get_mut(&id) {
            if op.success().is_none() {
                op.consistency = op.consistency.min(consistency);
            }
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
