//! What every owner of every key holds, asked of each of them directly.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use pairdb::adapters::grpc::{GrpcTransport, TransportSettings};
use pairdb::adapters::tokio::TokioClock;
use pairdb::placement::{DEFAULT_PARTITIONS, Epoch, Node, NodeId, NodeStatus, Placement, Topology};
use pairdb::ports::{
    CallError, Clock, NodeReport, Operation, RecordKey, ReplicaTransport, Reply, Request, TenantId,
};
use pairdb::proto::v1::ListStorageNodesRequest;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::version::Record;

use crate::TENANT;
use crate::load::Written;

const OWNERS: usize = 3;
/// Keys asked for at the same time.
const AT_ONCE: usize = 128;
const PATIENCE: Duration = Duration::from_secs(5);
/// Tries of one read, a second apart.
const TRIES: usize = 10;

/// The way to all storage nodes.
pub struct Owners {
    placement: Placement,
    tenant: TenantId,
    transport: GrpcTransport<TokioClock>,
}

impl Owners {
    /// Asks a coordinator who the nodes are, and the nodes how new that is. Ends when all have answered.
    pub async fn learn(coordinators: &[String]) -> Self {
        let mut client = CoordinatorServiceClient::connect(coordinators[0].clone())
            .await
            .unwrap();
        let listed = client.list_storage_nodes(ListStorageNodesRequest {}).await;
        let nodes: Vec<Node> = listed
            .unwrap()
            .into_inner()
            .nodes
            .into_iter()
            .map(|node| Node {
                id: NodeId::new(node.node_id).unwrap(),
                host: node.host,
                port: node.port as u16,
                virtual_nodes: node.virtual_nodes as u32,
                status: NodeStatus::Active,
                zone: None,
                seat: None,
            })
            .collect();
        let topology = |epoch, nodes| Topology::new(epoch, DEFAULT_PARTITIONS, nodes).unwrap();
        let mut owners = Self {
            placement: Placement::build(topology(Epoch(1), nodes.clone())),
            tenant: TenantId::new(TENANT).unwrap(),
            transport: GrpcTransport::new(TokioClock::new(), TransportSettings::default()),
        };
        let reports = owners.reports().await;
        assert_eq!(reports.len(), nodes.len());
        let newest = reports.iter().map(|report| report.epoch).max().unwrap();
        owners.placement = Placement::build(topology(newest, nodes));
        owners
    }

    async fn call(&self, node: &Node, operation: Operation) -> Result<Reply, CallError> {
        let request = Request {
            node: node.id.clone(),
            epoch: self.placement.epoch(),
            operation,
        };
        let deadline = TokioClock::new().now() + PATIENCE;
        self.transport.call(node, request, deadline).await
    }

    /// How the nodes are that answer.
    async fn reports(&self) -> Vec<NodeReport> {
        let nodes = &self.placement.topology().nodes;
        let probes = join_all(nodes.iter().map(|node| self.call(node, Operation::Probe))).await;
        let reports = probes.into_iter().filter_map(|reply| match reply {
            Ok(Reply::Report(report)) => Some(report),
            _ => None,
        });
        reports.collect()
    }

    /// How many keys a node is owed, and for how long.
    pub async fn hints(&self, target: &str) -> (u64, Duration) {
        let reports = self.reports().await;
        let hints = reports.iter().flat_map(|report| &report.hints);
        let hints: Vec<_> = hints
            .filter(|hint| hint.target.as_str() == target)
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let oldest = hints
            .iter()
            .map(|hint| Duration::from_millis(hint.oldest_ms))
            .min();
        let age = oldest.map(|oldest| now.saturating_sub(oldest));
        (
            hints.iter().map(|hint| hint.outstanding).sum(),
            age.unwrap_or_default(),
        )
    }

    /// When nothing was owed to anybody for the first time, if that came about in `time`.
    pub async fn hints_delivered(&self, time: Duration) -> Option<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let reports = self.reports().await;
            let owed = reports.iter().flat_map(|report| &report.hints).count();
            if owed == 0 && reports.len() == self.placement.topology().nodes.len() {
                return Some(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// Those keys whose owners don't hold the very same bytes.
    pub async fn compare(&self, keys: &[Written]) -> Vec<Written> {
        let compared = futures::stream::iter(keys).map(|key| async move {
            let held = self.held(key).await;
            (held.iter().any(|one| *one != held[0])).then(|| key.clone())
        });
        let compared = compared.buffer_unordered(AT_ONCE);
        compared.filter_map(std::future::ready).collect().await
    }

    /// How many acknowledged writes are neither held nor overwritten at one of their owners.
    pub async fn missing(&self, keys: &[Written]) -> usize {
        let missing = futures::stream::iter(keys).map(|key| async move {
            let held = self.held(key).await;
            held.into_iter()
                .filter(|one| number(one.as_ref()) < key.number)
                .count()
        });
        let missing = missing.buffer_unordered(AT_ONCE);
        missing.fold(0, |all, one| async move { all + one }).await
    }

    /// What each owner holds of a key.
    async fn held(&self, key: &Written) -> Vec<Option<Bytes>> {
        let partition = self.placement.route(TENANT, &key.name);
        let record_key = RecordKey::new(partition, &self.tenant, &key.name);
        let owners = self.placement.owners(partition, OWNERS);
        assert_eq!(owners.len(), OWNERS);
        let reads = owners.iter().map(|owner| async {
            let node = self.placement.node(*owner);
            let mut trouble = None;
            for _ in 0..TRIES {
                let key = record_key.clone();
                match self.call(node, Operation::Read { key }).await {
                    Ok(Reply::Found { record }) => return record,
                    other => trouble = Some(other),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            panic!("{} can't be asked: {trouble:?}", node.id)
        });
        join_all(reads).await
    }
}

/// The number that a client wrote; 0: nothing.
fn number(held: Option<&Bytes>) -> u64 {
    let record = held.map(|bytes| Record::decode(bytes.clone()).unwrap());
    let record = record.unwrap_or_default();
    let value = record.latest().and_then(|version| version.value());
    let digits = value.map(|value| String::from_utf8(value[..20].to_vec()).unwrap());
    digits.map_or(0, |digits| digits.parse().unwrap())
}
