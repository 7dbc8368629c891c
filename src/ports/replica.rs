//! What coordinators and storage nodes say to each other, and the port that carries it.
//!
//! A request names the epoch it was routed by; a replica that was told to refuse it does. Values travel as
//! reference-counted [`Bytes`] and are never copied on the way.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{HintsReport, Instant, Maintained, Maintenance, RecordKey, Release};
use crate::placement::{Epoch, Node, NodeId};
use crate::version::{Actor, Content, Context, Dot, Rank, Stamp, WriteId};

/// What a write replaces at the owner that accepts it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Overwrites {
    /// Everything held, all of which must have a smaller stamp (last write wins). The context is checked and no more:
    /// what the owner has not seen is left to the stamps.
    All(Context),
    /// Exactly what the context covers (siblings). The owner raises the stamp above what it overwrites.
    Covered(Context),
}

/// A client's write, to be given a dot by one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptRequest {
    /// Which record.
    pub key: RecordKey,
    /// The write's name. An owner that has applied it already does not apply it again.
    pub write_id: WriteId,
    /// The write's stamp, the same at every owner that is asked. Proposed by the coordinator, so that an attempt which
    /// is delivered late, twice, or at an owner given up on can't win over a write that came after.
    pub stamp: Stamp,
    /// What it replaces.
    pub overwrites: Overwrites,
    /// The value, or a tombstone.
    pub content: Content,
    /// As many siblings may be left beside it, or fewer where the owner allows fewer.
    pub siblings_max: u16,
}

impl AcceptRequest {
    /// The write's place among the writes of its key.
    pub fn rank(&self) -> Rank {
        Rank {
            stamp: self.stamp,
            write_id: self.write_id,
        }
    }
}

/// What a replica is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Give a write its dot, join it, make it durable. Answer: [`Reply::Accepted`], [`Reply::Superseded`] or
    /// [`Reply::Behind`].
    Accept(Box<AcceptRequest>),
    /// Join an encoded record, make it durable. Answer: [`Reply::Joined`].
    Join {
        /// Which record.
        key: RecordKey,
        /// An encoded [`Record`](crate::version::Record).
        record: Bytes,
        /// Of which write the answer says how it stands, be it that the record has it or overwrote it; of the greatest
        /// of the record unless told.
        judged: Option<Judged>,
        /// Why it comes.
        source: JoinSource,
    },
    /// Return the record. Answer: [`Reply::Found`].
    Read {
        /// Which record.
        key: RecordKey,
    },
    /// Tell how you are. Answer: [`Reply::Report`]. Never refused for its epoch.
    Probe,
    /// If no record is held, refuse epochs below this one from now on. Of one that is new nothing is left of a former
    /// life: hints, what was purged, fences of partitions. Answer: [`Reply::Adopted`].
    AdoptEpochIfEmpty {
        /// The epoch to adopt, greater than or equal to the replica's own.
        epoch: Epoch,
        /// Whether the replica owns nothing yet, so that its empty disk is as it should be: from now on it counts. One
        /// that owns something and lost its disk can't promise for what it had, and refuses ([`Refusal::Refilling`]).
        is_new: bool,
    },
    /// Look after what is stored. Answer: [`Reply::Maintained`].
    Maintenance(Box<Maintenance>),
}

impl Operation {
    /// What it is called in traces.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept(_) => "stamp",
            Self::Join { .. } => "join",
            Self::Read { .. } => "read",
            Self::Probe => "probe",
            Self::AdoptEpochIfEmpty { .. } => "adopt_epoch_if_empty",
            Self::Maintenance(_) => "upkeep",
        }
    }
}

/// Why a record is joined.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum JoinSource {
    /// A write or a read of a client needs it.
    #[default]
    Client,
    /// Owners exchange all that they hold differently. A node that is being refilled takes what seems to have been
    /// purged from nobody else.
    Exchange,
    /// It was noted that the node missed it. One that has handed over the record's partition does not take it any more
    /// ([`Refusal::HandedOver`]).
    Handoff,
}

/// A write that an owner is asked about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// An attempt of it.
    pub dot: Dot,
    /// Its rank.
    pub rank: Rank,
}

/// A request to one replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whom it is meant for; anybody else refuses.
    pub node: NodeId,
    /// The epoch it was routed by.
    pub epoch: Epoch,
    /// What to do.
    pub operation: Operation,
}

/// A replica's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The write has its dot here, now or since an earlier attempt, and is durable.
    Accepted {
        /// The write's dot.
        dot: Dot,
        /// The encoded record after the write.
        record: Bytes,
    },
    /// Not applied: the owner holds a write of a greater rank; or, for [`Overwrites::Covered`], the owner can't tell it
    /// from the repetition of a write that was overwritten and forgotten, unless its rank is greater.
    Superseded {
        /// The greatest rank held.
        greatest: Rank,
        /// Whether an attempt of it may have been made, and overwritten or deleted since, so that nobody can tell any
        /// more.
        may_be_over: bool,
        /// The encoded record as it stands.
        record: Bytes,
    },
    /// Not applied: the owner has not seen all that the context covers, so it can't tell what to overwrite. Only for
    /// [`Overwrites::Covered`].
    Behind,
    /// Joined and durable.
    Joined {
        /// The greatest rank now held for the key.
        greatest: Rank,
        /// How the judged one of the writes that came stands here; the greatest unless another was named.
        standing: Standing,
    },
    /// What is held.
    Found {
        /// The encoded record; `None` when there is none. "Not there" is an answer.
        record: Option<Bytes>,
    },
    /// How the node is.
    Report(NodeReport),
    /// The answer to [`Operation::AdoptEpochIfEmpty`].
    Adopted {
        /// False when records are held; nothing was changed then.
        adopted: bool,
    },
    /// The answer to [`Operation::Maintenance`].
    Maintained(Maintained),
    /// It is done: this is a [`Reply::Joined`] or [`Reply::Found`] of a node that is being refilled. It counts for no
    /// quorum, since the node can't know what it held before it lost its disk.
    Refilling(Box<Self>),
}

