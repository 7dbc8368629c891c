//! The name of a write that was overwritten, as a record remembers it. What it is good for, and for how long it is
//! kept, is told [there](super::overwritten).

use super::{Dot, Stamp, WriteId};

/// A value that was overwritten.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Overwritten {
    /// The dot of an attempt of it that was a sibling here.
    pub dot: Dot,
    /// The write.
    pub write_id: WriteId,
    /// Its stamp.
    pub stamp: Stamp,
    /// When it was overwritten: the stamp of what did, or just above the record's latest overwrite and its latest
    /// sibling if those are later.
    pub by: Stamp,
}
