//! Typed questions to a replica: what is asked fixes what is answered.
//!
//! [`Operation`] and [`Reply`] are what travels, and any reply can come back for any operation. Whoever asks uses one
//! of these instead: a reply that can't be is told as [`CallError::NoAnswer`] by [`answer_to`], and nowhere else.

use bytes::Bytes;

use super::{
    AcceptRequest, CallError, Digest, Dropped, JoinSource, Judged, KeyHash, Maintained,
    Maintenance, NodeReport, Operation, Purged, RecordKey, Reply, Standing, Synced, TreeName,
};
use crate::placement::{Epoch, Node, PartitionId};
use crate::version::{Dot, Rank, Stamp};

/// A question, and the type of its answer.
pub trait Ask {
    /// What is answered.
    type Answer: Send + 'static;

    /// As it travels.
    fn into_operation(self) -> Operation;

    /// The answer in `reply`; `None` when it answers something else.
    fn answer(reply: Reply) -> Option<Self::Answer>;
}

/// The answer to an `A`.
///
/// # Errors
/// What kept it from being answered. An answer to something else is none, and what became of the operation is unknown.
pub fn answer_to<A: Ask>(result: Result<Reply, CallError>) -> Result<A::Answer, CallError> {
    A::answer(result?).ok_or_else(|| CallError::NoAnswer("answered something else".into()))
}

/// What is held of a record? "Nothing" is an answer.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// Which record.
    pub key: RecordKey,
}

impl Ask for ReadRecord {
    type Answer = Option<Bytes>;

    fn into_operation(self) -> Operation {
        Operation::Read { key: self.key }
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Found { record } => Some(record),
            _ => None,
        }
    }
}

/// What became of a write that an owner was asked to give a dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AcceptAnswer {
    /// See [`Reply::Accepted`].
    Accepted {
        /// The write's dot.
        dot: Dot,
        /// The encoded record after the write.
        record: Bytes,
    },
    /// See [`Reply::Superseded`].
    Superseded {
        /// The greatest rank held.
        greatest: Rank,
        /// Whether an attempt of it may have been made, and overwritten or deleted since.
        may_be_over: bool,
        /// The encoded record as it stands.
        record: Bytes,
    },
    /// See [`Reply::Behind`].
    Behind,
}

impl Ask for AcceptRequest {
    type Answer = AcceptAnswer;

    fn into_operation(self) -> Operation {
        Operation::Accept(Box::new(self))
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Accepted { dot, record } => Some(AcceptAnswer::Accepted { dot, record }),
            Reply::Superseded {
                greatest,
                may_be_over,
                record,
            } => Some(AcceptAnswer::Superseded {
                greatest,
                may_be_over,
                record,
            }),
            Reply::Behind => Some(AcceptAnswer::Behind),
            _ => None,
        }
    }
}

/// Join a record: see [`Operation::Join`].
#[derive(Clone, Debug)]
pub struct JoinRecord {
    /// Which record.
    pub key: RecordKey,
    /// An encoded record.
    pub record: Bytes,
    /// Of which write the answer says how it stands; of the greatest of the record unless told.
    pub judged: Option<Judged>,
    /// Why it comes.
    pub source: JoinSource,
}

impl JoinRecord {
    /// Any record, for no reason but that the owner may lack it.
    #[must_use]
    pub const fn new(key: RecordKey, record: Bytes) -> Self {
        Self {
            key,
            record,
            judged: None,
            source: JoinSource::Client,
        }
    }
}

/// A record was joined, durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The greatest rank now held for the key.
    pub greatest: Rank,
    /// How the judged one of the writes that came stands there.
    pub standing: Standing,
}

impl Ask for JoinRecord {
    type Answer = Joined;

    fn into_operation(self) -> Operation {
        Operation::Join {
            key: self.key,
            record: self.record,
            judged: self.judged,
            source: self.source,
        }
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Joined { greatest, standing } => Some(Joined { greatest, standing }),
            _ => None,
        }
    }
}

/// How are you?
#[derive(Clone, Copy, Debug)]
pub struct Probe;

impl Ask for Probe {
    type Answer = NodeReport;

    fn into_operation(self) -> Operation {
        Operation::Probe
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Report(report) => Some(report),
            _ => None,
        }
    }
}

/// Refuse epochs below this one from now on, if you hold nothing: see [`Operation::AdoptEpochIfEmpty`]. Answers whether
/// it does.
#[derive(Clone, Copy, Debug)]
pub struct AdoptEpochIfEmpty {
    /// The epoch to adopt.
    pub epoch: Epoch,
    /// Whether the replica owns nothing yet.
    pub is_new: bool,
}

impl Ask for AdoptEpochIfEmpty {
    type Answer = bool;

    fn into_operation(self) -> Operation {
        let Self { epoch, is_new } = self;
        Operation::AdoptEpochIfEmpty { epoch, is_new }
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Adopted { adopted } => Some(adopted),
            _ => None,
        }
    }
}

/// Trees, in the order of their names: see [`Maintained::Roots`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreePage {
    /// Each with the digest of all its records, and of what was purged.
    pub roots: Vec<(TreeName, Digest)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Keys, in order: see [`Maintained::Keys`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPage {
    /// Each with the hash of its record.
    pub keys: Vec<KeyHash>,
    /// Whether there may be more, after this one.
    pub more: Option<RecordKey>,
}

impl From<KeyPage> for Maintained {
    fn from(KeyPage { keys, more }: KeyPage) -> Self {
        Self::Keys { keys, more }
    }
}

/// A question that is one kind of [`Maintenance`]: its fields are those of the variant.
macro_rules! maintenance_questions {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } -> $answer:ty = $reply:pat => $value:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the fields are those of the variant, which documents them")]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl Ask for $name {
            type Answer = $answer;

            fn into_operation(self) -> Operation {
                let Self { $($field),* } = self;
                Operation::Maintenance(Box::new(Maintenance::$name { $($field),* }))
            }

            fn answer(reply: Reply) -> Option<Self::Answer> {
                match reply {
                    Reply::Maintained($reply) => Some($value),
                    _ => None,
                }
            }
        }
    )+};
}

