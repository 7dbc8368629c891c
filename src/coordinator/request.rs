//! What clients ask of a coordinator and what they get, free of any wire format.

use std::time::Duration;

use bytes::Bytes;

use crate::quorum::Consistency;
use crate::version::{Content, Stamp};

/// A write, or a delete when `content` is a tombstone. Nothing in it has been checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteRequest {
    /// The tenant's name.
    pub tenant: String,
    /// The key.
    pub key: String,
    /// The value, or a tombstone.
    pub content: Content,
    /// `None`: the tenant's default, else the server's.
    pub consistency: Option<Consistency>,
    /// What the client has seen, as given out by an earlier answer; empty: nothing.
    pub context: Bytes,
    /// `None`: no claim is made and the answer names a generated key.
    pub idempotency_key: Option<String>,
    /// How long the client waits; capped by the server's own timeout.
    pub timeout: Option<Duration>,
}

/// An acknowledged write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteOutcome {
    /// How many owners had it durably when it was acknowledged.
    pub replicas: usize,
    /// The consistency it was acknowledged at.
    pub consistency: Consistency,
    /// The readable clock of the record after the write.
    pub clock: Vec<ClockEntry>,
    /// The context to give with a later write or read.
    pub context: Bytes,
    /// The client's key, or a generated one.
    pub idempotency_key: String,
    /// Whether this is the answer to an earlier request with the same idempotency key.
    pub is_duplicate: bool,
    /// The idempotency store was down and the server is configured to serve all the same: a retry may be a second
    /// write.
    pub without_idempotency: bool,
    /// Bytes of values that stand beside the write. Its owners wrote them again with it, since a record is written
    /// whole.
    pub rewritten_bytes: usize,
}

/// A read. Nothing in it has been checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The tenant's name.
    pub tenant: String,
    /// The key.
    pub key: String,
    /// `None`: the tenant's default, else the server's.
    pub consistency: Option<Consistency>,
    /// The least the answer must cover; empty: no floor.
    pub context: Bytes,
    /// How long the client waits; capped by the server's own timeout.
    pub timeout: Option<Duration>,
}

/// An answered read: at least one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadOutcome {
    /// What the tenant's conflict policy shows, the winner first; never empty.
    pub values: Vec<ReadValue>,
    /// The readable clock of the record.
    pub clock: Vec<ClockEntry>,
    /// The context to give with a later write or read.
    pub context: Bytes,
}

/// One value of a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadValue {
    /// The bytes.
    pub value: Bytes,
    /// The write's stamp.
    pub stamp: Stamp,
}

/// An entry of the readable clock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClockEntry {
    /// The replica that stamped, by node and incarnation: `node-1#3f9a`.
    pub node: String,
    /// Its counter.
    pub counter: u64,
}
