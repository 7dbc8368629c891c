//! What a client sees, over real sockets.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::test_cluster::TestCluster;
use super::{AuthSettings, LimitSettings};
use crate::coordinator::WriteRequest;
use crate::proto::v1;
use crate::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use crate::version::Content;

type Client = CoordinatorServiceClient<Channel>;

async fn add_nodes(client: &mut Client) {
    for n in 0..3 {
        let node = TestCluster::node(n);
        let request = v1::AddStorageNodeRequest {
            node_id: node.id.as_str().into(),
            host: node.host,
            port: node.port.into(),
            virtual_nodes: 0,
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

#[tokio::test]
async fn a_key_is_written_read_and_deleted() {
    let (_cluster, mut client) = cluster().await;
    let written = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap()
        .into_inner();
    assert!(written.success && !written.is_duplicate && !written.without_idempotency);
    assert_eq!(
        (written.key.as_str(), written.consistency.as_str()),
        ("k", "quorum")
    );
    assert!(
        written.replica_count >= 2
            && !written.idempotency_key.is_empty()
            && !written.context.is_empty()
    );
    let clock = written.vector_clock.unwrap().entries;
    assert_eq!(clock.len(), 1);
    assert!(clock[0].coordinator_node_id.contains('#') && clock[0].logical_timestamp > 0);

    let found = client
        .read_key_value(read("lww", "k"))
        .await
        .unwrap()
        .into_inner();
    assert!(found.success && found.siblings.is_empty());
    assert_eq!(
        (found.value.as_ref(), found.vector_clock.unwrap().entries),
        (b"v".as_ref(), clock)
    );

    let delete = v1::DeleteKeyValueRequest {
        tenant_id: "lww".into(),
        key: "k".into(),
        ..Default::default()
    };
    let deleted = client.delete_key_value(delete).await.unwrap().into_inner();
    assert!(deleted.success && deleted.replica_count >= 2);
    let status = client.read_key_value(read("lww", "k")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "key 'k' not found")
    );
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "KEY_NOT_FOUND");
    assert_eq!(info.metadata["key"], "k");
    assert_eq!(info.metadata["tenant_id"], "lww");
    assert!(!info.metadata["context"].is_empty());
}

#[tokio::test]
async fn concurrent_values_are_siblings_until_a_context_resolves_them() {
    let (_cluster, mut client) = cluster().await;
    for value in ["a", "b"] {
        client
            .write_key_value(write("siblings", "k", value))
            .await
            .unwrap();
    }
    let found = client
        .read_key_value(read("siblings", "k"))
        .await
        .unwrap()
        .into_inner();
    let values: Vec<_> = found
        .siblings
        .iter()
        .map(|sibling| sibling.value.as_ref())
        .collect();
    assert_eq!(values, [b"b", b"a"], "the last written first");
    assert_eq!(found.value.as_ref(), b"b");
    assert!(found.siblings[0].stamp_unix_ms > 1_700_000_000_000);

    let resolve = v1::WriteKeyValueRequest {
        context: found.context,
        ..write("siblings", "k", "c")
    };
    client.write_key_value(resolve).await.unwrap();
    let found = client
        .read_key_value(read("siblings", "k"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (found.value.as_ref(), found.siblings.len()),
        (b"c".as_ref(), 0)
    );
}

#[tokio::test]
async fn an_idempotency_key_has_one_effect_and_one_answer() {
    let (_cluster, mut client) = cluster().await;
    let with_key = |value: &'static str| v1::WriteKeyValueRequest {
        idempotency_key: Some("i1".into()),
        ..write("lww", "k", value)
    };
    let first = client
        .write_key_value(with_key("v"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.idempotency_key.as_str(), first.is_duplicate),
        ("i1", false)
    );
    let again = client
        .write_key_value(with_key("v"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        again,
        v1::WriteKeyValueResponse {
            is_duplicate: true,
            ..first
        }
    );
    let status = client.write_key_value(with_key("w")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::AlreadyExists, "IDEMPOTENCY_KEY_CONFLICT")
    );
    assert!(status.message().contains("idempotency"));
}

#[tokio::test]
async fn a_tenant_that_asks_for_too_much_is_told_when_to_come_again() {
    let limits = LimitSettings {
        reads_per_second: 5,
        bytes_per_second: 6_400,
        ..LimitSettings::default()
    };
    let cluster = TestCluster::start_with(&AuthSettings::default(), &limits).await;
    let mut client = Client::new(cluster.channel().await);
    add_nodes(&mut client).await;
    create_tenant(&mut client, "lww", "").await;
    create_tenant(&mut client, "other", "").await;
    let mut refused = Vec::new();
    for _ in 0..10 {
        refused.extend(client.read_key_value(read("lww", "k")).await.err());
    }
    refused.retain(|status| status.code() != Code::NotFound);
    assert!((1..=5).contains(&refused.len()), "{refused:?}");
    // One second's worth and more at once: the next one has to wait until it is paid for.
    let long = vec![0; 64_000];
    client
        .write_key_value(write("lww", "k", long))
        .await
        .unwrap();
    refused.push(
        client
            .write_key_value(write("lww", "k", "v"))
            .await
            .unwrap_err(),
    );
    for status in refused {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED")
        );
        let details = status.get_error_details();
        let after = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(
            after > Duration::ZERO && after <= Duration::from_secs(1),
            "{after:?}"
        );
    }
    client
        .write_key_value(write("other", "k", "v"))
        .await
        .unwrap();
    client.read_key_value(read("other", "k")).await.unwrap();
}