maintenance_questions! {
    /// See [`Maintenance::Roots`].
    Roots { after: Option<TreeName> } -> TreePage = Maintained::Roots { roots, more } => TreePage { roots, more };
    /// See [`Maintenance::RootsOf`].
    RootsOf { partition: PartitionId, after: Option<TreeName> } -> TreePage
        = Maintained::Roots { roots, more } => TreePage { roots, more };
    /// See [`Maintenance::Leaves`].
    Leaves { tree: TreeName } -> Vec<(u8, Digest)> = Maintained::Leaves { leaves } => leaves;
    /// See [`Maintenance::Keys`].
    Keys { tree: TreeName, leaves: u64, after: Option<RecordKey> } -> KeyPage
        = Maintained::Keys { keys, more } => KeyPage { keys, more };
    /// See [`Maintenance::Sync`].
    Sync { tree: TreeName, peer: Node } -> Synced = Maintained::Synced(synced) => synced;
    /// See [`Maintenance::Hint`].
    Hint { key: RecordKey, targets: Vec<Node> } -> () = Maintained::Done => ();
    /// See [`Maintenance::Tombstones`].
    Tombstones { tree: TreeName, after: Option<RecordKey>, last_write_wins: bool } -> KeyPage
        = Maintained::Keys { keys, more } => KeyPage { keys, more };
    /// See [`Maintenance::AreTombstones`].
    AreTombstones { keys: Vec<KeyHash> } -> KeyPage = Maintained::Keys { keys, more } => KeyPage { keys, more };
    /// See [`Maintenance::Purge`].
    Purge { keys: Vec<KeyHash> } -> () = Maintained::Done => ();
    /// See [`Maintenance::DropPurged`].
    DropPurged { keys: Vec<KeyHash> } -> () = Maintained::Done => ();
    /// See [`Maintenance::KeepPurged`].
    KeepPurged { tree: TreeName, purged: Purged } -> () = Maintained::Done => ();
    /// See [`Maintenance::Heal`].
    Heal { key: RecordKey, hash: u128, record: Option<Bytes> } -> () = Maintained::Done => ();
    /// See [`Maintenance::Refilled`].
    Refilled { incarnation: crate::version::Actor } -> () = Maintained::Done => ();
    /// See [`Maintenance::DeliverHints`].
    DeliverHints { target: Node } -> () = Maintained::Done => ();
    /// See [`Maintenance::ForgetHints`].
    ForgetHints { target: crate::placement::NodeId, partitions: Vec<PartitionId> } -> () = Maintained::Done => ();
    /// See [`Maintenance::Fence`].
    Fence { partitions: Option<Vec<PartitionId>>, leaving: bool, horizon: Stamp } -> Stamp
        = Maintained::Fenced { horizon } => horizon;
    /// See [`Maintenance::DropTree`].
    DropTree { tree: TreeName } -> Dropped = Maintained::Dropped(dropped) => dropped;
}

/// What has been purged of a tree? See [`Maintenance::Purged`].
#[derive(Clone, Debug)]
pub struct PurgedOf {
    /// Which tree.
    pub tree: TreeName,
}

impl Ask for PurgedOf {
    type Answer = Purged;

    fn into_operation(self) -> Operation {
        Operation::Maintenance(Box::new(Maintenance::Purged { tree: self.tree }))
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Maintained(Maintained::Purged(purged)) => Some(purged),
            _ => None,
        }
    }
}

/// Which records are damaged? See [`Maintenance::Damaged`].
#[derive(Clone, Copy, Debug)]
pub struct ListDamaged;

impl Ask for ListDamaged {
    type Answer = Vec<KeyHash>;

    fn into_operation(self) -> Operation {
        Operation::Maintenance(Box::new(Maintenance::Damaged))
    }

    fn answer(reply: Reply) -> Option<Self::Answer> {
        match reply {
            Reply::Maintained(Maintained::Keys { keys, .. }) => Some(keys),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;

    #[test]
    fn a_reply_to_something_else_is_no_answer() {
        let found = Reply::Found { record: None };
        assert_eq!(answer_to::<ReadRecord>(Ok(found.clone())), Ok(None));
        let odd = Err(CallError::NoAnswer("answered something else".into()));
        assert_eq!(answer_to::<Probe>(Ok(found.clone())), odd);
        assert!(odd.is_err_and(|error| error.may_have_happened()));
        assert!(answer_to::<AcceptRequest>(Ok(found)).is_err());
        let refused = CallError::NotSent("no connection".into());
        assert_eq!(answer_to::<Leaves>(Err(refused.clone())), Err(refused));
    }

    #[test]
    fn a_question_of_maintenance_is_the_variant_of_its_name() {
        let tree = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k").tree();
        let asked = Leaves { tree: tree.clone() }.into_operation();
        assert_eq!(
            asked,
            Operation::Maintenance(Box::new(Maintenance::Leaves { tree }))
        );
        let done = Reply::Maintained(Maintained::Done);
        assert_eq!(Purge::answer(done.clone()), Some(()));
        assert_eq!(Leaves::answer(done), None);
    }
}