/// How a write stands at an owner that joined it. It decides nothing where siblings are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is the greatest that is held, or was when it first came: whatever outranks it here came after it.
    Leading,
    /// It was never held here, but the only write that is held knew it and overwrote it.
    Overwritten,
    /// A write of a greater rank is held that may have been here before it and may not know it.
    Outstripped,
}

impl Reply {
    /// What was answered, whether or not it counts.
    #[must_use]
    pub fn even_if_refilling(self) -> Self {
        match self {
            Self::Refilling(reply) => *reply,
            reply => reply,
        }
    }
}

/// How a storage node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeId,
    /// Every incarnation it had, the current one last.
    pub incarnations: Vec<Actor>,
    /// The newest epoch that it refuses older ones for, of all partitions or of some.
    pub epoch: Epoch,
    /// Its wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// About how many records it holds; exact when zero.
    pub keys: u64,
    /// How full its disk is, 0 to 100; `None` when it can't tell.
    pub disk_used_percent: Option<u8>,
    /// Whether it takes writes; `Some` says why not.
    pub refuses_writes: Option<String>,
    /// About how many tombstones wait to be purged; exact when zero.
    pub tombstones: u64,
    /// What it owes other nodes, those that it owes nothing left out.
    pub hints: Vec<HintsReport>,
    /// Whether it lost its disk and is not known yet to hold again all that it should; `Some` says for how long that
    /// has been so, restarts included, by its wall clock. Until then it counts for no quorum.
    pub refilling: Option<Duration>,
    /// The release that it speaks.
    pub release: Release,
    /// Who asked it for something a moment ago and is of an older release: names or addresses, for people.
    pub older_callers: Vec<Arc<str>>,
}

/// Why a replica did not do it. A refused operation had no effect, [`Refusal::StorageFailed`] excepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It knows a newer topology.
    #[error("routed by an old topology; the node knows epoch {}", current.0)]
    StaleEpoch {
        /// The epoch it knows.
        current: Epoch,
    },
    /// It is another node than the one asked for.
    #[error("asked for another node; this is {actual}")]
    WrongNode {
        /// Who it is.
        actual: NodeId,
    },
    /// Starting, stopping, or its disk does not take writes.
    #[error("the node can't serve this now: {0}")]
    Unavailable(String),
    /// More is queued than it takes on.
    #[error("the node's queue is full")]
    Overloaded,
    /// It held tombstones of the key that every owner held, and purged them; what is to be joined is older than they
    /// were.
    #[error("the record was deleted everywhere and purged; this is older")]
    Purged,
    /// It owns the record's partition no more, and its copy of it goes, or is gone; a hint is outdated.
    #[error("the node has handed over the partition")]
    HandedOver,
    /// It lost its disk or some of what it acknowledged, and does not hold all that it should yet: it can't tell what
    /// the write follows.
    #[error("the node can't prove that it holds what it acknowledged, and is being refilled")]
    Refilling,
    /// The stored record fails its checksum. It is kept for inspection and never served.
    #[error("the node's copy of the record is damaged")]
    Damaged,
    /// Its storage engine failed while making the operation durable; unlike every other refusal, this one may have
    /// had its effect.
    #[error("the node's storage failed: {0}")]
    StorageFailed(String),
    /// The write would leave more unresolved siblings beside it, in number or in bytes, than a key may have. Reading
    /// the key and writing with its context is the way out.
    #[error("{0}")]
    Crowded(String),
    /// The request makes no sense: a malformed record, a context nobody gave out.
    #[error("malformed request: {0}")]
    Malformed(String),
}

/// Why a call brought no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// It never left: no connection, or too much in flight.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The deadline passed or the connection broke after it left; whether it had an effect is unknown.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The process that calls has no room for the request, or for its answer; that says nothing of the node.
    #[error("no room for {}", if *sent { "the answer" } else { "the request" })]
    NoRoom {
        /// Whether it left; then whether it had an effect is unknown.
        sent: bool,
    },
    /// The replica refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl CallError {
    /// Whether the operation may have taken effect all the same.
    #[must_use]
    pub const fn may_have_happened(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer(_)
                | Self::NoRoom { sent: true }
                | Self::Refused(Refusal::StorageFailed(_))
        )
    }
}

/// Carries requests to replicas. May lose, delay, reorder and repeat them; an answer belongs to its request.
pub trait ReplicaTransport: Clone + Send + Sync + 'static {
    /// Sends `request` to `node` and waits for the answer, at most until `deadline`. The request leaves when the future
    /// is first polled; dropping the future gives up the answer, not the operation.
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static;
}