#[tokio::test]
async fn what_a_write_writes_again_is_charged_to_its_tenant() {
    let limits = LimitSettings {
        bytes_per_second: 6_400,
        ..LimitSettings::default()
    };
    let cluster = TestCluster::start_with(&AuthSettings::default(), &limits).await;
    let mut client = Client::new(cluster.channel().await);
    add_nodes(&mut client).await;
    create_tenant(&mut client, "siblings", "siblings").await;
    let large = WriteRequest {
        tenant: "siblings".into(),
        key: "k".into(),
        content: Content::Value(vec![0; 640_000].into()),
        consistency: None,
        context: Bytes::new(),
        idempotency_key: None,
        timeout: None,
    };
    cluster.coordinator.write(large).await.unwrap();
    let mut beside = async || client.write_key_value(write("siblings", "k", "v")).await;
    beside().await.unwrap();
    let refused = beside().await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED"),
        "a hundred seconds' worth was written again"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (_cluster, mut client) = cluster().await;
    let two = v1::ReadKeyValueRequest {
        consistency: "two".into(),
        ..read("lww", "k")
    };
    let long = vec![0; 1024 * 1024 + 1];
    let statuses = [
        (client.read_key_value(two).await.unwrap_err(), "consistency"),
        (
            client.read_key_value(read("a:b", "k")).await.unwrap_err(),
            "tenant_id",
        ),
        (
            client.read_key_value(read("lww", "")).await.unwrap_err(),
            "key",
        ),
        (
            client
                .write_key_value(write("lww", "k", long))
                .await
                .unwrap_err(),
            "value",
        ),
    ];
    for (status, field) in statuses {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST")
        );
        assert!(
            status.message().starts_with(&format!("{field}: ")),
            "{}",
            status.message()
        );
        let details = status.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            field
        );
    }
    let status = client
        .read_key_value(read("nobody", "k"))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "TENANT_NOT_FOUND")
    );
    assert!(status.message().contains("nobody"));
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_an_invalid_request() {
    let (cluster, mut client) = cluster().await;
    let mut grpc = Grpc::new(cluster.channel().await);
    let mut send = async |value: Bytes| {
        // The bytes of a field are whatever one wants: here a message of another type, whose first field is bytes.
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/proto.CoordinatorService/GetTenant");
        let codec: ProstCodec<v1::Join, v1::GetTenantResponse> = ProstCodec::default();
        let request = v1::Join {
            key: value,
            record: Bytes::new(),
            judged: None,
            exchanged: false,
        };
        let status = grpc.unary(Request::new(request), path, codec).await;
        status.unwrap_err()
    };
    let not_text = send(Bytes::from_static(b"\xff\xfe")).await;
    // An unknown field 2 is skipped; as a field of the request's own type it is not what it should be.
    let not_a_message = {
        let path = PathAndQuery::from_static("/proto.CoordinatorService/CreateTenant");
        let codec: ProstCodec<v1::Join, v1::CreateTenantResponse> = ProstCodec::default();
        let mut grpc = Grpc::new(cluster.channel().await);
        grpc.ready().await.unwrap();
        let request = v1::Join {
            key: Bytes::from_static(b"t"),
            record: Bytes::from_static(b"where a number should be"),
            judged: None,
            exchanged: false,
        };
        let status = grpc.unary(Request::new(request), path, codec).await;
        status.unwrap_err()
    };
    assert!(
        not_a_message.message().contains("replication_factor"),
        "{not_a_message:?}"
    );
    assert!(
        not_text.message().contains("GetTenantRequest.tenant_id"),
        "{not_text:?}"
    );
    let far_too_long = client
        .write_key_value(write("lww", "k", vec![0; 8 * 1024 * 1024]))
        .await
        .unwrap_err();
    assert!(far_too_long.message().contains("limit"), "{far_too_long:?}");
    for status in [not_text, not_a_message, far_too_long] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST")
        );
    }
}

