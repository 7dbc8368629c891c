//! Who the node is, durably: name, incarnations, reserved counters, epoch, and how it last stopped.
//!
//! A node takes a new incarnation when it can't prove that it still holds every dot it gave out:
//! - there is no identity: an empty or replaced data directory;
//! - the last run answered before its commits were durable and did not stop cleanly, and the engine can't say that they
//!   are there all the same (the process ended, and the machine didn't);
//! - the engine finds that commits it had acknowledged are missing, or may be (damage; see [`StorageEngine::proof`]);
//! - it meets a record that has seen more of its incarnation than it gave out: its disk went back in time. (That is
//!   found while it runs, see [`ledger`](super::ledger).)
//!
//! In the first three cases it does not hold, or can't prove that it holds, what it once acknowledged. It is *being
//! refilled* until a coordinator has seen it get all that the other owners hold, and counts for no quorum before. One
//! that is added to a cluster counts from the start: nobody relied on it before. (A disk that is found to have gone
//! back in time is none the less served: what tells of it comes in records, and a client that forges contexts must not
//! be able to take nodes out of service. So a backup is not to be put in a node's place: see the runbook.)
//!
//! Invariants, which [`Identity::validate`] checks:
//! - there is a current incarnation, and no more are remembered than can be stored;
//! - no incarnation is taken twice, as far as they are remembered;
//! - what is stored of it is read back as the same.
//!
//! Stored as one value, so that it changes as a whole:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the data version, see below |
//! | 1 | bit 0: stopped cleanly · bit 1: commits are answered before they are durable · bit 2: being refilled · bit 3: its digests may be of records that it lost |
//! | 8 | epoch, big endian |
//! | 8 | counters up to this one may have been given out, big endian |
//! | 8 | stamps up to this one may have been given out, big endian; not in data version 1 |
//! | 1, … | length of the name, the name |
//! | 1, 8 each | number of incarnations, these, the current one last |
//! | 4 | crc32c of all before, little endian |
//!
//! The *data version* is that of all that the node's engine holds. A program that does not know it does not open the
//! data: it would misread something, or forget what was promised. Whatever else changes, the version stays the first
//! byte, and the checksum the last four. It is raised when a release stores what the program before it would misread or
//! forget, and by the first such change, not by the start of the new program: until then the way back is open.
//!
//! | data version | since when |
//! |---|---|
//! | 1 | stamps were not reserved |
//! | 2 | they are; written as long as the node was never asked to fence a partition |
//! | 3 | it was: a program that knows nothing of fences would answer to epochs that it promised to refuse |

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::OpenError;
use super::fences::Fences;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    Batch, Durability, Proof, Put, Random, Release, Space, StorageEngine, StorageError,
};
use crate::version::{Actor, Stamp};

const KEY: Bytes = Bytes::from_static(b"identity");
const REFILLING_SINCE: Bytes = Bytes::from_static(b"refilling since");
const WITHOUT_STAMP: u8 = 1;
const BEFORE_CHANGES_OF_OWNERS: u8 = 2;
const NEWEST: u8 = 3;
const SHORT: &str = "it ends too early";
const CLEAN: u8 = 1;
const INTERVAL: u8 = 2;
const REFILLING: u8 = 4;
const DIGESTS_LOST: u8 = 8;
/// Of older incarnations the oldest are forgotten; they are for people to look at.
const INCARNATIONS_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) node: NodeId,
    /// Every incarnation, the current one last; at least one.
    pub(super) incarnations: Vec<Actor>,
    /// No greater counter was given out by the current incarnation.
    pub(super) ceiling: u64,
    /// No write was given a greater stamp, by whatever incarnation.
    pub(super) stamp_ceiling: Stamp,
    /// What was routed by an older epoch is refused, whatever it is about.
    pub(super) epoch: Epoch,
    pub(super) clean: bool,
    pub(super) durability: Durability,
    /// It lost its disk or part of what was on it, and is not known to hold again what it should.
    pub(super) refilling: bool,
    /// What it lost may be in its digests still: they have to be made again.
    pub(super) digests_lost: bool,
    /// It was asked to fence a partition: owners change, or have changed since it began.
    pub(super) owners_change: bool,
}

/// The identity of a node that starts, and its fences.
pub(super) struct Resumed {
    pub(super) identity: Identity,
    pub(super) fences: Fences,
    /// Why it is not stored, if it is not: it has to be part of the first commit that succeeds.
    pub(super) unsaved: Option<StorageError>,
}

