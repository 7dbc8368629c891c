//! Digests for records that have none: of a data directory from before there were digests, or one that lost them, or
//! lost records that are still in them.
//!
//! Partition by partition, each as one step of the mutation loop, so that nothing changes meanwhile. How far it has
//! come is stored with the digests; changes to partitions that have none yet leave none. Until all have them the node
//! compares nothing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::digested::{self, ALL};
use super::hints::after;
use super::leaves;
use super::mutations::Loop;
use super::tombstone_state::TombstoneState;
use super::tombstones;
use crate::marks::{self, Mark};
use crate::ports::{
    Clock, Digest, Maintained, Put, RecordKey, ReplicaWorld, Reply, Space, StorageEngine,
    StorageError,
};
use crate::sizes::{self, Size};
use crate::version::Record;

impl<W: ReplicaWorld> Loop<W> {
    /// Makes the digests of the next partition that has records and no digests, or notes that there is none.
    pub(super) async fn rebuild_next(&mut self) -> Result<Reply, StorageError> {
        let storage = self.shared.world.storage().clone();
        let begin = u16::try_from(self.digested).map(u16::to_be_bytes);
        let mut from = match u16::try_from(self.digested) {
            Ok(partition) => Bytes::copy_from_slice(&partition.to_be_bytes()),
            Err(_) => return self.digested(ALL, Vec::new()).await,
        };
        let mut partition = None;
        let mut digests: BTreeMap<Bytes, Digest> = BTreeMap::new();
        let mut puts = Vec::new();
        let wall_ms = self.shared.world.clock().wall_ms();
        let page_max = sizes::of(Size::RebuildPage);
        'pages: loop {
            let page = storage.scan(Space::Records, from, None, page_max).await?;
            for (key, encoded) in &page {
                let Ok(name) = RecordKey::from_bytes(key.clone()) else {
                    continue;
                };
                if *partition.get_or_insert(name.partition()) != name.partition() {
                    break 'pages;
                }
                let leaf = leaves::name(&name.tree(), name.leaf());
                let digest = digests.entry(leaf).or_default();
                digest.add(Digest::hash(&name, encoded));
                let record = Record::decode(encoded.clone()).unwrap_or_default();
                puts.extend(tombstones::found(
                    &name,
                    TombstoneState::of(&record),
                    wall_ms,
                ));
            }
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => break,
            }
        }
        let next = partition.map_or(ALL, |partition| u32::from(partition.0) + 1);
        if let Ok(begin) = begin {
            let stale = stale(&storage, begin, next, &digests).await?;
            puts.extend(stale);
        }
        if partition.is_some() {
            marks::reached(Mark::DigestsRebuilt);
        }
        puts.extend(digests.into_iter().map(|(name, d)| leaves::put(name, d)));
        self.digested(next, puts).await
    }

    async fn digested(&mut self, digested: u32, mut puts: Vec<Put>) -> Result<Reply, StorageError> {
        if self.digested < digested {
            let mut ledger = self.ledger.clone();
            if digested == ALL {
                ledger.has_digests();
            }
            puts.push(digested::put(digested));
            puts.extend(ledger.puts());
            self.store(puts, ledger.must_sync(&self.ledger)).await?;
            self.ledger.commit(ledger);
            self.digested = digested;
        }
        let all = digested == ALL;
        self.shared.digested.store(all, Ordering::Release);
        Ok(Reply::Maintained(Maintained::Done))
    }
}

/// Takes away the digests that are stored of partitions from `begin` to before `end` and are none of `digests`: what
/// they were made of is not there.
async fn stale(
    storage: &impl StorageEngine,
    begin: [u8; 2],
    end: u32,
    digests: &BTreeMap<Bytes, Digest>,
) -> Result<Vec<Put>, StorageError> {
    let end = u16::try_from(end).ok();
    let end = end.map(|end| Bytes::copy_from_slice(&end.to_be_bytes()));
    let mut from = Bytes::copy_from_slice(&begin);
    let mut puts = Vec::new();
    let page_max = sizes::of(Size::RebuildPage);
    loop {
        let page = storage
            .scan(Space::Digests, from, end.clone(), page_max)
            .await?;
        let names = page.iter().map(|(name, _)| name);
        puts.extend(
            names
                .filter(|name| !digests.contains_key(*name))
                .map(|name| Put {
                    space: Space::Digests,
                    key: name.clone(),
                    value: None,
                }),
        );
        match page.last() {
            Some((last, _)) if page.len() == page_max => from = after(last),
            _ => return Ok(puts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryStorage;
    use crate::ports::Durability;

    #[tokio::test]
    async fn stale_digests_go_however_many_pages_they_fill() {
        let storage = MemoryStorage::new(Durability::Always);
        let name = |partition: u8, n: u8| Bytes::copy_from_slice(&[0, partition, n]);
        let of_the_partition = (0..40).map(|n| name(1, n));
        let names: Vec<Bytes> = of_the_partition.chain([name(2, 0)]).collect();
        assert!(
            names.len() > 2 * sizes::of(Size::RebuildPage),
            "several pages"
        );
        let put = |name: &Bytes| Put {
            space: Space::Digests,
            key: name.clone(),
            value: Some(Bytes::from_static(b"digest")),
        };
        let puts: Vec<Put> = names.iter().map(put).collect();
        storage.commit(puts).await.unwrap();
        let made = [(name(1, 3), Digest::default())].into_iter().collect();
        let gone = stale(&storage, [0, 1], 2, &made).await.unwrap();
        assert!(gone.iter().all(|put| put.value.is_none()));
        let gone: Vec<Bytes> = gone.into_iter().map(|put| put.key).collect();
        let expected: Vec<Bytes> = (0..40).filter(|n| *n != 3).map(|n| name(1, n)).collect();
        assert_eq!(gone, expected);
    }
}
