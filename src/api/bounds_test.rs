//! Fronts under clients that send too much, too slowly, without a right to it, or wait too short; spoken by hand, since
//! a client of the library would answer for itself.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::auth::auth_test::required;
use super::test_cluster::{TestBounds, TestCluster};
use super::{AuthSettings, FrontSettings, HttpSettings};
use crate::adapters::front::Budget;
use crate::proto::v1;
use crate::proto::v1::coordinator_service_client::CoordinatorServiceClient;

/// Long enough for whatever is to happen.
const LONG: Duration = Duration::from_secs(60);

const WRITE: &str = "WriteKeyValue";

/// A connection of HTTP/2.
struct Raw(SendRequest<Bytes>);

impl Raw {
    async fn connect(cluster: &TestCluster) -> Self {
        let stream = TcpStream::connect(cluster.grpc).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    /// Begins a call; what it brings is still to be sent.
    async fn begin(&mut self, method: &str, headers: &[(&str, &str)]) -> Call {
        let uri = format!("http://h/pairdb.v1.CoordinatorService/{method}");
        let mut request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        std::future::poll_fn(|context| self.0.poll_ready(context))
            .await
            .unwrap();
        let (answer, body) = self
            .0
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let answer = tokio::spawn(async move { status_of(answer.await?).await });
        Call { answer, body }
    }

    /// A whole call.
    async fn call(&mut self, method: &str, headers: &[(&str, &str)], message: Bytes) -> Status {
        let mut call = self.begin(method, headers).await;
        call.body.send_data(message, true).unwrap();
        call.status().await
    }
}

struct Call {
    answer: tokio::task::JoinHandle<Result<Status, h2::Error>>,
    body: SendStream<Bytes>,
}

impl Call {
    async fn status(self) -> Status {
        let _open = self.body;
        timeout(LONG, self.answer).await.unwrap().unwrap().unwrap()
    }
}

async fn status_of(answer: http::Response<RecvStream>) -> Result<Status, h2::Error> {
    let (head, mut body) = answer.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Ok(status);
    }
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    let trailers = body.trailers().await?.unwrap_or_else(HeaderMap::new);
    Ok(Status::from_header_map(&trailers).unwrap())
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map(|info| info.reason.clone()).unwrap_or_default()
}

/// As it travels in a call.
fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn write(bytes: usize) -> v1::WriteKeyValueRequest {
    v1::WriteKeyValueRequest {
        tenant_id: "lww".into(),
        key: "k".into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    }
}

/// With its nodes and the tenant `lww`.
async fn furnish(cluster: &TestCluster) {
    let mut client = CoordinatorServiceClient::new(cluster.channel().await);
    for n in 0..3 {
        let node = TestCluster::node(n);
        let request = v1::AddStorageNodeRequest {
            node_id: node.id.as_str().into(),
            host: node.host,
            port: node.port.into(),
            virtual_nodes: 0,
            zone: String::new(),
        };
        client.add_storage_node(request).await.unwrap();
    }
    let tenant = v1::CreateTenantRequest {
        tenant_id: "lww".into(),
        ..Default::default()
    };
    client.create_tenant(tenant).await.unwrap();
}

async fn bounded(bounds: TestBounds) -> TestCluster {
    let cluster = TestCluster::start_bounded(&AuthSettings::default(), bounds).await;
    furnish(&cluster).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_runs_out_of_time_is_told_so_in_our_words() {
    let cluster = bounded(TestBounds::default()).await;
    cluster.slow_down(Duration::from_millis(20));
    let mut raw = Raw::connect(&cluster).await;
    let read = v1::ReadKeyValueRequest {
        tenant_id: "lww".into(),
        key: "k".into(),
        ..Default::default()
    };
    for round in 0..60 {
        let micros = format!("{}u", 100 + 300 * round);
        let header = [("grpc-timeout", micros.as_str())];
        for (method, message) in [(WRITE, framed(&write(1))), ("ReadKeyValue", framed(&read))] {
            let status = raw.call(method, &header, message).await;
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::DeadlineExceeded, "QUORUM_NOT_REACHED"),
                "{method} within {micros}: {status:?}"
            );
            let details = status.get_error_details();
            let metadata = &details.error_info().unwrap().metadata;
            assert!(metadata.contains_key("indeterminate"), "{status:?}");
            if method != WRITE {
                assert_eq!(metadata["indeterminate"], "false");
            }
        }
    }
    // What waits for a store, and a message that does not come.
    cluster.hang_metadata();
    let tenant = v1::CreateTenantRequest {
        tenant_id: "other".into(),
        ..Default::default()
    };
    let header = [("grpc-timeout", "50m")];
    let status = raw.call("CreateTenant", &header, framed(&tenant)).await;
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable),
        "{status:?}"
    );
    assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    let status = raw.begin(WRITE, &header).await.status().await;
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::DeadlineExceeded,
            "the deadline passed before the request had arrived"
        )
    );
}

