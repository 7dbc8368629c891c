//! What a client sees, over real sockets.

use bytes::Bytes;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use super::test_cluster::TestCluster;
use crate::proto::v1;
use crate::proto::v1::coordinator_service_client::CoordinatorServiceClient;

mod keys;
mod migrations;
mod nodes;
mod refusals;
mod services;

type Client = CoordinatorServiceClient<Channel>;

async fn add_nodes(client: &mut Client) {
    for n in 0..3 {
        let node = TestCluster::node(n);
        let request = v1::AddStorageNodeRequest {
            node_id: node.id.as_str().into(),
            host: node.host,
            port: node.port.into(),
            virtual_nodes: 0,
            zone: String::new(),
        };
        let response = client.add_storage_node(request).await.unwrap().into_inner();
        assert!(response.success);
        assert_eq!(
            (response.node_id, response.migration_id),
            (node.id.as_str().to_owned(), String::new())
        );
    }
}

async fn create_tenant(client: &mut Client, tenant_id: &str, conflict_policy: &str) {
    let request = v1::CreateTenantRequest {
        tenant_id: tenant_id.into(),
        replication_factor: 0,
        conflict_policy: conflict_policy.into(),
    };
    let response = client.create_tenant(request).await.unwrap().into_inner();
    assert_eq!((response.success, response.replication_factor), (true, 3));
    assert!(response.created_at > 1_700_000_000);
}

/// A cluster with its nodes and the tenants `lww` and `siblings`.
async fn cluster() -> (TestCluster, Client) {
    let cluster = TestCluster::start().await;
    let mut client = Client::new(cluster.channel().await);
    add_nodes(&mut client).await;
    create_tenant(&mut client, "lww", "").await;
    create_tenant(&mut client, "siblings", "siblings").await;
    (cluster, client)
}

fn write(tenant_id: &str, key: &str, value: impl Into<Bytes>) -> v1::WriteKeyValueRequest {
    v1::WriteKeyValueRequest {
        tenant_id: tenant_id.into(),
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn read(tenant_id: &str, key: &str) -> v1::ReadKeyValueRequest {
    v1::ReadKeyValueRequest {
        tenant_id: tenant_id.into(),
        key: key.into(),
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}
