//! The standard services and gRPC itself, by the clients that their own libraries generate.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, stream};
use tonic::Code;
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ExtensionRequest, ServerReflectionRequest};
use tower::{Service, ServiceExt};

use super::test_cluster::TestCluster;
use crate::proto::health::v1::HealthListRequest;
use crate::proto::health::v1::health_client::HealthClient as OurClient;

/// Longer than anything here takes on any machine.
const FOR_EVER: Duration = Duration::from_secs(60);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOR_EVER, what).await.unwrap()
}

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: name.into(),
    }
}

#[tokio::test]
async fn health_is_what_its_specification_says() {
    let cluster = TestCluster::start().await;
    let mut health = HealthClient::new(cluster.channel().await);
    let absent = health.check(service("absent")).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);

    let mut watched = Vec::new();
    for (name, first) in [
        ("", ServingStatus::NotServing),
        ("absent", ServingStatus::ServiceUnknown),
    ] {
        let mut statuses = health.watch(service(name)).await.unwrap().into_inner();
        let status = in_time(statuses.message()).await.unwrap().unwrap();
        assert_eq!(status.status(), first, "{name}");
        watched.push(statuses);
    }
    let mut ours = OurClient::new(cluster.channel().await);
    let listed = ours.list(HealthListRequest {}).await.unwrap();
    let listed = listed.into_inner().statuses;
    let listed: Vec<_> = listed
        .iter()
        .map(|(name, status)| (name.as_str(), status.status))
        .collect();
    let not_serving = ServingStatus::NotServing as i32;
    let names = [
        "",
        "pairdb.v1.CoordinatorService",
        "proto.CoordinatorService",
    ];
    assert_eq!(listed, names.map(|name| (name, not_serving)));

    // Both calls stay open until the server ends them; then it says so.
    let stopped = tokio::spawn(cluster.stop());
    for mut statuses in watched {
        let ended = in_time(statuses.message()).await.unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable);
    }
    in_time(stopped).await.unwrap();
}

/// What an answer is, in short.
fn shown(answer: Option<MessageResponse>) -> String {
    match answer.unwrap() {
        MessageResponse::FileDescriptorResponse(files) => {
            use prost::Message;
            let files = files.file_descriptor_proto.iter();
            let files = files.map(|file| prost_types::FileDescriptorProto::decode(&**file));
            let names = files.map(|file| file.unwrap().name().to_owned());
            names.collect::<Vec<_>>().join(" ")
        }
        MessageResponse::ListServicesResponse(list) => {
            let names = list.service.into_iter().map(|service| service.name);
            names.collect::<Vec<_>>().join(" ")
        }
        MessageResponse::AllExtensionNumbersResponse(none) => {
            format!("{}: {:?}", none.base_type_name, none.extension_number)
        }
        MessageResponse::ErrorResponse(error) => format!("error {}", error.error_code),
    }
}

fn questions() -> Vec<(MessageRequest, &'static str)> {
    let coordinator = "pairdb/v1/coordinator.proto";
    let symbol = |name: &str| MessageRequest::FileContainingSymbol(name.into());
    let file = |name: &str| MessageRequest::FileByFilename(name.into());
    let extensions = |name: &str| MessageRequest::AllExtensionNumbersOfType(name.into());
    vec![
        (
            MessageRequest::ListServices(String::new()),
            "grpc.health.v1.Health grpc.reflection.v1.ServerReflection \
             grpc.reflection.v1alpha.ServerReflection pairdb.v1.CoordinatorService",
        ),
        (symbol("absent.Symbol"), "error 5"),
        (symbol("pairdb.v1.CoordinatorService"), coordinator),
        (
            symbol("pairdb.v1.CoordinatorService.ReadKeyValue"),
            coordinator,
        ),
        (symbol("pairdb.v1.WriteKeyValueRequest"), coordinator),
        (symbol("pairdb.v1.WriteKeyValueRequest.key"), coordinator),
        (symbol("pairdb.v1.ErrorCode"), coordinator),
        (symbol("pairdb.v1.KEY_NOT_FOUND"), coordinator),
        (
            symbol("grpc.health.v1.Health"),
            "grpc/health/v1/health.proto",
        ),
        (
            symbol("grpc.health.v1.HealthCheckResponse.SERVING"),
            "grpc/health/v1/health.proto",
        ),
        (
            symbol("pairdb.v1.StorageService"),
            "error 5", // not served here
        ),
        (file("absent.proto"), "error 5"),
        (file(coordinator), coordinator),
        (
            MessageRequest::FileContainingExtension(ExtensionRequest {
                containing_type: "pairdb.v1.ReadKeyValueRequest".into(),
                extension_number: 7,
            }),
            "error 5",
        ),
        (
            extensions("pairdb.v1.ReadKeyValueRequest"),
            "pairdb.v1.ReadKeyValueRequest: []",
        ),
        (extensions("absent.Message"), "error 5"),
        (extensions("pairdb.v1.CoordinatorService"), "error 5"),
    ]
}