/// Since when the node has been refilled, Unix milliseconds by its wall clock; kept while it is, through restarts. One
/// that can't write tells it from its start.
pub(super) async fn refilling_since(
    storage: &impl StorageEngine,
    identity: &Identity,
    wall_ms: u64,
) -> Result<u64, OpenError> {
    if !identity.refilling {
        return Ok(wall_ms);
    }
    let stored = storage.read(Space::Meta, vec![REFILLING_SINCE]).await?;
    let stored = stored.into_iter().next().flatten();
    if let Some(since) = stored.and_then(|bytes| bytes[..].try_into().ok()) {
        return Ok(u64::from_be_bytes(since));
    }
    let since = Bytes::copy_from_slice(&wall_ms.to_be_bytes());
    let noted = storage.commit(Batch::from([since_put(Some(since))])).await;
    if let Err(error) = noted {
        tracing::debug!(%error, "since when the node is refilled is not stored");
    }
    Ok(wall_ms)
}

/// What forgets since when it was refilled, with the commit that ends it.
pub(super) fn refilled_put() -> Put {
    since_put(None)
}

fn since_put(value: Option<Bytes>) -> Put {
    Put {
        space: Space::Meta,
        key: REFILLING_SINCE,
        value,
    }
}

/// Reads the identity, takes a new incarnation if need be, and makes both durable. A node that can't write can still
/// read.
pub(super) async fn open(
    storage: &impl StorageEngine,
    random: &impl Random,
    node: &NodeId,
    speaks: Release,
) -> Result<Resumed, OpenError> {
    // Before anything else: it says whether the rest is understood.
    let stored = storage.read(Space::Meta, vec![KEY]).await?.pop().flatten();
    let stored = stored.map(|bytes| Identity::decode(&bytes)).transpose()?;
    let understood = newest_of(speaks);
    if let Some(found) = stored.as_ref().map(Identity::data_version)
        && found > understood
    {
        return Err(OpenError::NewerData { found, understood });
    }
    let fences = Fences::load(storage).await?;
    let mut proof = storage.proof();
    if matches!(proof, Proof::Lacking(_)) && mutant::on(Mutant::DoubtsIgnored) {
        proof = Proof::Whole;
    }
    let mut identity = resume(stored, node, storage.durability(), &proof, random)?;
    identity.owners_change |= speaks == Release::Current && mutant::on(Mutant::DataRaisedEarly);
    let mut saved = storage.commit(Batch::from([identity.put()])).await;
    if saved.is_ok() {
        saved = storage.sync().await;
    }
    Ok(Resumed {
        identity,
        fences,
        unsaved: saved.err(),
    })
}

/// The newest data version that a process of this release knows.
const fn newest_of(release: Release) -> u8 {
    match release {
        Release::BeforeChangesOfOwners => BEFORE_CHANGES_OF_OWNERS,
        Release::Current => NEWEST,
    }
}

/// The identity of a node that starts.
fn resume(
    stored: Option<Identity>,
    node: &NodeId,
    durability: Durability,
    proof: &Proof,
    random: &impl Random,
) -> Result<Identity, OpenError> {
    let Some(mut identity) = stored else {
        let mut identity = Identity {
            node: node.clone(),
            incarnations: Vec::new(),
            ceiling: 0,
            stamp_ceiling: Stamp::ZERO,
            epoch: Epoch::default(),
            clean: false,
            durability,
            refilling: true,
            digests_lost: false,
            owners_change: false,
        };
        marks::reached(Mark::IncarnationFirst);
        identity.renew(random, "there is no data of it");
        if mutant::on(Mutant::IncarnationKeptAfterLoss) {
            identity.incarnations =
                vec![Actor(u64::from(crc32c::crc32c(node.as_str().as_bytes())))];
        }
        return Ok(identity);
    };
    if identity.node != *node {
        return Err(OpenError::OtherNode {
            found: identity.node,
            asked: node.clone(),
        });
    }
    const UNCLEAN: &str =
        "it stopped uncleanly while commits were answered before they were durable";
    let unclean = identity.durability == Durability::Interval && !identity.clean;
    let lacks = match proof {
        Proof::Lacking(why) => Some((why.as_str(), Mark::IncarnationDoubted)),
        Proof::Synced if unclean => Some((UNCLEAN, Mark::IncarnationUnclean)),
        Proof::Synced | Proof::Whole => None,
    };
    marks::reached(lacks.map_or(Mark::IncarnationKept, |(_, mark)| mark));
    let is_lacking = matches!(proof, Proof::Lacking(_));
    if let Some((why, _)) = lacks {
        if !mutant::on(Mutant::IncarnationKeptAfterLoss) {
            identity.renew(random, why);
        }
        identity.refilling |= is_lacking || !mutant::on(Mutant::UncleanCounts);
    }
    identity.digests_lost |= is_lacking;
    identity.clean = false;
    identity.durability = durability;
    Ok(identity)
}