#[tokio::test]
async fn a_wrong_tenant_is_named_once() {
    let (_cluster, mut client) = cluster().await;
    let status = client.read_key_value(read("a:b", "k")).await.unwrap_err();
    assert_eq!(
        status.message(),
        "tenant_id: has the character ':'; printable text without ':' is allowed"
    );
}

#[tokio::test]
async fn the_largest_value_passes() {
    let (_cluster, mut client) = cluster().await;
    let value = vec![7; 1024 * 1024];
    client
        .write_key_value(write("lww", "k", value.clone()))
        .await
        .unwrap();
    let found = client
        .read_key_value(read("lww", "k"))
        .await
        .unwrap()
        .into_inner();
    assert!(found.value == value);
}

#[tokio::test]
async fn a_missing_quorum_says_who_was_missing() {
    let (cluster, mut client) = cluster().await;
    cluster.cut_off(0);
    cluster.cut_off(1);
    let status = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{status:?}"
    );
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "QUORUM_NOT_REACHED");
    assert_eq!(
        (
            info.metadata["consistency"].as_str(),
            info.metadata["required"].as_str()
        ),
        ("quorum", "2")
    );
    assert_eq!(
        (
            info.metadata["answered"].as_str(),
            info.metadata["indeterminate"].as_str()
        ),
        ("1", "true")
    );
    let mut missing: Vec<_> = info.metadata["missing"].split(',').collect();
    missing.sort_unstable();
    assert_eq!(missing, ["n1", "n2"]);
    assert!(
        status
            .message()
            .contains("n1 (not reached: localhost:7001 refuses connections)"),
        "{status:?}"
    );
}

#[tokio::test]
async fn only_nodes_are_missing() {
    let cluster = TestCluster::start().await;
    let mut client = Client::new(cluster.channel().await);
    create_tenant(&mut client, "lww", "").await;
    let status = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap_err();
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata["missing"], "");
    assert!(
        status.message().contains("the cluster has no storage node"),
        "{status:?}"
    );
}

#[tokio::test]
async fn the_clients_deadline_is_kept_with_an_answer() {
    let (cluster, mut client) = cluster().await;
    cluster.slow_down(Duration::from_secs(2));
    let mut request = Request::new(read("lww", "k"));
    request.set_timeout(Duration::from_millis(500));
    let status = client.read_key_value(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable),
        "{status:?}"
    );
    assert_eq!(reason(&status), "QUORUM_NOT_REACHED");
    let details = status.get_error_details();
    let missing = &details.error_info().unwrap().metadata["missing"];
    let mut missing: Vec<_> = missing.split(',').collect();
    missing.sort_unstable();
    assert_eq!(missing, ["n1", "n2", "n3"]);
}

