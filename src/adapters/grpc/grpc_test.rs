//! Both ends over a real loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

use super::*;
use crate::adapters::front::Budget;
use crate::adapters::tls::{Listener, ServerTls};
use crate::adapters::tokio::TokioClock;
use crate::placement::{Epoch, Node, NodeId, NodeStatus, PartitionId};
use crate::ports::conformance::{self, ScriptedNode, TransportBench};
use crate::ports::{
    CallError, Clock, Instant, Operation, RecordKey, Refusal, ReplicaTransport, Reply, Request,
    RequestHandler, TenantId,
};
use crate::proto::v1;
use crate::proto::v1::storage_service_client::StorageServiceClient;

/// A server in a runtime of its own, which dies as a process would: at once.
pub(super) struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn start(listener: std::net::TcpListener, handler: impl RequestHandler) -> Self {
        Self::start_with(listener, handler, None)
    }

    pub(super) fn start_with(
        listener: std::net::TcpListener,
        handler: impl RequestHandler,
        tls: Option<ServerTls>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = Listener::new(TcpListener::from_std(listener).unwrap(), tls);
            serve_storage(
                handler,
                listener,
                StorageFrontSettings::default(),
                Budget::unlimited(),
                std::future::pending(),
            )
            .await
        });
        Self(Some(runtime))
    }

    pub(super) fn kill(self) {}
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// For what is not about a peer that falls silent: on a machine that is busy with other tests, one that is well may
/// have no turn for seconds.
pub(super) fn patient() -> TransportSettings {
    let long = Duration::from_secs(60);
    TransportSettings {
        connect_timeout: long,
        keepalive_interval: long,
        keepalive_timeout: long,
        ..TransportSettings::default()
    }
}

