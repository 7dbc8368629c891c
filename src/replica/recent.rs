//! The writes a node accepted lately, by name.
//!
//! A repetition usually finds its write among the siblings still held. When that was overwritten meanwhile, this memory
//! finds it, so that it is not applied anew. It is bounded and lost with the process. A repetition beyond it carries an
//! old stamp: under last-write-wins it loses; with siblings, where stamps decide nothing, it is told from a new write
//! by the *horizon*. Every write with a stamp above it that was accepted here is remembered; one below it that is
//! forgotten may be a repetition, and has to come back with a greater stamp.

use std::collections::{BTreeMap, VecDeque};

use crate::version::{Dot, Stamp, VersionVector, WriteId};

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    /// The dot it was given.
    pub(super) dot: Dot,
    /// The stamp it has.
    pub(super) stamp: Stamp,
}

/// A write's name, and a checksum of the key it was for: a name that is used for two keys stands for two writes.
pub(super) type Name = (WriteId, u32);

pub(super) fn name(write_id: WriteId, key: &[u8]) -> Name {
    (write_id, crc32c::crc32c(key))
}

/// First in, first out.
#[derive(Debug)]
pub(super) struct RecentWrites {
    known: BTreeMap<Name, Known>,
    order: VecDeque<Name>,
    len_max: usize,
    horizon: Stamp,
}

impl RecentWrites {
    /// Nothing is remembered of earlier lives, whose stamps were no greater than `horizon`.
    pub(super) fn new(len_max: usize, horizon: Stamp) -> Self {
        Self {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            len_max,
            horizon,
        }
    }

    /// No write with a greater stamp was forgotten.
    pub(super) fn horizon(&self) -> Stamp {
        self.horizon
    }

    /// Nothing is remembered of writes up to this stamp, either: others accepted some of them.
    pub(super) fn raise_horizon(&mut self, horizon: Stamp) {
        self.horizon = self.horizon.max(horizon);
    }

    pub(super) fn get(&self, name: Name) -> Option<Known> {
        self.known.get(&name).copied()
    }

    /// The record of `key` was replaced by one that has seen this: what it never had was not made here.
    pub(super) fn forget_unseen(&mut self, key: &[u8], seen: &VersionVector) {
        let crc = crc32c::crc32c(key);
        self.known
            .retain(|(_, of), known| *of != crc || seen.covers(known.dot));
        let known = &self.known;
        self.order.retain(|name| known.contains_key(name));
    }

    pub(super) fn insert(&mut self, name: Name, known: Known) {
        if self.known.insert(name, known).is_none() {
            self.order.push_back(name);
        }
        while self.order.len() > self.len_max
            && let Some(oldest) = self.order.pop_front()
        {
            let forgotten = self.known.remove(&oldest);
            self.horizon = forgotten.map_or(self.horizon, |known| self.horizon.max(known.stamp));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Actor;

    #[test]
    fn forgets_what_a_replaced_record_never_had() {
        let known = |counter| Known {
            dot: Dot {
                actor: Actor(1),
                counter,
            },
            stamp: Stamp(counter),
        };
        let mut recent = RecentWrites::new(8, Stamp::ZERO);
        let names =
            [(1, "k"), (2, "k"), (3, "other")].map(|(n, key)| name(WriteId(n), key.as_bytes()));
        for (name, counter) in names.into_iter().zip([5, 7, 9]) {
            recent.insert(name, known(counter));
        }
        recent.forget_unseen(b"k", &[(Actor(1), 6)].into_iter().collect());
        let left = names.map(|name| recent.get(name).is_some());
        assert_eq!(left, [true, false, true]);
        // And later dots of the same node do not bring it back.
        recent.forget_unseen(b"k", &[(Actor(1), 99)].into_iter().collect());
        assert_eq!(recent.get(names[1]), None);
    }

    #[test]
    fn forgets_the_oldest() {
        let mut recent = RecentWrites::new(2, Stamp(1));
        let known = |counter| Known {
            dot: Dot {
                actor: Actor(1),
                counter,
            },
            stamp: Stamp(counter),
        };
        let name = |n| name(WriteId(n), b"key");
        recent.insert(name(1), known(1));
        recent.insert(name(2), known(2));
        recent.insert(name(1), known(3));
        assert_eq!(recent.get(name(1)), Some(known(3)), "accepted again");
        assert_eq!(recent.horizon(), Stamp(1), "nothing is forgotten yet");
        recent.insert(name(3), known(4));
        assert_eq!(recent.get(name(1)), None);
        assert_eq!(recent.horizon(), Stamp(3));
        assert_eq!(recent.get(name(2)), Some(known(2)));
        assert_eq!(recent.get(super::name(WriteId(2), b"other key")), None);
        assert_eq!(recent.known.len(), recent.order.len());
    }
}