#[tokio::test]
async fn a_change_of_what_the_metadata_store_holds_has_a_deadline() {
    let (cluster, client) = cluster().await;
    cluster.hang_metadata();
    let began = std::time::Instant::now();
    let tenant = v1::CreateTenantRequest {
        tenant_id: "late".into(),
        ..Default::default()
    };
    let (tenant, node) = futures::join!(
        async { client.clone().create_tenant(tenant).await.unwrap_err() },
        async {
            let remove = v1::RemoveStorageNodeRequest {
                node_id: "n3".into(),
                force: false,
            };
            client
                .clone()
                .remove_storage_node(remove)
                .await
                .unwrap_err()
        },
    );
    for status in [tenant, node] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::DeadlineExceeded, "STORE_UNAVAILABLE")
        );
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_write_goes_on_when_its_client_hangs_up() {
    let (cluster, mut client) = cluster().await;
    cluster.slow_down(Duration::from_millis(300));
    let all = v1::WriteKeyValueRequest {
        consistency: "all".into(),
        ..write("lww", "k", "v")
    };
    let mut writer = client.clone();
    tokio::select! {
        _ = writer.write_key_value(all) => panic!("its client hangs up before"),
        () = cluster.until_asked() => {}
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.slow_down(Duration::ZERO);
    cluster.cut_off(0);
    for n in [1, 2] {
        let found = client.read_key_value(v1::ReadKeyValueRequest {
            consistency: "one".into(),
            ..read("lww", "k")
        });
        assert_eq!(
            found.await.unwrap().into_inner().value.as_ref(),
            b"v",
            "read {n}"
        );
    }
}

#[tokio::test]
async fn tenants_and_nodes_are_looked_after() {
    let (_cluster, mut client) = cluster().await;
    let tenant = client
        .get_tenant(v1::GetTenantRequest {
            tenant_id: "siblings".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (tenant.replication_factor, tenant.conflict_policy.as_str()),
        (3, "siblings")
    );

    let again = v1::CreateTenantRequest {
        tenant_id: "lww".into(),
        ..Default::default()
    };
    let status = client.create_tenant(again).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::AlreadyExists, "TENANT_EXISTS")
    );
    let eleven = v1::CreateTenantRequest {
        tenant_id: "x".into(),
        replication_factor: 11,
        ..Default::default()
    };
    let status = client.create_tenant(eleven).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_REPLICATION_FACTOR")
    );

    let update = |new_replication_factor| v1::UpdateReplicationFactorRequest {
        tenant_id: "lww".into(),
        new_replication_factor,
    };
    let same = client
        .update_replication_factor(update(3))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (same.old_replication_factor, same.new_replication_factor),
        (3, 3)
    );
    let status = client
        .update_replication_factor(update(-3))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "INVALID_REPLICATION_FACTOR");

    let nodes = client
        .list_storage_nodes(v1::ListStorageNodesRequest {})
        .await
        .unwrap()
        .into_inner()
        .nodes;
    let shown: Vec<_> = nodes
        .iter()
        .map(|node| {
            (
                node.node_id.as_str(),
                node.status.as_str(),
                node.virtual_nodes,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("n1", "active", 150),
            ("n2", "active", 150),
            ("n3", "active", 150)
        ]
    );

    let status = client
        .get_migration_status(v1::GetMigrationStatusRequest {
            migration_id: "m".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "MIGRATION_NOT_FOUND")
    );
    let no_host = v1::AddStorageNodeRequest {
        node_id: "n4".into(),
        port: 1,
        ..Default::default()
    };
    let status = client.add_storage_node(no_host).await.unwrap_err();
    assert!(status.message().starts_with("host: "), "{status:?}");

    client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap();
    let remove = v1::RemoveStorageNodeRequest {
        node_id: "n1".into(),
        force: false,
    };
    let status = client.remove_storage_node(remove).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "NODE_IN_USE")
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
    assert!(response.message.ends_with("it held no data"));
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
            .ends_with("it did not answer, and what it may hold is given up")
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