/// A port at which nobody is, nor comes to be, as long as the socket is held: other tests are given ports meanwhile.
pub(super) fn nobody() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn conforms() {
    conforming().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_several_threads() {
    conforming().await;
}

async fn conforming() {
    conformance::replica_transport(&TokioClock::new(), async |scripted: ScriptedNode| {
        let (listener, address) = listen();
        let node = scripted.at("127.0.0.1", address.port());
        let (held, port) = nobody();
        let absent = Node {
            port,
            ..node.clone()
        };
        let process = Process::start(listener, scripted);
        let transport = GrpcTransport::new(TokioClock::new(), patient());
        TransportBench {
            transport,
            node,
            absent,
            stop: Box::new(|| {
                process.kill();
                drop(held);
            }),
        }
    })
    .await;
}

/// A node that answers reads by their key's word: "long" with a MiB, "largest" with 256, "never", "panic", anything
/// else with itself.
#[derive(Clone)]
pub(super) struct Words {
    id: NodeId,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

/// As much as one owner took of one key before bytes were bounded.
const LARGEST: usize = 256 * (1024 * 1024 + 64);

impl Words {
    pub(super) fn new() -> Self {
        Self {
            id: NodeId::new("n1").unwrap(),
            begun: Arc::default(),
            ended: Arc::default(),
        }
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl RequestHandler for Words {
    fn node(&self) -> &NodeId {
        &self.id
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let this = self.clone();
        async move {
            this.begun.fetch_add(1, Ordering::SeqCst);
            let record = match &request.operation {
                Operation::Read { key } => match key.key() {
                    "long" => vec![7; 1024 * 1024].into(),
                    "largest" => vec![7; LARGEST].into(),
                    "never" => std::future::pending().await,
                    "soon" => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        "soon".into()
                    }
                    "panic" => panic!("on purpose"),
                    word => word.to_owned().into(),
                },
                _ => return Err(Refusal::Malformed("not a read".into())),
            };
            this.ended.fetch_add(1, Ordering::SeqCst);
            Ok(Reply::Found {
                record: Some(record),
            })
        }
    }
}

fn record_key(word: &str) -> RecordKey {
    RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), word)
}

pub(super) fn read(word: &str) -> Request {
    let operation = Operation::Read {
        key: record_key(word),
    };
    Request {
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch(1),
        operation,
    }
}

pub(super) fn found(word: &str) -> Result<Reply, CallError> {
    Ok(Reply::Found {
        record: Some(word.to_owned().into()),
    })
}

pub(super) fn node_at(address: SocketAddr) -> Node {
    let (id, host) = (NodeId::new("n1").unwrap(), address.ip().to_string());
    Node {
        id,
        host,
        port: address.port(),
        virtual_nodes: 1,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn transport(settings: TransportSettings) -> GrpcTransport<TokioClock> {
    GrpcTransport::new(TokioClock::new(), settings)
}

pub(super) fn later() -> Instant {
    TokioClock::new().now() + Duration::from_secs(10)
}

pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn short_answers_overtake_long_ones() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let (transport, node) = (transport(TransportSettings::default()), node_at(address));
    assert_eq!(
        transport.call(&node, read("first"), later()).await,
        found("first")
    );
    let order = std::sync::Mutex::new(Vec::new());
    let calls = ["long"; 40].into_iter().chain(["short"; 20]).map(|word| {
        let call = transport.call(&node, read(word), later());
        let order = &order;
        async move {
            call.await.unwrap();
            order.lock().unwrap().push(word);
        }
    });
    join_all(calls).await;
    let order = order.into_inner().unwrap();
    let last_short = order.iter().rposition(|word| *word == "short").unwrap();
    assert!(
        last_short < 40,
        "the last short answer came after {} of 40 long ones",
        last_short - 19
    );
}

#[tokio::test]
async fn only_so_many_calls_wait() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let transport = transport(TransportSettings {
        in_flight_max: 2,
        ..Default::default()
    });
    let node = node_at(address);
    let mut calls = [(); 2].map(|()| Box::pin(transport.call(&node, read("never"), later())));
    for call in &mut calls {
        assert_eq!(call.now_or_never(), None);
    }
    let answer = transport.call(&node, read("third"), later()).await;
    assert_eq!(answer, Err(CallError::NoRoom { sent: false }));
    drop(calls);
    eventually("a free place", async || {
        transport.call(&node, read("third"), later()).await == found("third")
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let transport = transport(TransportSettings {
        message_bytes_max: 1000,
        ..Default::default()
    });
    let answer = transport
        .call(&node_at(address), read(&"k".repeat(1000)), later())
        .await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");
}

#[tokio::test]
async fn the_largest_record_that_may_be_stored_can_be_read() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let transport = transport(patient());
    let deadline = TokioClock::new().now() + Duration::from_secs(300);
    let answer = transport.call(&node_at(address), read("largest"), deadline);
    match answer.await {
        Ok(Reply::Found { record }) => assert_eq!(record.unwrap().len(), LARGEST),
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn it_connects_again_when_the_node_is_back() {
    let (listener, address) = listen();
    let process = Process::start(listener, Words::new());
    let (transport, node) = (transport(TransportSettings::default()), node_at(address));
    assert_eq!(
        transport.call(&node, read("one"), later()).await,
        found("one")
    );
    let mut waiting = Box::pin(transport.call(&node, read("never"), later()));
    assert_eq!((&mut waiting).now_or_never(), None);
    tokio::time::sleep(Duration::from_millis(20)).await;

    process.kill();
    let answer = waiting.await;
    assert!(matches!(answer, Err(CallError::NoAnswer(_))), "{answer:?}");
    let answer = transport.call(&node, read("two"), later()).await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");

    let mut listener = None;
    eventually("the port", async || {
        listener = std::net::TcpListener::bind(address).ok();
        listener.is_some()
    })
    .await;
    let _process = Process::start(listener.unwrap(), Words::new());
    eventually("a connection", async || {
        transport.call(&node, read("three"), later()).await == found("three")
    })
    .await;
}

#[tokio::test]
async fn a_panic_fails_its_request_alone() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let (transport, node) = (transport(TransportSettings::default()), node_at(address));
    let mut other = Box::pin(transport.call(&node, read("soon"), later()));
    assert_eq!((&mut other).now_or_never(), None);
    let answer = transport.call(&node, read("panic"), later()).await;
    assert!(
        matches!(answer, Err(CallError::Refused(Refusal::StorageFailed(_)))),
        "{answer:?}"
    );
    assert_eq!(other.await, found("soon"));
}

#[tokio::test]
async fn a_frozen_connection_is_noticed() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node_at(proxy.local_addr().unwrap());
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut inbound, _)) = proxy.accept().await {
            let mut frozen = frozen.clone();
            tokio::spawn(async move {
                let mut outbound = TcpStream::connect(address).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut inbound, &mut outbound) => {}
                    _ = frozen.wait_for(|frozen| *frozen) => {}
                }
                std::future::pending::<()>().await; // both stay open and silent
            });
        }
    });
    // Short, and yet longer than a connection that is well may have no turn on a busy machine.
    let short = Duration::from_secs(1);
    let settings = TransportSettings {
        keepalive_interval: short,
        keepalive_timeout: short,
        ..Default::default()
    };
    let transport = transport(settings);
    assert_eq!(
        transport.call(&node, read("one"), later()).await,
        found("one")
    );
    freeze.send_replace(true);
    let answer = transport.call(&node, read("two"), later()).await;
    assert!(matches!(answer, Err(CallError::NoAnswer(_))), "{answer:?}");
    eventually("the connection's end", async || {
        matches!(
            transport.call(&node, read("three"), later()).await,
            Err(CallError::NotSent(_))
        )
    })
    .await;
    freeze.send_replace(false);
    eventually("another connection", async || {
        transport.call(&node, read("four"), later()).await == found("four")
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed_and_made_again() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let transport = transport(TransportSettings {
        idle_max: Duration::from_millis(100),
        ..Default::default()
    });
    let node = node_at(address);
    for word in ["one", "two"] {
        assert_eq!(
            transport.call(&node, read(word), later()).await,
            found(word)
        );
        assert_eq!(transport.connections(), 1);
        eventually("its end", async || transport.connections() == 0).await;
    }
}

#[tokio::test]
async fn the_last_copy_closes_the_connections() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let transport = transport(TransportSettings::default());
    let node = node_at(address);
    let peer = {
        assert_eq!(
            transport.call(&node, read("one"), later()).await,
            found("one")
        );
        transport.any_peer()
    };
    drop(transport);
    assert!(matches!(
        peer.access(TokioClock::new().now()),
        super::peer::Access::Closed
    ));
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node_at(listener.local_addr().unwrap());
    let words = Words::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve_storage(
        words.clone(),
        listener,
        StorageFrontSettings::default(),
        Budget::unlimited(),
        stopped.map(|_| ()),
    ));
    let transport = transport(TransportSettings::default());
    let mut call = Box::pin(transport.call(&node, read("soon"), later()));
    assert_eq!((&mut call).now_or_never(), None);
    eventually("the request's arrival", async || words.begun() == 1).await;
    drop(stop);
    assert_eq!(call.await, found("soon"));
    assert_eq!(serving.await.map_err(|error| error.to_string()), Ok(()));
    let answer = transport.call(&node, read("late"), later()).await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");
}

