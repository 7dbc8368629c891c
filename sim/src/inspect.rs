//! Storage nodes asked directly, without a network and without a coordinator: what do they hold?

use bytes::Bytes;
use pairdb::placement::{Epoch, Node, Placement};
use pairdb::ports::{CallError, Operation, RecordKey, Refusal, Release, Reply, Request};
use pairdb::version::Record;

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::recorded::FinalRecord;
use crate::recorder::CallId;
use crate::reign::endpoint;

/// What every owner of every key holds.
pub async fn final_records(cluster: &Cluster) -> Vec<FinalRecord> {
    let reign = cluster.reign();
    let mut finals = Vec::new();
    for (index, tenant) in cluster.world.tenants.iter().enumerate() {
        for key in cluster.world.keys(tenant) {
            let record_key = reign.record_key(&tenant.name, &key);
            let mut records = Vec::new();
            for node in reign.listed(&record_key.tree()) {
                let who = endpoint(&node);
                let record = held(cluster, &reign.placement, &node, who, &record_key).await;
                records.push((who, record));
            }
            finals.push(FinalRecord {
                tenant: index,
                key,
                records,
            });
        }
    }
    finals
}

/// A node's encoded record, or why there is none.
async fn held(
    cluster: &Cluster,
    placement: &Placement,
    node: &Node,
    who: Endpoint,
    key: &RecordKey,
) -> Result<Bytes, String> {
    let ask = async |epoch: Epoch| {
        let request = Request {
            node: node.id.clone(),
            epoch,
            operation: Operation::Read { key: key.clone() },
        };
        let services = cluster.services();
        let answer = services.deliver(
            (who, Release::Current),
            who,
            request,
            &cluster.tap,
            CallId::default(),
        )?;
        answer.await.ok()
    };
    let reply = match ask(placement.epoch()).await {
        // The metadata store has lost an epoch, and no coordinator had to publish it again.
        Some(Err(CallError::Refused(Refusal::StaleEpoch { current })))
            if current <= cluster.published_epoch() =>
        {
            ask(current).await
        }
        reply => reply,
    };
    match reply.map(|answer| answer.map(Reply::even_if_refilling)) {
        Some(Ok(Reply::Found { record })) => {
            Ok(record.unwrap_or_else(|| Record::default().encode()))
        }
        Some(Ok(_)) => Err("answered something else".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("did not answer".to_owned()),
    }
}
