//! Damaged records are replaced by what the other owners hold.
//!
//! A record that fails its checksum counts for nothing: its node refuses to serve it and to write over it. What it
//! counted for before is also elsewhere: a quorum has other members, and they are all among the key's other owners. So
//! the record is replaced by the join of *all* other owners' answers, and by nothing less: the one that is missing may
//! be the other member. Where that one is damaged, too, nobody can give it back, and the answers of the rest are all
//! there is. A key of which no owner has a sound copy is left as it is; and owners that a partition is being copied to
//! have none by having nothing, as long as the change can be cancelled.
//!
//! A write may be under way that counts on the record as it was, and gets its second member after the others were
//! asked. So first an epoch is published, as for a node that lost its disk: see [`refill`](super::refill).
//!
//! What this is not: it doesn't look for damage. A read, a join, an exchange or `pairdb verify` meets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ask::ask;
use super::metadata::Metadata;
use super::owners::Owners;
use super::routing::Routing;
use super::settings::CoordinatorSettings;
use super::tenants::TenantCache;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{NodeId, RecordOwners};
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Heal, Instant, ListDamaged, PurgedOf, ReadRecord,
    RecordKey, Refusal, TenantId,
};
use crate::version::Record;

/// Damaged records by node and key, each with the hash of its bytes.
type Known = BTreeMap<(NodeId, RecordKey), u128>;

/// Damaged records that this coordinator knows of.
#[derive(Debug, Default)]
pub(super) struct DamagedRecords {
    /// As the nodes said when they were last asked. Each node tells a bounded number.
    now: Known,
    /// Those that were known before an epoch was published.
    fenced: Known,
    /// The last that was tried: the next ones come first in the next round.
    tried: Option<(NodeId, RecordKey)>,
}

impl DamagedRecords {
    /// Whether none are known.
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty() && self.fenced.is_empty()
    }

    /// Whether some are known that no epoch was published for.
    pub(super) fn need_fence(&self) -> bool {
        self.now
            .iter()
            .any(|(damaged, hash)| self.fenced.get(damaged) != Some(hash))
    }

    /// An epoch was published after all of this was known.
    pub(super) fn fenced(&mut self) {
        self.fenced = self.now.clone();
    }
}

/// Replaces damaged records.
pub(super) struct Healing<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) tenants: Arc<TenantCache<W>>,
    pub(super) metadata: Arc<Metadata<W>>,
}

impl<W: CoordinatorWorld> Healing<W> {
    /// Asks all nodes which of their records are damaged.
    pub(super) async fn look_for_damage(
        &self,
        routing: &Arc<Routing>,
        damaged_records: &mut DamagedRecords,
    ) {
        let ask = |index| async move {
            let damaged = ask(&self.world, routing, index, ListDamaged);
            (index, damaged.await)
        };
        let answering = (0..).zip(routing.nodes());
        let answering = answering.filter(|(_, (_, health))| health.answers());
        let answers = futures::future::join_all(answering.map(|(index, _)| ask(index))).await;
        // Of who does not answer it is as it was.
        let mut now = std::mem::take(&mut damaged_records.now);
        for (index, answer) in answers {
            if let Ok(keys) = answer {
                let node = &routing.node(index).id;
                now.retain(|(known, _), _| known != node);
                now.extend(keys.into_iter().map(|e| ((node.clone(), e.key), e.hash)));
            }
        }
        now.retain(|(node, _), _| routing.topology().node(node).is_some());
        damaged_records.now = Known::new();
        for (damaged, hash) in now {
            // With one owner there is nobody to heal it, and no epoch to be published for it.
            if self.is_elsewhere(routing, &damaged).await {
                damaged_records.now.insert(damaged, hash);
            }
        }
        let fenced = std::mem::take(&mut damaged_records.fenced).into_iter();
        damaged_records.fenced = fenced
            .filter(|(damaged, hash)| damaged_records.now.get(damaged) == Some(hash))
            .collect();
    }

    /// Heals what can be healed now, for no longer than one read may take: owners that hang must not hold up the round.
    /// `fenced` are nodes that refuse epochs older than that of `routing`.
    pub(super) async fn heal_all(
        &self,
        routing: &Arc<Routing>,
        damaged_records: &mut DamagedRecords,
        fenced: &BTreeSet<NodeId>,
    ) {
        let until = self.world.clock().now() + self.settings.read_timeout;
        let last = damaged_records.tried.take();
        let (before, after): (Vec<_>, Vec<_>) = damaged_records
            .fenced
            .iter()
            .partition(|(damaged, _)| last.as_ref().is_some_and(|last| *damaged <= last));
        for ((node, key), hash) in after.into_iter().chain(before) {
            if self.world.clock().now() >= until {
                return;
            }
            damaged_records.tried = Some((node.clone(), key.clone()));
            let nodes = (0..).zip(&routing.topology().nodes);
            let Some((index, _)) = nodes.into_iter().find(|(_, known)| known.id == *node) else {
                continue;
            };
            let Some(record) = self.whole_record(routing, index, key, fenced).await else {
                continue; // in a later round
            };
            let heal = Heal {
                key: key.clone(),
                hash: *hash,
                record: (!record.is_empty()).then(|| record.encode()),
            };
            if ask(&self.world, routing, index, heal).await.is_ok() {
                marks::reached(Mark::Healed);
                tracing::warn!(
                    %node,
                    partition = key.partition().0,
                    tenant = key.tenant(),
                    "a damaged record is replaced by what the other owners hold"
                );
            }
        }
    }

