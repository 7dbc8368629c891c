//! A coordinator and a storage node, real processes, under clients that have no token and nothing to say: messages that
//! never end, over gRPC, HTTP and the storage port, and connections that do nothing. Each attack tries to bring twice
//! what the process may have; that stays below that, and honest clients are served all the while.
//!
//! ```sh
//! cargo test --test attack -- --nocapture
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

mod kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::SendStream;
use h2::client::SendRequest;
use kit::Cluster;
use pairdb::proto::v1;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

const MIB: usize = 1 << 20;
/// What each process may have.
const MEMORY: usize = 160 * MIB;
/// What each attack brings.
const ATTACK: usize = 2 * MEMORY;
/// Of one message.
const MESSAGE: usize = 4 * MIB;
/// What there is room for at a listener; the silent are more.
const CONNECTIONS: usize = 40;
/// Long enough for whatever is to happen.
const LONG: Duration = Duration::from_secs(60);

/// Of each process.
fn settings() -> Vec<(String, String)> {
    let settings = [
        ("PAIRDB_SERVER__MEMORY_BYTES_MAX", MEMORY),
        ("PAIRDB_GRPC__CONNECTIONS_MAX", CONNECTIONS),
        ("PAIRDB_HTTP__CONNECTIONS_MAX", CONNECTIONS),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_string()));
    settings.into()
}

/// A client that wants nothing but to be served, until it is told to stop.
struct Honest {
    served: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<()>,
}

impl Honest {
    async fn start(address: SocketAddr) -> Self {
        let mut client = client(address).await;
        let (served, enough) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&served), Arc::clone(&enough));
        let running = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let write = v1::WriteKeyValueRequest {
                    tenant_id: "t".into(),
                    key: "k".into(),
                    value: vec![b'v'; 1000].into(),
                    ..Default::default()
                };
                match timeout(LONG, client.write_key_value(write)).await.unwrap() {
                    Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    // It may be told to come again, or that its machine is too slow; never anything else.
                    Err(status) => assert!(
                        matches!(
                            status.code(),
                            Code::ResourceExhausted | Code::DeadlineExceeded
                        ),
                        "{status:?}"
                    ),
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        Self {
            served,
            enough,
            running,
        }
    }

    /// Waits until it has been served some more, and stops it.
    async fn served(self) -> usize {
        let before = self.served.load(Ordering::Relaxed);
        let more = async {
            while self.served.load(Ordering::Relaxed) < before + 3 && !self.running.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, more).await.unwrap();
        self.enough.store(true, Ordering::Relaxed);
        self.running.await.unwrap();
        self.served.load(Ordering::Relaxed)
    }
}

async fn client(address: SocketAddr) -> CoordinatorServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    CoordinatorServiceClient::new(endpoint.connect().await.unwrap())
}

/// Begins a call whose message never ends.
fn begin(connection: &mut SendRequest<Bytes>, path: &str) -> Option<SendStream<Bytes>> {
    let request = http::Request::post(format!("http://h{path}"))
        .header("content-type", "application/grpc")
        .body(());
    let (_answer, stream) = connection.send_request(request.unwrap(), false).ok()?;
    Some(stream)
}

/// Sends as much as the other side takes, up to `bytes`; how much that was.
async fn pour(stream: &mut SendStream<Bytes>, from: &Bytes, bytes: usize) -> usize {
    let mut sent = 0;
    while sent < bytes {
        stream.reserve_capacity(from.len().min(bytes - sent));
        let room = std::future::poll_fn(|context| stream.poll_capacity(context));
        let Ok(Some(Ok(room))) = timeout(Duration::from_secs(5), room).await else {
            break; // it gave way
        };
        let piece = from.slice(..room.min(from.len()).min(bytes - sent));
        sent += piece.len();
        if stream.send_data(piece, false).is_err() {
            break;
        }
    }
    sent
}

/// What was taken of an attack, and what keeps it going: it ends when that is dropped.
type Attack = (usize, Box<dyn std::any::Any + Send>);

/// Messages that stop short of their end, on some connections.
async fn unfinished_messages(address: SocketAddr) -> Attack {
    let mut prefix = BytesMut::new();
    prefix.put_u8(0);
    prefix.put_u32(MESSAGE as u32);
    let (prefix, filler) = (prefix.freeze(), Bytes::from(vec![b'x'; 16 * 1024]));
    let (mut sent, mut open) = (0, Vec::new());
    for _ in 0..4 {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut connection, driver) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(driver);
        for _ in 0..ATTACK / MESSAGE / 4 {
            let path = "/pairdb.v1.CoordinatorService/WriteKeyValue";
            connection = connection.ready().await.unwrap();
            let Some(mut stream) = begin(&mut connection, path) else {
                break;
            };
            sent += pour(&mut stream, &prefix, prefix.len()).await;
            sent += pour(&mut stream, &filler, MESSAGE - 100).await;
            open.push((connection.clone(), stream));
        }
    }
    assert_eq!(open.len(), ATTACK / MESSAGE);
    (sent, Box::new(open))
}

