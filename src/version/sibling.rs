//! One write as a record holds it.

use bytes::Bytes;

use super::{Dot, Rank, Stamp, WriteId};
use crate::mutant::{self, Mutant};

/// What was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Content {
    /// A value; an empty one is a value.
    Value(Bytes),
    /// A delete.
    Tombstone,
}

/// One write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its name: which replica stamped it, as which of its writes.
    pub dot: Dot,
    /// What the client asked for; stays when the write is retried at another replica.
    pub write_id: WriteId,
    /// When, in hybrid time: no smaller than any stamp it overwrote, and its [`Rank`] greater.
    pub stamp: Stamp,
    /// What was written.
    pub content: Content,
}

impl Version {
    /// Its place among the writes of its key.
    pub fn rank(&self) -> Rank {
        Rank {
            stamp: self.stamp,
            write_id: match mutant::on(Mutant::EqualStampsByDot) {
                true => WriteId::default(),
                false => self.write_id,
            },
        }
    }

    /// What it takes of a record's encoding, in bytes, or a little less than that.
    pub fn bytes(&self) -> usize {
        const BESIDE_ITS_VALUE: usize = 28;
        BESIDE_ITS_VALUE + self.value().map_or(0, Bytes::len)
    }

    /// Whether it is a delete.
    pub fn is_tombstone(&self) -> bool {
        self.content == Content::Tombstone
    }

    /// The value, unless it is a delete.
    pub fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Value(value) => Some(value),
            Content::Tombstone => None,
        }
    }

    /// A total order of what may stand at one dot. Honest replicas never put two versions there; for all others the
    /// greater one stays, so that even then every replica ends with the same record.
    pub(super) fn rank_and_content(&self) -> (Rank, &Content) {
        (self.rank(), &self.content)
    }
}
