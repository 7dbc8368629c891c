//! Damaged records: how one is replaced.
//!
//! What a coordinator has from all other owners takes the place of the damaged bytes, which are kept aside, a bounded
//! number of them, for people to look at. It is not joined: nothing of the damaged record can be told, and what was
//! purged of the tree says nothing of a record that was never purged. The digest of its leaf is made anew, since it
//! still counts the record as it was before it was damaged.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::batch::Applied;
use super::hints::after;
use super::leaves::{self, Leaves};
use super::mutations::{Loop, refusal_of};
use super::shared::Shared;
use super::tombstone_state::TombstoneState;
use super::tombstones;
use crate::mutant::{self, Mutant};
use crate::ports::{
    Clock, Digest, KeyHash, Maintained, Put, RecordKey, Refusal, ReplicaWorld, Reply, Space,
    StorageEngine, StorageError,
};
use crate::sizes::{self, Size};
use crate::version::{Record, VersionVector};

/// Damaged records that are kept aside.
const ASIDE: &[u8] = b"damaged ";
const ASIDE_END: Bytes = Bytes::from_static(b"damaged!");

impl<W: ReplicaWorld> Shared<W> {
    /// A damaged record was met.
    pub(super) fn met_damage(&self, key: &RecordKey) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.damaged_records.add(key);
    }

    /// Those that are known and still there.
    pub(super) async fn damaged_records(&self) -> Result<Maintained, Refusal> {
        let known = self.damaged_records.all();
        let names = known.iter().map(|key| key.as_bytes().clone()).collect();
        let stored = self.world.storage().read(Space::Records, names).await;
        let stored = stored.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let mut keys = Vec::new();
        for (key, stored) in known.into_iter().zip(stored) {
            match stored.filter(|bytes| Record::decode(bytes.clone()).is_err()) {
                Some(bytes) => {
                    let hash = Digest::hash(&key, &bytes);
                    keys.push(KeyHash { key, hash });
                }
                None => self.damaged_records.remove(&key),
            }
        }
        Ok(Maintained::Keys { keys, more: None })
    }
}

impl<W: ReplicaWorld> Loop<W> {
    /// Puts `record` in the place of the damaged one of this hash.
    pub(super) async fn heal(
        &mut self,
        KeyHash { key, hash }: KeyHash,
        record: Option<Bytes>,
    ) -> Result<Reply, Refusal> {
        let decoded = record.clone().map(Record::decode).transpose();
        let decoded = decoded.map_err(|error| Refusal::Malformed(error.to_string()))?;
        let name = key.as_bytes().clone();
        let storage = self.shared.world.storage().clone();
        let stored = storage.read(Space::Records, vec![name.clone()]).await;
        let stored = stored.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let stored = stored.into_iter().next().flatten();
        let Some(damaged) = stored.filter(|bytes| Record::decode(bytes.clone()).is_err()) else {
            self.shared.damaged_records.remove(&key);
            return Ok(Reply::Maintained(Maintained::Done));
        };
        if Digest::hash(&key, &damaged) != hash {
            return Err(Refusal::Unavailable(
                "the record is damaged otherwise now".into(),
            ));
        }
        let unavailable = |error: StorageError| Refusal::Unavailable(error.to_string());
        let mut puts = vec![Put {
            space: Space::Records,
            key: name,
            value: record.clone(),
        }];
        puts.extend(
            self.leaf_with(&key, record.as_ref())
                .await
                .map_err(unavailable)?,
        );
        let none = TombstoneState::None;
        let state = decoded.as_ref().map_or(none, TombstoneState::of);
        let found = tombstones::found(&key, state, self.shared.world.clock().wall_ms());
        puts.push(found.unwrap_or_else(|| tombstones::not_found(&key)));
        puts.extend(self.aside(&key, damaged).await.map_err(unavailable)?);
        let mut ledger = self.ledger.clone();
        let seen = decoded.as_ref().map(Record::seen);
        if let Some(seen) = seen {
            ledger.notice(seen, self.shared.world.random());
        }
        puts.extend(ledger.puts());
        self.commit(Applied::only(ledger, puts))
            .await
            .map_err(|error| refusal_of(&error))?;
        if !mutant::on(Mutant::KnownFromMemoryAlone) {
            let nothing = VersionVector::default();
            let seen = decoded.as_ref().map_or(&nothing, Record::seen);
            self.recent.forget_unseen(key.as_bytes(), seen);
        }
        self.shared.damaged_records.remove(&key);
        tracing::warn!(
            partition = key.partition().0,
            tenant = key.tenant(),
            "a damaged record was replaced; its bytes are kept aside"
        );
        Ok(Reply::Maintained(Maintained::Done))
    }

    /// The digest of a key's leaf, made anew, with `record` as the key's.
    async fn leaf_with(
        &self,
        key: &RecordKey,
        record: Option<&Bytes>,
    ) -> Result<Option<Put>, StorageError> {
        let Some(name) = Leaves::new(self.digested).name_of(key) else {
            return Ok(None);
        };
        let mut digest = Digest::default();
        if let Some(record) = record {
            digest.add(Digest::hash(key, record));
        }
        let tree = key.tree();
        let mut from = tree.as_bytes().clone();
        let page_max = sizes::of(Size::RebuildPage);
        loop {
            let storage = self.shared.world.storage();
            let page = storage.scan(Space::Records, from, Some(tree.end()), page_max);
            let page = page.await?;
            for (name, encoded) in &page {
                let other = RecordKey::from_bytes(name.clone());
                let other = other.ok().filter(|o| o != key && o.leaf() == key.leaf());
                if let Some(other) = other {
                    digest.add(Digest::hash(&other, encoded));
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => return Ok(Some(leaves::put(name, digest))),
            }
        }
    }

    /// What keeps the damaged bytes, if there is room.
    async fn aside(&self, key: &RecordKey, damaged: Bytes) -> Result<Option<Put>, StorageError> {
        let storage = self.shared.world.storage();
        let begin = Bytes::from_static(ASIDE);
        let kept_max = sizes::of(Size::DamagedKept);
        let kept = storage.scan(Space::Meta, begin, Some(ASIDE_END), kept_max);
        if kept.await?.len() >= kept_max {
            return Ok(None);
        }
        Ok(Some(Put {
            space: Space::Meta,
            key: [ASIDE, key.as_bytes()].concat().into(),
            value: Some(damaged),
        }))
    }
}
