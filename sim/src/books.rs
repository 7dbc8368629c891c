//! The books that nodes keep beside their records, gone through in the end: digests of leaves, and which records wait
//! to be purged or settled. They change in one commit with the records, so they must agree with them at any time.
//!
//! Where all owners keep the same wrong books nothing differs, and nobody would find out: what differs later in a key
//! is not seen, and a delete is never purged. So everything is made anew here, from the records alone.
//!
//! What this is not: it looks at no record that is damaged, nor at the leaf that it is in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pairdb::ports::{Digest, RecordKey, Space};
use pairdb::version::Record;

use crate::cluster::Cluster;
use crate::excuse::Excuse;

type Entries = BTreeMap<Bytes, Bytes>;

/// Where a node keeps how far its digests have come, and what it says when all partitions have them.
const DIGESTED: (&[u8], [u8; 4]) = (b"digested", [0, 1, 0, 0]);
/// How the note of a record ends in which older values hide beneath a tombstone.
const HIDES: u8 = 1;

/// What is wrong in the books of the cluster's nodes. (One that was taken for lost is asked for nothing.)
pub fn wrong(cluster: &Cluster) -> Vec<String> {
    let lost = cluster.tap.lost_for_good();
    let of = |space| cluster.contents(space);
    let (records, digests) = (of(Space::Records), of(Space::Digests));
    let (tombstones, meta) = (of(Space::Tombstones), of(Space::Meta));
    let none = Entries::new();
    let mut wrong = Vec::new();
    for (who, records) in records.iter().filter(|(who, _)| !lost.contains(who)) {
        let books = Books::of(records);
        let has_digests = meta.get(who).and_then(|meta| meta.get(DIGESTED.0));
        if has_digests.is_some_and(|digested| **digested == DIGESTED.1) {
            let stored = digests.get(who).unwrap_or(&none);
            for _ in books.damaged_that_differ(stored) {
                cluster.tap.excused(Excuse::Damaged);
            }
            wrong.extend(books.digests_that_differ(stored).map(|name| {
                format!("{who} keeps a digest that is not that of its records: {name}")
            }));
        }
        let stored = tombstones.get(who).unwrap_or(&none);
        wrong.extend(
            books
                .notes_that_differ(stored)
                .map(|name| format!("{who} notes of {name} what its record is not")),
        );
    }
    wrong
}

/// What follows from a node's records.
#[derive(Default)]
struct Books {
    /// By tree and leaf.
    digests: BTreeMap<Bytes, Digest>,
    /// For each record whether there should be a note, and whether it says that values hide.
    notes: BTreeMap<Bytes, Option<bool>>,
    /// Leaves with damaged records.
    damaged: BTreeSet<Bytes>,
}

impl Books {
    fn of(records: &Entries) -> Self {
        let mut books = Self::default();
        for (name, encoded) in records {
            let Ok(key) = RecordKey::from_bytes(name.clone()) else {
                continue;
            };
            let leaf: Bytes = [&key.tree().as_bytes()[..], &[key.leaf()]].concat().into();
            let Ok(record) = Record::decode(encoded.clone()) else {
                books.damaged.insert(leaf);
                continue;
            };
            let digest = books.digests.entry(leaf).or_default();
            digest.add(Digest::hash(&key, encoded));
            let note = match (record.is_deleted(), record.hides_values()) {
                (true, _) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            };
            books.notes.insert(name.clone(), note);
        }
        books
    }

    fn digests_that_differ<'a>(&'a self, stored: &'a Entries) -> impl Iterator<Item = String> + 'a {
        let differ = self.leaves_that_differ(stored);
        let differ = differ.filter(|name| !self.damaged.contains(*name));
        differ.map(|name| format!("{name:?}"))
    }

    /// Leaves that can't be compared, since a record in them is damaged.
    fn damaged_that_differ<'a>(&'a self, stored: &'a Entries) -> impl Iterator<Item = &'a Bytes> {
        let differ = self.leaves_that_differ(stored);
        differ.filter(|name| self.damaged.contains(*name))
    }

    fn leaves_that_differ<'a>(&'a self, stored: &'a Entries) -> impl Iterator<Item = &'a Bytes> {
        let names: BTreeSet<&Bytes> = self.digests.keys().chain(stored.keys()).collect();
        names.into_iter().filter(|name| {
            let made = self.digests.get(*name).map(|digest| {
                let (sum, records) = (digest.sum.to_be_bytes(), digest.records.to_be_bytes());
                [&sum[..], &records[..]].concat()
            });
            let stored = stored.get(*name).map(|stored| stored.to_vec());
            made != stored
        })
    }

    fn notes_that_differ<'a>(&'a self, stored: &'a Entries) -> impl Iterator<Item = String> + 'a {
        let differ = self.notes.iter().filter(|(name, note)| {
            let stored = stored.get(*name);
            let noted = stored.map(|note| note.get(8) == Some(&HIDES));
            noted != **note
        });
        differ.map(|(name, _)| format!("{name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use pairdb::placement::PartitionId;
    use pairdb::ports::TenantId;
    use pairdb::version::{Actor, Content, Dot, Stamp, Version, WriteId};

    use super::*;

    fn key() -> RecordKey {
        let tenant = TenantId::new("t").expect("a tenant's name");
        RecordKey::new(PartitionId(0), &tenant, "k")
    }

    fn records(content: Content) -> Entries {
        let dot = Dot {
            actor: Actor(1),
            counter: 1,
        };
        let version = Version {
            dot,
            write_id: WriteId(1),
            stamp: Stamp(1),
            content,
        };
        let seen = [(dot.actor, dot.counter)].into_iter().collect();
        let record = Record::new(seen, vec![version]).expect("a record that can be");
        Entries::from([(key().as_bytes().clone(), record.encode())])
    }

    #[test]
    fn a_digest_is_that_of_the_records_and_there_is_no_other() {
        let records = records(Content::Value("v".into()));
        let books = Books::of(&records);
        let (leaf, digest) = books.digests.first_key_value().expect("one leaf");
        let bytes = [&digest.sum.to_be_bytes()[..], &digest.records.to_be_bytes()].concat();
        let right = Entries::from([(leaf.clone(), bytes.into())]);
        assert_eq!(books.digests_that_differ(&right).count(), 0);
        assert_eq!(books.digests_that_differ(&Entries::new()).count(), 1);
        let nothing = Books::default();
        assert_eq!(nothing.digests_that_differ(&right).count(), 1);
    }

    #[test]
    fn a_delete_is_noted_and_a_value_is_not() {
        let note = Entries::from([(key().as_bytes().clone(), vec![0; 8].into())]);
        let (value, deleted) = (Content::Value("v".into()), Content::Tombstone);
        for (content, right, wrong) in [
            (value, Entries::new(), note.clone()),
            (deleted, note, Entries::new()),
        ] {
            let books = Books::of(&records(content));
            assert_eq!(books.notes_that_differ(&right).count(), 0);
            assert_eq!(books.notes_that_differ(&wrong).count(), 1);
        }
    }
}