    async fn is_elsewhere(
        &self,
        routing: &Arc<Routing>,
        (node, key): &(NodeId, RecordKey),
    ) -> bool {
        let Ok(tenant) = TenantId::new(key.tenant()) else {
            return false;
        };
        let tenant = self
            .tenants
            .get(&tenant, routing, self.metadata.deadline())
            .await;
        tenant.is_ok_and(|tenant| {
            let factor = tenant.replication_factor;
            let owners = routing.owners_of(key.partition(), key.tenant(), factor);
            let answering = answering(routing, &owners);
            let mut nodes = (0..).zip(owners.nodes());
            nodes.any(|(position, other)| {
                answering & 1 << position != 0 && routing.node(*other).id != *node
            })
        })
    }

    /// What all other owners of a key hold together; `None` if one of them can't say, or there is none.
    async fn whole_record(
        &self,
        routing: &Arc<Routing>,
        damaged: u16,
        key: &RecordKey,
        fenced: &BTreeSet<NodeId>,
    ) -> Option<Record> {
        let tenant = TenantId::new(key.tenant()).ok()?;
        let tenant = self.tenants.get(&tenant, routing, self.metadata.deadline());
        let factor = tenant.await.ok()?.replication_factor;
        let all = routing.owners_of(key.partition(), key.tenant(), factor);
        let answering = answering(routing, &all);
        let all = all.nodes();
        if !all.contains(&damaged) {
            return None;
        }
        let others: Vec<usize> = (0..all.len())
            .filter(|position| all[*position] != damaged)
            .collect();
        if others.iter().all(|other| answering & 1 << other == 0) {
            return None;
        }
        let is_fenced = |position: &usize| fenced.contains(&routing.node(all[*position]).id);
        if !others.iter().all(is_fenced) {
            return None;
        }
        let owners = Owners::new(
            self.world.clone(),
            Arc::clone(routing),
            key,
            factor,
            self.settings.stamp_patience_min,
        );
        let deadline = self.world.clock().now() + self.settings.read_timeout;
        let held = held_by(&owners, (&others, answering), key, deadline).await?;
        if held.sound == 0 {
            return None;
        }
        if held.ghosts.is_empty() {
            return Some(held.record);
        }
        // What one that is being refilled holds may have been purged: it lost what it knew of that, and the others did
        // not.
        let ghosts = match held.counting {
            Some(position) => {
                let purged = PurgedOf { tree: key.tree() };
                let purged = owners.call_quietly(position, purged, deadline).await.ok()?;
                held.ghosts.without(&purged.seen, &held.record)
            }
            None => held.ghosts,
        };
        Some(held.record.join(&ghosts))
    }
}

/// The positions of those owners that say something of a record by not having it: those that reads need. Whoever a
/// partition is being copied to has nothing of it yet. But a change that can't be cancelled must come to its end, with
/// or without what nobody can read.
fn answering(routing: &Routing, owners: &RecordOwners) -> u32 {
    let change = routing.topology().change.as_deref();
    let has_to_end = change.is_some_and(|it| it.cancelled || !it.given_up.is_empty());
    match has_to_end || mutant::on(Mutant::HealedByNewcomers) {
        true => u32::MAX,
        false => owners.readers(),
    }
}

/// Reads a key from the owners at `positions`, of which those in `answering` count where they have nothing; `None` if
/// one of them can't say what it holds.
async fn held_by<W: CoordinatorWorld>(
    owners: &Owners<W>,
    (positions, answering): (&[usize], u32),
    key: &RecordKey,
    deadline: Instant,
) -> Option<Held> {
    let read = |position| async move {
        let read = ReadRecord { key: key.clone() };
        let answer = owners.call(position, read.clone(), deadline).await.result;
        // One that is being refilled holds no more when it counts again than the others hold, and they are asked,
        // too. Not to wait for it: it may wait for this very record.
        match answer {
            Err(CallError::Refused(Refusal::Refilling))
                if !mutant::on(Mutant::HealWaitsForRefill) =>
            {
                let found = owners.call_quietly(position, read, deadline).await;
                (position, false, found)
            }
            answer => (position, true, answer),
        }
    };
    let reads = positions.iter().map(|position| read(*position));
    let mut held = Held::default();
    for (position, counts, result) in futures::future::join_all(reads).await {
        match result {
            Ok(None) => held.sound += usize::from(counts && answering & 1 << position != 0),
            Ok(Some(found)) => {
                held.sound += 1;
                let found = Record::decode(found).ok()?;
                match counts {
                    true => held.record = held.record.join(&found),
                    false => held.ghosts = held.ghosts.join(&found),
                }
            }
            // It can give nothing back either.
            Err(CallError::Refused(Refusal::Damaged)) => {}
            Err(_) if mutant::on(Mutant::HealedFromSome) => held.sound += 1,
            Err(_) => return None,
        }
        if counts {
            held.counting = Some(position);
        }
    }
    Some(held)
}

/// What other owners hold of a key.
#[derive(Default)]
struct Held {
    record: Record,
    /// What those that are being refilled hold.
    ghosts: Record,
    /// How many answered with something that can be read, or may say that there is nothing.
    sound: usize,
    /// One that counts.
    counting: Option<usize>,
}
