//! What storage nodes have taken on to refuse: everything about a partition that was routed by an epoch before this
//! one, to own no trees of a partition from an epoch on, and to take no write of which they may not have heard for new.
//!
//! A node that lost its disk has lost that, too. But it did refuse before, so whoever went on because of it was right.

use std::collections::BTreeMap;

use pairdb::placement::{Epoch, PartitionId};
use pairdb::ports::{Maintained, Maintenance, Operation, Refusal, Reply, Request};
use pairdb::version::Stamp;

use crate::endpoint::Endpoint;

/// A node, and a partition; `None`: all partitions.
type Place = (Endpoint, Option<PartitionId>);

/// All that was taken on.
#[derive(Clone, Default, Debug)]
pub struct Fences {
    /// What each node refuses now.
    now: BTreeMap<Place, Epoch>,
    /// The greatest that each node ever refused.
    ever: BTreeMap<Place, Epoch>,
    /// By which epoch each node was last told that it owns a partition's trees no more.
    leaving: BTreeMap<(Endpoint, PartitionId), Epoch>,
    /// Up to which stamp each node was told that there may be writes which it has never heard of.
    horizons: BTreeMap<Endpoint, Stamp>,
}

impl Fences {
    /// A node has answered, and may have taken something on.
    pub fn answered(&mut self, who: Endpoint, request: &Request, reply: &Reply) {
        let (Operation::Maintenance(asked), Reply::Maintained(Maintained::Fenced { .. })) =
            (&request.operation, reply)
        else {
            return;
        };
        let Maintenance::Fence {
            partitions,
            leaving,
            horizon,
        } = &**asked
        else {
            return;
        };
        let places: Vec<Option<PartitionId>> = match partitions {
            None => vec![None],
            Some(partitions) => partitions.iter().copied().map(Some).collect(),
        };
        let told = self.horizons.entry(who).or_default();
        *told = (*horizon).max(*told);
        for of in places {
            for fences in [&mut self.now, &mut self.ever] {
                let fence = fences.entry((who, of)).or_default();
                *fence = request.epoch.max(*fence);
            }
            if let Some(partition) = of.filter(|_| *leaving) {
                self.leaving.insert((who, partition), request.epoch);
            }
        }
    }

    /// A node has refused. Who refuses to take on an epoch for a partition since it knows a newer one refuses the older
    /// ones.
    pub fn refused(&mut self, who: Endpoint, request: &Request, refusal: &Refusal) {
        if let (Operation::Maintenance(asked), Refusal::StaleEpoch { current }) =
            (&request.operation, refusal)
            && let Maintenance::Fence {
                partitions: Some(partitions),
                ..
            } = &**asked
            && let [partition] = partitions[..]
        {
            let fence = self.ever.entry((who, Some(partition))).or_default();
            *fence = (*current).max(*fence);
        }
    }

    /// What a node had taken on is lost with its disk, or was set back.
    pub fn lost(&mut self, who: Endpoint) {
        self.now.retain(|(node, _), _| *node != who);
        self.leaving.retain(|(node, _), _| *node != who);
        self.horizons.remove(&who);
    }

    /// Up to which stamp a node was told that there may be writes which it has never heard of.
    #[must_use]
    pub fn horizon(&self, who: Endpoint) -> Stamp {
        self.horizons.get(&who).copied().unwrap_or_default()
    }

    /// Below which epoch a node refuses requests about a partition now.
    #[must_use]
    pub fn of(&self, who: Endpoint, partition: PartitionId) -> Epoch {
        greatest(&self.now, who, partition)
    }

    /// The greatest epoch below which a node ever refused requests about a partition.
    #[must_use]
    pub fn ever(&self, who: Endpoint, partition: PartitionId) -> Epoch {
        greatest(&self.ever, who, partition)
    }

    /// Whether a node was told, by this very epoch, that it owns the partition's trees no more.
    #[must_use]
    pub fn leaves(&self, who: Endpoint, partition: PartitionId, epoch: Epoch) -> bool {
        self.leaving.get(&(who, partition)) == Some(&epoch)
    }
}

fn greatest(fences: &BTreeMap<Place, Epoch>, who: Endpoint, partition: PartitionId) -> Epoch {
    let of = [None, Some(partition)];
    let fences = of.into_iter().filter_map(|of| fences.get(&(who, of)));
    fences.max().copied().unwrap_or_default()
}