#[tokio::test]
async fn libraries_answers_are_in_our_words_too() {
    let cluster = bounded(TestBounds::default()).await;
    let mut raw = Raw::connect(&cluster).await;
    let none = raw.call("Nothing", &[], framed(&write(1))).await;
    let packed = [("grpc-encoding", "gzip")];
    let mut message = BytesMut::from(framed(&write(1)).as_ref());
    message[0] = 1;
    let packed = raw.call(WRITE, &packed, message.freeze()).await;
    let garbage = raw
        .call(WRITE, &[], Bytes::from_static(b"\0\0\0\0\x02\xff\xff"))
        .await;
    let cut_off = raw
        .call(WRITE, &[], Bytes::from_static(b"\0\0\0\0\x09half"))
        .await;
    let told_too_long = Bytes::from_static(b"\0\x7f\xff\xff\xff");
    let too_long = raw.call(WRITE, &[], told_too_long).await;
    for (status, code) in [
        (none, Code::Unimplemented),
        (packed, Code::Unimplemented),
        (garbage, Code::InvalidArgument),
        (cut_off, Code::InvalidArgument),
        (too_long, Code::InvalidArgument),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (code, "INVALID_REQUEST"),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_read_of_who_may_not() {
    let cluster = TestCluster::start_bounded(&required(), TestBounds::default()).await;
    let mut raw = Raw::connect(&cluster).await;
    let status = raw.begin(WRITE, &[]).await.status().await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "UNAUTHORIZED")
    );
    let head = "POST /v1/key-value HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    let answer = http(&cluster, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_message_has_its_time() {
    let wait = Duration::from_millis(100);
    let cluster = bounded(TestBounds {
        grpc: FrontSettings {
            body_timeout: wait,
            ..FrontSettings::default()
        },
        http: HttpSettings {
            body_timeout: wait,
            ..HttpSettings::default()
        },
        ..TestBounds::default()
    })
    .await;
    let mut raw = Raw::connect(&cluster).await;
    let mut call = raw.begin(WRITE, &[]).await;
    call.body
        .send_data(framed(&write(100)).slice(..50), false)
        .unwrap();
    let status = call.status().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "the message did not arrive in time")
    );
    let head = "POST /v1/key-value HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let answer = http(&cluster, head, b"{").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("INVALID_REQUEST"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_give_way_to_whole_ones() {
    const MIB: usize = 1 << 20;
    let budget = Budget::new(32 * MIB);
    let cluster = bounded(TestBounds {
        budget: budget.clone(),
        ..TestBounds::default()
    })
    .await;
    let begin = framed(&write(MIB)).slice(..10_000);
    // One connection has room for one of them only; all of them together for five.
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(&cluster).await;
        let mut first = raw.begin(WRITE, &[]).await;
        first.body.send_data(begin.clone(), false).unwrap();
        while budget.used().1 < (stuck.len() + 1) * MIB {
            tokio::task::yield_now().await;
        }
        let mut second = raw.begin(WRITE, &[]).await;
        second.body.send_data(begin.slice(..10), false).unwrap();
        let refused = second.status().await;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED")
        );
        assert!(refused.get_error_details().retry_info().is_some());
        stuck.push((raw, first));
    }
    // What is short finds its room at once, and what is long when those have had their time and hardly come.
    let mut honest = Raw::connect(&cluster).await;
    for _ in 0..20 {
        let status = honest.call(WRITE, &[], framed(&write(1000))).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
        assert!(budget.used().1 <= 10 * MIB);
    }
    let served = async {
        while honest.call(WRITE, &[], framed(&write(MIB))).await.code() != Code::Ok {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, served).await.unwrap();
    let (_raw, first) = stuck.into_iter().next().unwrap();
    assert_eq!(first.status().await.code(), Code::ResourceExhausted);
    // The nodes of this test keep the very bytes of the last value.
    honest.call(WRITE, &[], framed(&write(1))).await;
    drop(honest);
    let given_back = async {
        while budget.used().0 > MIB / 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, given_back).await.unwrap();
}

/// Says something over HTTP/1 and reads the answer.
async fn http(cluster: &TestCluster, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(cluster.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let _refused = stream.write_all(body).await;
    let mut answer = vec![0; 16 * 1024];
    let read = timeout(LONG, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn the_configured_length_of_a_body_is_the_one_that_counts() {
    let cluster = bounded(TestBounds::default()).await;
    // 800 kB of a value, three times as long as JSON.
    let value = "\n\u{1}".repeat(400_000);
    let body = json!({ "tenant_id": "lww", "key": "k", "value": value }).to_string();
    assert!(
        body.len() > 3_000_000,
        "longer than what the library takes by itself"
    );
    let head = |bytes: usize| {
        format!(
            "POST /v1/key-value HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {bytes}\r\n\r\n"
        )
    };
    let answer = http(&cluster, &head(body.len()), body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Told by the headers, nothing of the body is waited for.
    let answer = http(&cluster, &head(8 * 1024 * 1024 + 1), b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("INVALID_REQUEST"), "{answer}");
}