impl Identity {
    /// The current incarnation.
    pub(super) fn incarnation(&self) -> Actor {
        *self.incarnations.last().expect("a node has an incarnation")
    }

    /// Takes a new incarnation.
    pub(super) fn renew(&mut self, random: &impl Random, why: &str) {
        let mut actor = Actor(random.next_u64());
        while self.incarnations.contains(&actor) {
            actor = Actor(random.next_u64());
        }
        self.incarnations.push(actor);
        if self.incarnations.len() > INCARNATIONS_MAX {
            self.incarnations.remove(0);
        }
        self.ceiling = 0;
        tracing::warn!(node = %self.node, incarnation = %actor, why, "the node takes a new incarnation");
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        let distinct: BTreeSet<&Actor> = self.incarnations.iter().collect();
        match () {
            () if self.incarnations.is_empty() => Err("there is no current incarnation"),
            () if self.incarnations.len() > INCARNATIONS_MAX => Err("too many incarnations"),
            () if distinct.len() < self.incarnations.len() => Err("an incarnation is taken twice"),
            () if Self::decode(&self.encode()).as_ref() != Ok(self) => {
                Err("what is stored of it is read back as something else")
            }
            () => Ok(()),
        }
    }

    /// What makes this identity the stored one.
    pub(super) fn put(&self) -> Put {
        Put {
            space: Space::Meta,
            key: KEY,
            value: Some(self.encode()),
        }
    }

    /// Of which version the data is: the oldest that can say what it says, for a program of the version before may yet
    /// have to open it.
    fn data_version(&self) -> u8 {
        match self.owners_change {
            true => NEWEST,
            false => BEFORE_CHANGES_OF_OWNERS,
        }
    }

    fn encode(&self) -> Bytes {
        let name = self.node.as_str().as_bytes();
        let mut out = BytesMut::with_capacity(32 + name.len() + 8 * self.incarnations.len());
        out.put_u8(self.data_version());
        let clean = if self.clean { CLEAN } else { 0 };
        let interval = match self.durability {
            Durability::Interval => INTERVAL,
            Durability::Always => 0,
        };
        let refilling = if self.refilling { REFILLING } else { 0 };
        let digests_lost = if self.digests_lost { DIGESTS_LOST } else { 0 };
        out.put_u8(clean | interval | refilling | digests_lost);
        out.put_u64(self.epoch.0);
        out.put_u64(self.ceiling);
        out.put_u64(self.stamp_ceiling.0);
        out.put_u8(name.len() as u8); // a NodeId has at most 255 bytes
        out.put_slice(name);
        out.put_u8(self.incarnations.len() as u8); // at most 64
        for actor in &self.incarnations {
            out.put_u64(actor.0);
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32_le(checksum);
        out.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = OpenError::DamagedIdentity;
        let (body, checksum) = bytes.split_last_chunk().ok_or(damaged(SHORT))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum is wrong"));
        }
        match body.split_first() {
            None => Err(damaged(SHORT)),
            Some((&found, _)) if found > NEWEST => Err(OpenError::NewerData {
                found,
                understood: NEWEST,
            }),
            Some((0, _)) => Err(damaged("its data version is unknown")),
            Some((&version, body)) => Self::decode_body(version, body).map_err(damaged),
        }
    }