pub(super) async fn raw_client(address: SocketAddr) -> StorageServiceClient<Channel> {
    StorageServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

pub(super) fn raw_read(id: u64, word: &str) -> v1::ReplicaRequest {
    let operation = v1::replica_request::Operation::Read(v1::Read {
        key: record_key(word).as_bytes().clone(),
    });
    v1::ReplicaRequest {
        id,
        operation: Some(operation),
        ..Default::default()
    }
}

pub(super) fn batch(requests: Vec<v1::ReplicaRequest>) -> v1::RequestBatch {
    v1::RequestBatch {
        node_id: "n1".into(),
        requests,
        fragment: None,
    }
}

pub(super) fn is_refused(reply: &v1::ReplicaReply, kind: v1::RefusalKind) -> bool {
    matches!(&reply.outcome, Some(v1::replica_reply::Outcome::Refusal(refusal)) if refusal.kind() == kind)
}

#[tokio::test]
async fn senseless_requests_are_refused_one_by_one() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let mut senseless = raw_read(2, "x");
    senseless.operation = Some(v1::replica_request::Operation::Read(v1::Read {
        key: "?".into(),
    }));
    let requests = vec![
        v1::ReplicaRequest {
            id: 1,
            ..Default::default()
        },
        senseless,
        raw_read(3, "sense"),
    ];
    let outbound = futures::stream::iter([batch(requests)]);
    let mut inbound = raw_client(address)
        .await
        .exchange(outbound)
        .await
        .unwrap()
        .into_inner();
    let mut replies = Vec::new();
    while let Some(batch) = inbound.message().await.unwrap() {
        replies.extend(batch.replies);
    }
    replies.sort_by_key(|reply| reply.id);
    assert_eq!(replies.len(), 3);
    assert!(is_refused(&replies[0], v1::RefusalKind::Malformed));
    assert!(is_refused(&replies[1], v1::RefusalKind::Malformed));
    assert!(matches!(
        replies[2].outcome,
        Some(v1::replica_reply::Outcome::Found(_))
    ));
}

