//! How crowded a key may get: what a write may leave beside it.
//!
//! Siblings that a reader is shown are counted as they are shown: values only, and each logical write once however many
//! owners accepted it. Bytes are counted as they are kept, since the whole record is written, sent and read each time.
//! A write that leaves nothing is always welcome: it is the way out.
//!
//! A tombstone is not shown. All it says is that what it overwrote is gone, and the record's `seen` says that without
//! it. So whoever accepts under `siblings` overwrites the tombstones it holds as well (see [`is_hidden`]). Deletes
//! without a context would pile up otherwise, unseen, until no write had room. Of a deleted record one tombstone is
//! left, to be purged one day.
//!
//! What this is not: it bounds no join. Owners that accept at the same time may each leave as much, so a record has up
//! to that much from each of them, and is kept, read and sent all the same.

use std::collections::BTreeSet;

use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::Refusal;
use crate::version::Version;

/// What a write may leave beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// So many values that readers are shown.
    pub(super) siblings: usize,
    /// So many bytes of siblings, as they are kept.
    pub(super) bytes: usize,
}

impl Room {
    /// Refuses a write that would leave more than there is room for.
    ///
    /// # Errors
    /// [`Refusal::Crowded`], with the way out.
    pub(super) fn check<'v>(self, left: impl Iterator<Item = &'v Version>) -> Result<(), Refusal> {
        let mut shown = BTreeSet::new();
        let (mut kept, mut bytes) = (0_usize, 0_usize);
        for version in left {
            kept += 1;
            bytes = bytes.saturating_add(version.bytes());
            if !version.is_tombstone() {
                shown.insert(version.write_id);
            }
        }
        let siblings = match mutant::on(Mutant::HiddenSiblingsCounted) {
            true => kept,
            false => shown.len(),
        };
        if siblings >= self.siblings {
            marks::reached(Mark::SiblingsRefused);
            return Err(Refusal::Crowded(format!(
                "the key has {siblings} unresolved siblings, and {} are allowed; {WAY_OUT}",
                self.siblings
            )));
        }
        if bytes > self.bytes && !mutant::on(Mutant::SiblingBytesUnbounded) {
            marks::reached(Mark::SiblingBytesRefused);
            return Err(Refusal::Crowded(format!(
                "the key's unresolved siblings have {bytes} bytes, and {} are allowed; {WAY_OUT}",
                self.bytes
            )));
        }
        Ok(())
    }
}

const WAY_OUT: &str = "read it and write with its context";

/// Whether no reader would miss it: a tombstone that a new version takes the place of.
pub(super) fn is_hidden(sibling: &Version) -> bool {
    sibling.is_tombstone() && !mutant::on(Mutant::HiddenSiblingsCounted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::version::{Actor, Content, Dot, Stamp, WriteId};

    fn version(counter: u64, write_id: u128, value: Option<usize>) -> Version {
        Version {
            dot: Dot {
                actor: Actor(1),
                counter,
            },
            write_id: WriteId(write_id),
            stamp: Stamp(counter),
            content: value.map_or(Content::Tombstone, |len| {
                Content::Value(Bytes::from(vec![0; len]))
            }),
        }
    }

    fn refusal(room: Room, left: &[Version]) -> Option<String> {
        room.check(left.iter()).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_shown_is_counted() {
        let room = Room {
            siblings: 2,
            bytes: usize::MAX,
        };
        let mut left: Vec<Version> = (1..=300).map(|n| version(n, n.into(), None)).collect();
        assert_eq!(refusal(room, &left), None, "nobody is shown a tombstone");
        left.push(version(301, 7, Some(1)));
        left.push(version(302, 7, Some(1)));
        assert_eq!(refusal(room, &left), None, "one write, accepted twice");
        left.push(version(303, 8, Some(1)));
        assert_eq!(
            refusal(room, &left).unwrap(),
            "the key has 2 unresolved siblings, and 2 are allowed; read it and write with its context"
        );
    }

    #[test]
    fn bytes_are_counted_as_they_are_kept() {
        let room = Room {
            siblings: 256,
            bytes: 2000,
        };
        let left: Vec<Version> = (1..=3).map(|n| version(n, 7, Some(700))).collect();
        assert_eq!(refusal(room, &left[..2]), None);
        let refusal = refusal(room, &left).unwrap();
        assert!(
            refusal.starts_with("the key's unresolved siblings have 2")
                && refusal.ends_with("and 2000 are allowed; read it and write with its context"),
            "{refusal}"
        );
    }

    #[test]
    fn a_write_that_leaves_nothing_is_welcome() {
        let room = Room {
            siblings: 1,
            bytes: 0,
        };
        assert_eq!(refusal(room, &[]), None);
    }
}
