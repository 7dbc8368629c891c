//! What the listener serves beside the coordinator's own service: its old path, health, probes, reflection; and how it
//! stops.

use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use super::super::test_cluster::TestCluster;
use super::{Client, add_nodes, cluster, read, reason, write};
use crate::proto::v1;

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
