//! Tenants and storage nodes are made, changed, listed and removed.

use tonic::{Code, Response, Status};

use super::super::test_cluster::TestCluster;
use super::{Client, cluster, reason, write};
use crate::proto::v1;

/// The code and the reason of a refusal.
pub(super) fn told<T>(outcome: Result<Response<T>, Status>) -> (Code, String) {
    let status = outcome.err().expect("a refusal");
    (status.code(), reason(&status))
}

pub(super) fn refused(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn tenants_are_made_once_and_shown() {
    let (_cluster, mut client) = cluster().await;
    let tenant_id = "siblings".to_owned();
    let shown = client.get_tenant(v1::GetTenantRequest { tenant_id }).await;
    let shown = shown.unwrap().into_inner();
    assert_eq!(
        (shown.replication_factor, shown.conflict_policy.as_str()),
        (3, "siblings")
    );
    let made = |tenant_id: &str, replication_factor| v1::CreateTenantRequest {
        tenant_id: tenant_id.into(),
        replication_factor,
        ..Default::default()
    };
    assert_eq!(
        told(client.create_tenant(made("lww", 0)).await),
        refused(Code::AlreadyExists, "TENANT_EXISTS")
    );
    assert_eq!(
        told(client.create_tenant(made("x", 11)).await),
        refused(Code::InvalidArgument, "INVALID_REPLICATION_FACTOR")
    );
    let update = |new_replication_factor| v1::UpdateReplicationFactorRequest {
        tenant_id: "lww".into(),
        new_replication_factor,
    };
    let same = client.update_replication_factor(update(3)).await;
    let same = same.unwrap().into_inner();
    assert_eq!(
        (same.old_replication_factor, same.new_replication_factor),
        (3, 3)
    );
    assert_eq!(
        told(client.update_replication_factor(update(-3)).await),
        refused(Code::InvalidArgument, "INVALID_REPLICATION_FACTOR")
    );
}

#[tokio::test]
async fn nodes_are_listed_and_stay_while_they_hold_data() {
    let (_cluster, mut client) = cluster().await;
    let listed = client.list_storage_nodes(v1::ListStorageNodesRequest {});
    let listed = listed.await.unwrap().into_inner().nodes;
    let shown = |node: &v1::StorageNodeInfo| {
        format!("{} {} {}", node.node_id, node.status, node.virtual_nodes)
    };
    assert_eq!(
        listed.iter().map(shown).collect::<Vec<_>>(),
        ["n1 active 150", "n2 active 150", "n3 active 150"]
    );
    let no_host = v1::AddStorageNodeRequest {
        node_id: "n4".into(),
        port: 1,
        ..Default::default()
    };
    let status = client.add_storage_node(no_host).await.unwrap_err();
    assert!(status.message().starts_with("host: "), "{status:?}");
    let none = v1::GetMigrationStatusRequest {
        migration_id: "m".into(),
    };
    assert_eq!(
        told(client.get_migration_status(none).await),
        refused(Code::NotFound, "MIGRATION_NOT_FOUND")
    );
    let written = client.write_key_value(write("lww", "k", "v")).await;
    written.unwrap();
    let remove = v1::RemoveStorageNodeRequest {
        node_id: "n1".into(),
        force: false,
    };
    assert_eq!(
        told(client.remove_storage_node(remove).await),
        refused(Code::FailedPrecondition, "NODE_IN_USE")
    );
}

#[tokio::test]
async fn an_empty_node_can_be_removed() {
    let (_cluster, mut client) = cluster().await;
    let remove = v1::RemoveStorageNodeRequest {
        node_id: "n1".into(),
        force: false,
    };
    let response = client
        .remove_storage_node(remove)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((response.success, response.node_id.as_str()), (true, "n1"));
    assert!(response.message.ends_with("no data had to move"));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_removed_by_force_only() {
    let (cluster, mut client) = cluster().await;
    cluster.cut_off(0);
    let remove = |force| v1::RemoveStorageNodeRequest {
        node_id: "n1".into(),
        force,
    };
    let status = client.remove_storage_node(remove(false)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "NODE_IN_USE")
    );
    assert!(status.message().contains("n1"), "{status:?}");
    assert!(status.message().contains("by force"), "{status:?}");
    let response = client.remove_storage_node(remove(true)).await.unwrap();
    assert!(
        response
            .into_inner()
            .message
            .ends_with("n1 did not answer, and what only they may hold is given up")
    );
    client
        .write_key_value(write("lww", "k", "v"))
        .await
        .expect("the others serve");
}

#[tokio::test]
async fn force_does_not_throw_away_data_of_a_node_that_answers() {
    let (_cluster, mut client) = cluster().await;
    client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap();
    let remove = v1::RemoveStorageNodeRequest {
        node_id: "n1".into(),
        force: true,
    };
    let status = client.remove_storage_node(remove).await.unwrap_err();
    assert_eq!(reason(&status), "NODE_IN_USE");
    assert!(status.message().contains("holds data"), "{status:?}");
}

#[tokio::test]
async fn a_new_node_must_answer_and_be_empty() {
    let cluster = TestCluster::start().await;
    let mut client = Client::new(cluster.channel().await);
    let add = |n: usize| {
        let node = TestCluster::node(n);
        v1::AddStorageNodeRequest {
            node_id: node.id.as_str().into(),
            host: node.host,
            port: i32::from(node.port),
            virtual_nodes: 0,
            zone: String::new(),
        }
    };
    cluster.cut_off(0);
    cluster.fill(1).await;
    for (n, problem) in [(0, "refuses connections"), (1, "holds data")] {
        let status = client.add_storage_node(add(n)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "NODE_IN_USE")
        );
        let name = format!("adding n{0}: n{0}", n + 1);
        assert!(status.message().starts_with(&name), "{status:?}");
        assert!(status.message().contains(problem), "{status:?}");
    }
    client.add_storage_node(add(2)).await.unwrap();
    let nodes = client.list_storage_nodes(v1::ListStorageNodesRequest {});
    assert_eq!(nodes.await.unwrap().into_inner().nodes.len(), 1);
}