    fn decode_body(version: u8, mut body: &[u8]) -> Result<Self, &'static str> {
        let flags = body.try_get_u8().map_err(|_| SHORT)?;
        let epoch = Epoch(body.try_get_u64().map_err(|_| SHORT)?);
        let ceiling = body.try_get_u64().map_err(|_| SHORT)?;
        let stamp_ceiling = match version {
            WITHOUT_STAMP => 0,
            _ => body.try_get_u64().map_err(|_| SHORT)?,
        };
        let name_len = usize::from(body.try_get_u8().map_err(|_| SHORT)?);
        let (name, mut body) = body.split_at_checked(name_len).ok_or(SHORT)?;
        let name = str::from_utf8(name).map_err(|_| "its name is not text")?;
        let node = NodeId::new(name).map_err(|_| "its name is no node's")?;
        let count = body.try_get_u8().map_err(|_| SHORT)?;
        let mut incarnations = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            incarnations.push(Actor(body.try_get_u64().map_err(|_| SHORT)?));
        }
        if incarnations.is_empty() || !body.is_empty() {
            return Err("its incarnations are malformed");
        }
        let durability = if flags & INTERVAL == 0 {
            Durability::Always
        } else {
            Durability::Interval
        };
        Ok(Self {
            node,
            incarnations,
            ceiling,
            stamp_ceiling: Stamp(stamp_ceiling),
            epoch,
            clean: flags & CLEAN != 0,
            durability,
            refilling: flags & REFILLING != 0,
            digests_lost: flags & DIGESTS_LOST != 0,
            owners_change: version > BEFORE_CHANGES_OF_OWNERS,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicU64>);

    impl Random for Counting {
        fn next_u64(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed) / 2 // every number twice
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn identity() -> Identity {
        Identity {
            node: node("node-1"),
            incarnations: vec![Actor(0), Actor(u64::MAX)],
            ceiling: 77,
            stamp_ceiling: Stamp(99),
            epoch: Epoch(5),
            clean: false,
            durability: Durability::Always,
            refilling: false,
            digests_lost: false,
            owners_change: false,
        }
    }

    #[test]
    fn comes_back_as_it_was_stored() {
        for bits in 0..32 {
            let identity = Identity {
                clean: bits & 1 != 0,
                durability: match bits & 2 {
                    0 => Durability::Always,
                    _ => Durability::Interval,
                },
                refilling: bits & 4 != 0,
                digests_lost: bits & 8 != 0,
                owners_change: bits & 16 != 0,
                ..identity()
            };
            assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
        }
    }

    /// The same identity as each data version stores it. The bytes are on disks: they never change.
    const STORED: [&[u8]; 3] = [
        b"\x01\x00\
        \x00\x00\x00\x00\x00\x00\x00\x05\
        \x00\x00\x00\x00\x00\x00\x00M\
        \x06node-1\
        \x02\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \xff\xff\xff\xff\xff\xff\xff\xff\
        2~~A",
        b"\x02\x00\
        \x00\x00\x00\x00\x00\x00\x00\x05\
        \x00\x00\x00\x00\x00\x00\x00M\
        \x00\x00\x00\x00\x00\x00\x00c\
        \x06node-1\
        \x02\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \xff\xff\xff\xff\xff\xff\xff\xff\
        \x1f\xd4#\x80",
        b"\x03\x00\
        \x00\x00\x00\x00\x00\x00\x00\x05\
        \x00\x00\x00\x00\x00\x00\x00M\
        \x00\x00\x00\x00\x00\x00\x00c\
        \x06node-1\
        \x02\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \xff\xff\xff\xff\xff\xff\xff\xff\
        V\x22\xdfa",
    ];
    const OF_NEWER_PROGRAM: &[u8] = b"\x04\x00\
        \x00\x00\x00\x00\x00\x00\x00\x05\
        \x00\x00\x00\x00\x00\x00\x00M\
        \x00\x00\x00\x00\x00\x00\x00c\
        \x06node-1\
        \x02\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \xff\xff\xff\xff\xff\xff\xff\xff\
        K\x0c\xf1\xcf";

    #[test]
    fn data_of_older_versions_is_read_and_stays_readable_for_them_until_a_partition_is_fenced() {
        let read = STORED.map(|bytes| Identity::decode(bytes).unwrap());
        let fenced = Identity {
            owners_change: true,
            ..identity()
        };
        let without_stamp = Identity {
            stamp_ceiling: Stamp::ZERO,
            ..identity()
        };
        assert_eq!(read, [without_stamp, identity(), fenced.clone()]);
        assert_eq!(identity().encode(), STORED[1]);
        assert_eq!(fenced.encode(), STORED[2]);
    }

    #[test]
    fn data_of_a_newer_version_is_refused_as_that_and_not_as_damage() {
        let (found, understood) = (4, 3);
        let newer = OpenError::NewerData { found, understood };
        assert_eq!(Identity::decode(OF_NEWER_PROGRAM), Err(newer.clone()));
        assert_eq!(
            newer.to_string(),
            "the data is of data version 4, which a newer version of pairdb wrote; this one understands 1 to 3"
        );
        assert!(
            newer
                .way_out()
                .is_some_and(|words| words.contains("upgrade.md"))
        );
        let mut damaged = OF_NEWER_PROGRAM.to_vec();
        damaged[5] ^= 1;
        let damaged = Identity::decode(&damaged);
        assert!(
            matches!(damaged, Err(OpenError::DamagedIdentity(_))),
            "{damaged:?}"
        );
    }

    #[test]
    fn a_broken_identity_is_told_from_a_sound_one() {
        let with = |incarnations: Vec<Actor>| Identity {
            incarnations,
            ..identity()
        };
        let many = |count| (0..count as u64).map(Actor).collect();
        assert_eq!(identity().validate(), Ok(()));
        assert_eq!(with(many(INCARNATIONS_MAX)).validate(), Ok(()));
        let broken = [
            (vec![], "there is no current incarnation"),
            (many(INCARNATIONS_MAX + 1), "too many incarnations"),
            (
                vec![Actor(3), Actor(4), Actor(3)],
                "an incarnation is taken twice",
            ),
        ];
        for (incarnations, why) in broken {
            assert_eq!(with(incarnations).validate(), Err(why));
        }
        let mut renewed = identity();
        for _ in 0..2 * INCARNATIONS_MAX {
            renewed.renew(&Counting::default(), "on purpose");
            assert_eq!(renewed.validate(), Ok(()));
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let whole = identity().encode();
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = whole.to_vec();
            changed[at] ^= 1 << bit;
            assert!(Identity::decode(&changed).is_err(), "byte {at} bit {bit}");
        }
        for len in 0..whole.len() {
            assert!(Identity::decode(&whole[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn the_incarnation_stays_unless_dots_could_be_lost() {
        let resumed = |clean, before, now| {
            let stored = Identity {
                clean,
                durability: before,
                ..identity()
            };
            resume(
                Some(stored),
                &node("node-1"),
                now,
                &Proof::Synced,
                &Counting::default(),
            )
            .unwrap()
        };
        use Durability::{Always, Interval};
        for now in [Always, Interval] {
            for (clean, before) in [(false, Always), (true, Always), (true, Interval)] {
                let resumed = resumed(clean, before, now);
                assert_eq!(
                    resumed,
                    Identity {
                        durability: now,
                        ..identity()
                    },
                    "{clean} {before:?}"
                );
            }
            let renewed = resumed(false, Interval, now);
            assert_eq!(
                renewed.incarnations,
                [Actor(0), Actor(u64::MAX), Actor(1)],
                "not one it had before"
            );
            assert_eq!(
                (renewed.ceiling, renewed.epoch),
                (0, Epoch(5)),
                "epochs are kept"
            );
            assert!(renewed.refilling, "others may count on what it lost");
        }
    }

    #[test]
    fn the_end_of_a_process_loses_nothing() {
        let stored = Identity {
            durability: Durability::Interval,
            ..identity()
        };
        let resumed = resume(
            Some(stored.clone()),
            &node("node-1"),
            Durability::Interval,
            &Proof::Whole,
            &Counting::default(),
        );
        assert_eq!(resumed, Ok(stored));
    }

    #[test]
    fn what_the_engine_is_in_doubt_of_is_not_counted_on() {
        let proof = Proof::Lacking("on purpose".into());
        for clean in [false, true] {
            let stored = Identity {
                clean,
                ..identity()
            };
            let random = Counting::default();
            let resumed = resume(
                Some(stored),
                &node("node-1"),
                Durability::Always,
                &proof,
                &random,
            );
            let resumed = resumed.unwrap();
            assert_ne!(resumed.incarnation(), identity().incarnation());
            assert!(resumed.refilling && resumed.digests_lost);
        }
    }

    #[test]
    fn another_nodes_data_is_refused() {
        let error = resume(
            Some(identity()),
            &node("node-2"),
            Durability::Always,
            &Proof::Whole,
            &Counting::default(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data directory belongs to the node node-1, and this is node-2"
        );
    }

    #[test]
    fn the_list_of_incarnations_is_bounded() {
        let mut identity = identity();
        let random = Counting::default();
        for _ in 0..200 {
            identity.renew(&random, "test");
        }
        assert_eq!(identity.incarnations.len(), INCARNATIONS_MAX);
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }
}