#[tokio::test]
async fn mixed_fragments_end_the_stream() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let part = |id| v1::Fragment {
        id,
        data: "part".into(),
        last: false,
    };
    let parts = [1, 2].map(|id| v1::RequestBatch {
        fragment: Some(part(id)),
        ..batch(vec![])
    });
    let outbound = futures::stream::iter(parts).chain(futures::stream::pending());
    let mut inbound = raw_client(address)
        .await
        .exchange(outbound)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(inbound.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_reader_that_stalls_holds_back_itself_only() {
    let words = Words::new();
    let settings = StorageFrontSettings {
        in_flight_max: 4,
        ..Default::default()
    };
    let (_running, stopping) = watch::channel(false);
    let around = exchange::Surroundings {
        settings,
        budget: Budget::unlimited(),
        stopping,
    };
    let outbox = Arc::new(exchange::outbox(&around));
    let requests = (0..100).map(|id| raw_read(id, "w")).collect();
    let batches = futures::stream::iter([Ok::<_, String>(batch(requests))]);
    let serving = tokio::spawn(exchange::serve(
        words.clone(),
        around,
        None,
        batches,
        Arc::clone(&outbox),
    ));
    eventually("four replies", async || outbox.len().0 == 4).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(words.begun(), 4);
    let departures: Vec<_> = outbox.departures().collect().await;
    assert_eq!(
        departures
            .iter()
            .map(|departure| departure.whole.len())
            .sum::<usize>(),
        100
    );
    serving.await.unwrap();
}

#[tokio::test]
async fn what_was_begun_is_finished_when_the_coordinator_is_gone() {
    let (listener, address) = listen();
    let words = Words::new();
    let _process = Process::start(listener, words.clone());
    let transport = transport(TransportSettings::default());
    let mut call = Box::pin(transport.call(&node_at(address), read("soon"), later()));
    assert_eq!((&mut call).now_or_never(), None);
    eventually("the request's arrival", async || words.begun() == 1).await;
    drop((call, transport));
    eventually("the operation's end", async || words.ended() == 1).await;
}

#[tokio::test]
async fn tools_ask_outside_a_stream() {
    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let mut client = raw_client(address).await;
    let reply = client.read(raw_read(9, "tool")).await.unwrap().into_inner();
    assert_eq!(reply.id, 9);
    assert!(matches!(
        reply.outcome,
        Some(v1::replica_reply::Outcome::Found(_))
    ));
    let other = v1::ReplicaRequest {
        node_id: "no name\n".into(),
        ..raw_read(1, "tool")
    };
    assert!(is_refused(
        &client.read(other).await.unwrap().into_inner(),
        v1::RefusalKind::Malformed
    ));
    let probe = client
        .health_check(v1::ReplicaRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(
        is_refused(&probe, v1::RefusalKind::Malformed),
        "this node takes reads only"
    );
    let status = client.write(raw_read(1, "tool")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let panicked = client
        .read(raw_read(1, "panic"))
        .await
        .unwrap()
        .into_inner();
    assert!(is_refused(&panicked, v1::RefusalKind::StorageFailed));
}

#[tokio::test]
async fn a_storage_node_answers_grpc_only_and_tells_its_health() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tower::{Service, ServiceExt};

    let (listener, address) = listen();
    let _process = Process::start(listener, Words::new());
    let mut channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    for (kind, status) in [
        ("application/json", 415),
        ("text/plain", 415),
        ("application/grpc", 200),
    ] {
        let request = http::Request::post("/pairdb.v1.StorageService/Read")
            .header("content-type", kind)
            .body(tonic::body::Body::empty())
            .unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), status, "{kind}");
    }
    let mut health = HealthClient::new(channel);
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("pairdb.v1.StorageService", ServingStatus::Serving),
        ("absent", ServingStatus::ServiceUnknown),
    ] {
        let service = HealthCheckRequest {
            service: service.into(),
        };
        let mut watched = health.watch(service).await.unwrap().into_inner();
        let status = watched.message().await.unwrap().unwrap();
        assert_eq!(status.status(), expected);
    }
}
