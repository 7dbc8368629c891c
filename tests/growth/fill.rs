//! Data that is there before anything changes.

use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use tokio::task::JoinHandle;

use crate::Plan;
use crate::load::{Written, name, request};

/// Writes every key of a load once, as fast as the servers take them; none may fail.
pub async fn fill(plan: &Plan, prefix: &str, coordinators: &[String]) -> Vec<Written> {
    let keys = (plan.keys / plan.workers).max(1);
    let clients = (0..plan.workers).map(|client| {
        let url = coordinators[client % coordinators.len()].clone();
        let names: Vec<String> = (0..keys).map(|key| name(prefix, client, key)).collect();
        tokio::spawn(async move {
            let mut connection = CoordinatorServiceClient::connect(url).await.unwrap();
            let mut written = Vec::with_capacity(names.len());
            for name in names {
                let request = request(name.clone(), 1);
                connection.write_key_value(request).await.unwrap();
                written.push(Written { name, number: 1 });
            }
            written
        })
    });
    let clients: Vec<JoinHandle<Vec<Written>>> = clients.collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all
}