#[tokio::test]
async fn the_old_path_leads_to_the_same_service() {
    let (cluster, mut client) = cluster().await;
    client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap();
    let mut old = Grpc::new(cluster.channel().await);
    let mut call = async |method: &'static str, request: v1::ReadKeyValueRequest| {
        old.ready().await.unwrap();
        let codec: ProstCodec<v1::ReadKeyValueRequest, v1::ReadKeyValueResponse> =
            ProstCodec::default();
        old.unary(
            Request::new(request),
            PathAndQuery::from_static(method),
            codec,
        )
        .await
    };
    let found = call("/proto.CoordinatorService/ReadKeyValue", read("lww", "k"))
        .await
        .unwrap();
    assert_eq!(found.into_inner().value.as_ref(), b"v");
    let status = call(
        "/proto.CoordinatorService/ReadKeyValue",
        read("lww", "nothing"),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "KEY_NOT_FOUND")
    );
    for method in [
        "/proto.CoordinatorService/Nothing",
        "/proto.OtherService/ReadKeyValue",
    ] {
        assert_eq!(
            call(method, read("lww", "k")).await.unwrap_err().code(),
            Code::Unimplemented
        );
    }
}

#[tokio::test]
async fn health_follows_readiness() {
    let cluster = TestCluster::start().await;
    let mut health = HealthClient::new(cluster.channel().await);
    let mut client = Client::new(cluster.channel().await);
    let mut watched = health
        .watch(HealthCheckRequest {
            service: "pairdb.v1.CoordinatorService".into(),
        })
        .await
        .unwrap()
        .into_inner()
        .map(|response| response.unwrap().status());
    assert_eq!(
        watched.next().await,
        Some(ServingStatus::NotServing),
        "there is no topology yet"
    );
    assert_eq!(http(&cluster, "/ready").await.0, 503);
    add_nodes(&mut client).await;
    // At once, not when somebody has looked: commands ask straight after they added a node.
    for service in ["", "proto.CoordinatorService"] {
        let response = health
            .check(HealthCheckRequest {
                service: service.into(),
            })
            .await
            .unwrap();
        assert_eq!(response.into_inner().status(), ServingStatus::Serving);
    }
    let listed = client.list_storage_nodes(v1::ListStorageNodesRequest {});
    let nodes = listed.await.unwrap().into_inner().nodes;
    assert!(nodes.iter().all(|node| node.reachable), "{nodes:?}");
    assert_eq!(watched.next().await, Some(ServingStatus::Serving));
    let status = health
        .check(HealthCheckRequest {
            service: "other".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    cluster.coordinator.stop();
    assert_eq!(watched.next().await, Some(ServingStatus::NotServing));
}

/// The status and body of a GET.
async fn http(cluster: &TestCluster, path: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(cluster.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn probes_over_http_tell_what_is_up() {
    let (cluster, _client) = cluster().await;
    for path in ["/health", "/health/live"] {
        assert_eq!(
            http(&cluster, path).await,
            (200, serde_json::json!({ "status": "alive" }))
        );
    }
    let mut ready = http(&cluster, "/ready").await;
    for _ in 0..100 {
        if ready.1["dependencies"]["storage_nodes"] == "3 of 3 up" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        ready = http(&cluster, "/health/ready").await;
    }
    assert_eq!((ready.0, &ready.1["status"]), (200, &"ready".into()));
    assert_eq!(
        ready.1["dependencies"],
        serde_json::json!({ "metadata_store": "up", "idempotency_store": "up", "storage_nodes": "3 of 3 up" })
    );
    cluster.coordinator.stop();
    let (code, body) = http(&cluster, "/ready").await;
    assert_eq!((code, &body["status"]), (503, &"stopping".into()));
    assert_eq!(http(&cluster, "/nothing").await.0, 404);
}

#[tokio::test]
async fn the_server_describes_itself() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let cluster = TestCluster::start().await;
    let mut reflection = ServerReflectionClient::new(cluster.channel().await);
    let requests = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("pairdb.v1.WriteKeyValueRequest".into()),
    ];
    let requests = requests.map(|request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    });
    let responses = reflection
        .server_reflection_info(futures::stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let responses: Vec<_> = responses
        .map(|response: Result<ServerReflectionResponse, _>| response.unwrap())
        .collect()
        .await;
    let Some(MessageResponse::ListServicesResponse(services)) = &responses[0].message_response
    else {
        panic!()
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&"pairdb.v1.CoordinatorService") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    assert!(
        !names.contains(&"pairdb.v1.StorageService"),
        "not served here: {names:?}"
    );
    let Some(MessageResponse::FileDescriptorResponse(file)) = &responses[1].message_response else {
        panic!()
    };
    assert_eq!(file.file_descriptor_proto.len(), 1);

    use tonic_reflection::pb::v1alpha;
    use v1alpha::server_reflection_client::ServerReflectionClient as OldClient;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut old = OldClient::new(cluster.channel().await);
    let mut responses = old
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    assert!(responses.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_stop_finishes_what_is_at_work() {
    let (cluster, mut client) = cluster().await;
    cluster.slow_down(Duration::from_millis(400));
    let mut writer = client.clone();
    let writing = tokio::spawn(async move { writer.write_key_value(write("lww", "k", "v")).await });
    cluster.until_asked().await;
    let stopping = tokio::spawn(cluster.stop());
    assert!(writing.await.unwrap().is_ok());
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .unwrap()
        .unwrap();
    assert!(client.read_key_value(read("lww", "k")).await.is_err());
}

/// Goes through all pages: keys, names of what differs, names of what was not compared.
async fn verified(
    client: &mut CoordinatorServiceClient<Channel>,
    tenant: &str,
) -> (u64, Vec<String>, Vec<String>) {
    let (mut keys, mut differing, mut unverified) = (0, Vec::new(), Vec::new());
    let mut after = Bytes::new();
    loop {
        let request = v1::VerifyPageRequest {
            tenant_id: tenant.into(),
            after,
        };
        let page = client.verify_page(request).await.unwrap().into_inner();
        keys += page.keys;
        for difference in page.differences {
            let states: Vec<_> = difference.owners.iter().map(|o| o.state.as_str()).collect();
            let (tenant, key) = (difference.tenant_id, difference.key);
            differing.push(format!("{tenant}/{key}: {}", states.join(" ")));
        }
        unverified.extend(page.unverified.into_iter().map(|missing| missing.name));
        after = page.next;
        if after.is_empty() {
            differing.sort();
            return (keys, differing, unverified);
        }
    }
}

#[tokio::test]
async fn verification_reads_all_owners_of_all_keys() {
    let (cluster, mut client) = cluster().await;
    for number in 0..7 {
        for tenant in ["lww", "siblings"] {
            let mut write = write(tenant, &format!("k{number}"), "v");
            write.consistency = "all".into();
            client.write_key_value(write).await.unwrap();
        }
    }
    assert_eq!(verified(&mut client, "").await, (14, vec![], vec![]));
    assert_eq!(verified(&mut client, "lww").await, (7, vec![], vec![]));

    cluster.forget(1, "k3").await;
    let (keys, differing, unverified) = verified(&mut client, "").await;
    assert_eq!((keys, unverified), (14, vec![]));
    assert_eq!(differing.len(), 2);
    for (found, key) in differing.iter().zip(["lww/k3: ", "siblings/k3: "]) {
        assert!(found.starts_with(key), "{found}");
        assert_eq!(found.matches("value").count(), 2, "{found}");
        assert_eq!(found.matches("nothing").count(), 1, "{found}");
    }

    cluster.cut_off(1);
    let (keys, differing, unverified) = verified(&mut client, "siblings").await;
    assert_eq!((keys, differing), (7, vec![]));
    assert_eq!(unverified, ["n2"]);

    let request = |tenant_id: &str, after: &'static [u8]| v1::VerifyPageRequest {
        tenant_id: tenant_id.into(),
        after: Bytes::from_static(after),
    };
    let status = client
        .verify_page(request("nobody", b""))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "TENANT_NOT_FOUND");
    let status = client.verify_page(request("", b"?")).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
}