/// Long requests of storage nodes that stop short of their end, each in fragments.
async fn unfinished_fragments(address: SocketAddr) -> Attack {
    let fragment = v1::Fragment {
        id: 7,
        data: vec![b'x'; 60 * 1024].into(),
        last: false,
    };
    let batch = v1::RequestBatch {
        node_id: "node-1".into(),
        requests: Vec::new(),
        fragment: Some(fragment),
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(batch.encoded_len() as u32);
    batch.encode(&mut message).unwrap();
    let message = message.freeze();
    let (mut sent, mut open) = (0, Vec::new());
    let each = ATTACK / 16 / message.len();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut connection, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(driver);
    for _ in 0..16 {
        connection = connection.ready().await.unwrap();
        let Some(mut stream) = begin(&mut connection, "/pairdb.v1.StorageService/Exchange") else {
            break;
        };
        for _ in 0..each {
            sent += pour(&mut stream, &message, message.len()).await;
        }
        open.push(stream);
    }
    (sent, Box::new((connection, open)))
}

/// Bodies that stop short of their end.
async fn unfinished_bodies(address: SocketAddr) -> Attack {
    let filler = vec![b'x'; 64 * 1024];
    let head = format!(
        "POST /v1/key-value HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {MESSAGE}\r\n\r\n"
    );
    let (mut sent, mut open) = (0, Vec::new());
    for _ in 0..ATTACK / MESSAGE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _refused = stream.write_all(head.as_bytes()).await;
        for _ in 0..MESSAGE / filler.len() - 1 {
            match timeout(Duration::from_secs(5), stream.write_all(&filler)).await {
                Ok(Ok(())) => sent += filler.len(),
                _ => break,
            }
        }
        open.push(stream);
    }
    (sent, Box::new(open))
}

/// Whole values, all good and more at once than there is room for. How many were stored, and how many were refused for
/// that.
async fn large_values(address: SocketAddr) -> (usize, usize) {
    let value = Bytes::from(vec![b'v'; MIB]);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS / 2 {
        connections.push(client(address).await);
    }
    let clients = (0..ATTACK / MIB).map(|n| {
        let (value, mut client) = (value.clone(), connections[n % connections.len()].clone());
        tokio::spawn(async move {
            let write = v1::WriteKeyValueRequest {
                tenant_id: "t".into(),
                key: format!("large-{n}"),
                value,
                ..Default::default()
            };
            timeout(LONG, client.write_key_value(write)).await.unwrap()
        })
    });
    let (mut stored, mut refused) = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        match client.await.unwrap() {
            Ok(_) => stored += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                refused += 1;
            }
        }
    }
    assert!(stored > 0, "{refused} refused");
    (stored, refused)
}

async fn silence(address: SocketAddr) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    silent
}

async fn probe(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let probe = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(probe).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_honest_clients_are_served_under_attack() {
    let cluster = Cluster::on_sqlite(settings()).started(1, 1);
    let (coordinator, node) = (cluster.front(), &cluster.nodes[0]);
    coordinator.ok(&["tenant", "create", "t", "--replication-factor", "1"]);
    let (grpc, http) = (coordinator.address("grpc"), coordinator.address("http"));

    for attack in ["messages", "bodies", "fragments"] {
        let honest = Honest::start(grpc).await;
        let (sent, open) = match attack {
            "messages" => unfinished_messages(grpc).await,
            "bodies" => unfinished_bodies(http).await,
            _ => unfinished_fragments(node.address("grpc")).await,
        };
        assert!(sent > CONNECTIONS * 1024, "{attack}: nothing came of it");
        let served = honest.served().await;
        drop(open);
        let (coordinator, node) = (coordinator.memory_peak(), node.memory_peak());
        println!(
            "{attack}: {} MiB sent, {served} writes served; coordinator {} MiB, node {} MiB",
            sent / MIB,
            coordinator / MIB,
            node / MIB
        );
        assert!(coordinator < MEMORY && node < MEMORY, "{attack}");
    }

    let (stored, refused) = large_values(grpc).await;
    let (coordinator, node) = (coordinator.memory_peak(), node.memory_peak());
    println!(
        "values: {stored} stored, {refused} told to come again; coordinator {} MiB, node {} MiB",
        coordinator / MIB,
        node / MIB
    );
    assert!(coordinator < MEMORY && node < MEMORY, "values");

    let silent = (silence(grpc).await, silence(http).await);
    let honest = Honest::start(grpc).await;
    println!("silence: {} writes served", honest.served().await);
    for _ in 0..3 {
        let answer = probe(http).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    drop(silent);
}