#[tokio::test]
async fn reflection_is_what_its_specification_says() {
    let cluster = TestCluster::start().await;
    let (questions, expected): (Vec<_>, Vec<_>) = questions().into_iter().unzip();
    let requests: Vec<_> = questions
        .into_iter()
        .map(|question| ServerReflectionRequest {
            host: "h".into(),
            message_request: Some(question),
        })
        .chain([ServerReflectionRequest::default()])
        .collect();
    let mut reflection = ServerReflectionClient::new(cluster.channel().await);
    let answers = reflection.server_reflection_info(stream::iter(requests.clone()));
    let answers = answers.await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    for (answer, request) in answers.iter().zip(&requests) {
        assert_eq!(answer.original_request.as_ref(), Some(request));
        assert_eq!(answer.valid_host, request.host);
    }
    let answers = answers.into_iter();
    let answers: Vec<_> = answers
        .map(|answer| shown(answer.message_response))
        .collect();
    assert_eq!(answers.len(), expected.len() + 1);
    for (index, expected) in expected.iter().chain(&["error 3"]).enumerate() {
        assert_eq!(&answers[index], expected, "{:?}", requests[index]);
    }
}

#[tokio::test]
async fn reflection_by_its_old_name_answers_alike() {
    use prost::Message;
    use tonic_reflection::pb::v1alpha;
    use v1alpha::server_reflection_client::ServerReflectionClient as OldClient;

    /// The messages are the same ones.
    fn translated<T: Message + Default>(message: &(impl Message + Debug)) -> T {
        T::decode(message.encode_to_vec().as_slice()).unwrap()
    }
    let cluster = TestCluster::start().await;
    let requests = questions()
        .into_iter()
        .map(|(question, _)| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        });
    let requests: Vec<ServerReflectionRequest> = requests.collect();
    let old = requests.iter().map(translated);
    let old: Vec<v1alpha::ServerReflectionRequest> = old.collect();
    let mut client = OldClient::new(cluster.channel().await);
    let answers = client.server_reflection_info(stream::iter(old));
    let answers = answers.await.unwrap().into_inner();
    let old: Vec<_> = answers.map(Result::unwrap).collect().await;
    let mut client = ServerReflectionClient::new(cluster.channel().await);
    let answers = client.server_reflection_info(stream::iter(requests));
    let answers = answers.await.unwrap().into_inner();
    let new: Vec<_> = answers.map(Result::unwrap).collect().await;
    let old: Vec<_> = old.iter().map(translated).collect();
    assert_eq!(new, old);
    let name = "grpc.reflection.v1alpha.ServerReflection";
    assert!(shown(new[0].message_response.clone()).contains(name));
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so_in_http() {
    let cluster = TestCluster::start().await;
    let mut channel = cluster.channel().await;
    let mut ask = async |method: &str, path: &str, kind: Option<&str>| {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        answer.status().as_u16()
    };
    for path in [
        "/pairdb.v1.CoordinatorService/CreateTenant",
        "/proto.CoordinatorService/CreateTenant",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/nothing",
    ] {
        for kind in [
            "application/json",
            "text/plain",
            "application/grpc-web+proto",
        ] {
            assert_eq!(ask("POST", path, Some(kind)).await, 415, "{path} {kind}");
        }
        assert_eq!(ask("POST", path, None).await, 415, "{path}");
        for kind in ["application/grpc", "application/grpc+proto"] {
            assert_eq!(ask("POST", path, Some(kind)).await, 200, "{path} {kind}");
            assert_eq!(ask("GET", path, Some(kind)).await, 405, "{path} {kind}");
        }
    }
}
