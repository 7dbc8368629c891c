//! What a client is told that asks for too much, for something wrong, or for longer than it waits.

use std::time::Duration;

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::super::test_cluster::TestCluster;
use super::super::{AuthSettings, LimitSettings};
use super::{Client, add_nodes, cluster, create_tenant, read, reason, write};
use crate::coordinator::WriteRequest;
use crate::proto::v1;
use crate::version::Content;

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
            handoff: false,
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
            handoff: false,
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
