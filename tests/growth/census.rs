//! What every storage node holds, asked of each of them directly, against who owns it by the stored topology.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use pairdb::adapters::grpc::{GrpcTransport, TransportSettings};
use pairdb::adapters::sqlite::{SqliteSettings, SqliteStores};
use pairdb::adapters::tokio::TokioClock;
use pairdb::placement::{NodeId, Placement};
use pairdb::ports::{
    Ask, Clock, KeyPage, Keys, MetadataStore, ReadRecord, RecordKey, ReplicaTransport, Request,
    Roots, TenantId, TreeName, TreePage, answer_to,
};
use pairdb::version::Record;

use crate::TENANT;
use crate::kit::Cluster;
use crate::load::Written;

const PATIENCE: Duration = Duration::from_secs(10);
const OWNERS: usize = 3;

/// Who holds what.
pub struct Census {
    placement: Placement,
    tenant: TenantId,
    held: BTreeMap<RecordKey, BTreeMap<NodeId, Option<Bytes>>>,
}

struct Enumerator {
    placement: Placement,
    transport: GrpcTransport<TokioClock>,
}

impl Enumerator {
    async fn ask<A: Ask>(&self, index: u16, ask: A) -> A::Answer {
        let node = self.placement.node(index);
        let request = Request {
            node: node.id.clone(),
            epoch: self.placement.epoch(),
            operation: ask.into_operation(),
        };
        let deadline = TokioClock::new().now() + PATIENCE;
        let answer = self.transport.call(node, request, deadline).await;
        answer_to::<A>(answer).unwrap_or_else(|error| panic!("{}: {error}", node.id))
    }

    async fn trees(&self, index: u16) -> Vec<TreeName> {
        let mut all: Vec<TreeName> = Vec::new();
        loop {
            let after = all.last().cloned();
            let TreePage { roots, more } = self.ask(index, Roots { after }).await;
            all.extend(roots.into_iter().map(|(tree, _)| tree));
            if !more {
                return all;
            }
        }
    }

    async fn keys(&self, index: u16, tree: &TreeName) -> Vec<RecordKey> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let list = Keys {
                tree: tree.clone(),
                leaves: u64::MAX,
                after: after.take(),
            };
            let KeyPage { keys, more } = self.ask(index, list).await;
            all.extend(keys.into_iter().map(|entry| entry.key));
            match more {
                Some(more) => after = Some(more),
                None => return all,
            }
        }
    }
}

impl Census {
    /// Asks all nodes for all they have.
    pub async fn take(cluster: &Cluster) -> Self {
        let settings = SqliteSettings::default();
        let stores = SqliteStores::open(&cluster.metadata_file(), settings).await;
        let stores = stores.expect("the file is there");
        let topology = stores.metadata.topology().await.expect("it can be read");
        stores.close().await;
        assert_eq!(topology.change, None, "owners still change");
        let nodes = topology.nodes.len() as u16;
        let enumerator = Enumerator {
            placement: Placement::build(topology),
            transport: GrpcTransport::new(TokioClock::new(), TransportSettings::default()),
        };
        let mut held: BTreeMap<RecordKey, BTreeMap<NodeId, Option<Bytes>>> = BTreeMap::new();
        for index in 0..nodes {
            let id = enumerator.placement.node(index).id.clone();
            for tree in enumerator.trees(index).await {
                for key in enumerator.keys(index, &tree).await {
                    let read = ReadRecord { key: key.clone() };
                    let record = enumerator.ask(index, read).await;
                    held.entry(key).or_default().insert(id.clone(), record);
                }
            }
        }
        Self {
            placement: enumerator.placement,
            tenant: TenantId::new(TENANT).expect("a name"),
            held,
        }
    }

    fn owners(&self, key: &RecordKey) -> BTreeSet<&NodeId> {
        let owners = self.placement.owners(key.partition(), OWNERS).iter();
        owners
            .map(|index| &self.placement.node(*index).id)
            .collect()
    }

    /// Records at their owners.
    pub fn records(&self) -> usize {
        self.held
            .iter()
            .map(|(key, held)| held.len() - self.strange(key, held))
            .sum()
    }

    /// Records at nodes that do not own them.
    pub fn strangers(&self) -> usize {
        self.held
            .iter()
            .map(|(key, held)| self.strange(key, held))
            .sum()
    }

    fn strange(&self, key: &RecordKey, held: &BTreeMap<NodeId, Option<Bytes>>) -> usize {
        let owners = self.owners(key);
        held.keys().filter(|id| !owners.contains(id)).count()
    }

    /// Acknowledged writes that an owner neither holds nor has seen overwritten.
    pub fn missing(&self, keys: &[Written]) -> usize {
        let missing = |key: &Written| {
            let partition = self.placement.route(TENANT, &key.name);
            let name = RecordKey::new(partition, &self.tenant, &key.name);
            let held = self.held.get(&name);
            let at = |owner: &&NodeId| {
                let record = held.and_then(|held| held.get(*owner)).cloned().flatten();
                number(record) < key.number
            };
            self.owners(&name).iter().filter(|owner| at(owner)).count()
        };
        keys.iter().map(missing).sum()
    }
}

/// The number that a client wrote; 0: nothing.
fn number(held: Option<Bytes>) -> u64 {
    let record = held.map(|bytes| Record::decode(bytes).expect("a record"));
    let record = record.unwrap_or_default();
    let value = record.latest().and_then(|version| version.value());
    let digits = value.map(|value| String::from_utf8(value[..20].to_vec()).expect("digits"));
    digits.map_or(0, |digits| digits.parse().expect("a number"))
}
