//! Two versions of the program at the ends of one connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tokio::net::TcpListener;
use tonic::{Code, Status};

use super::grpc_test::{
    Process, Words, batch, eventually, found, is_refused, later, listen, node_at, raw_client,
    raw_read, read,
};
use super::*;
use crate::adapters::tokio::TokioClock;
use crate::placement::NodeId;
use crate::ports::{
    CallError, Caller, Maintenance, Operation, Refusal, Release, ReplicaTransport, Reply, Request,
    RequestHandler,
};
use crate::proto::v1;
use crate::version::Stamp;

/// A node that serves current callers only, and notes who calls.
#[derive(Clone)]
struct Particular {
    words: Words,
    callers: Arc<Mutex<Vec<Caller>>>,
}

impl RequestHandler for Particular {
    fn node(&self) -> &NodeId {
        self.words.node()
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        self.words.handle(request)
    }

    fn handle_from(
        &self,
        caller: Caller,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        self.callers.lock().unwrap().push(caller.clone());
        let answer = self.handle(request);
        async move {
            match caller.release {
                Release::Current => answer.await,
                Release::BeforeChangesOfOwners => Err(Refusal::Unavailable("too old".into())),
            }
        }
    }
}

/// What a process tells of itself; what is not told is left out.
type Told = [Option<&'static str>; 3];

const KEYS: [&str; 3] = [
    "pairdb-wire-version",
    "pairdb-wire-version-oldest",
    "pairdb-version",
];
const NOTHING: Told = [None; 3];
const NEXT: Told = [Some("3"), Some("2"), Some("0.2.0")];
const NEXT_BUT_ONE: Told = [Some("4"), Some("3"), Some("0.3.0")];

fn here() -> Told {
    [Some("2"), Some("1"), Some(env!("CARGO_PKG_VERSION"))]
}

/// Opens a stream as somebody who tells this, and asks for a word.
async fn ask(address: SocketAddr, told: Told) -> Result<v1::ReplicaReply, Status> {
    let outbound = futures::stream::iter([batch(vec![raw_read(1, "word")])]);
    let mut request = tonic::Request::new(outbound.chain(futures::stream::pending()));
    for (key, value) in KEYS.into_iter().zip(told) {
        if let Some(value) = value {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
    }
    let response = raw_client(address).await.exchange(request).await?;
    let tells = KEYS.map(|key| response.metadata().get(key)?.to_str().ok());
    assert_eq!(tells, here());
    let batch = response.into_inner().message().await?;
    Ok(batch.unwrap().replies.remove(0))
}

#[tokio::test]
async fn a_node_serves_who_speaks_a_version_that_it_knows() {
    let (listener, address) = listen();
    let callers = Arc::default();
    let node = Particular {
        words: Words::new(),
        callers: Arc::clone(&callers),
    };
    let _process = Process::start_with(listener, node, None);
    for told in [NOTHING, [Some("1"), None, None]] {
        let reply = ask(address, told).await.unwrap();
        assert!(is_refused(&reply, v1::RefusalKind::Unavailable), "{told:?}");
    }
    for told in [here(), NEXT, [Some("2"), None, None]] {
        let reply = ask(address, told).await.unwrap();
        let is_found = matches!(reply.outcome, Some(v1::replica_reply::Outcome::Found(_)));
        assert!(is_found, "{told:?}");
    }
    let mut tool = raw_client(address).await;
    let reply = tool.read(raw_read(1, "word")).await.unwrap().into_inner();
    assert!(is_refused(&reply, v1::RefusalKind::Unavailable));
    use Release::{BeforeChangesOfOwners as Old, Current as New};
    let callers_met = callers.lock().unwrap().clone();
    let releases: Vec<_> = callers_met.iter().map(|caller| caller.release).collect();
    assert_eq!(releases, [Old, Old, New, New, New, Old]);
    let names: Vec<_> = callers_met.iter().map(|caller| &*caller.name).collect();
    let here = "127.0.0.1";
    assert_eq!(
        names,
        [here, here, here, here, here, ""],
        "a tool is nobody to wait for"
    );
    let transport = GrpcTransport::new(TokioClock::new(), TransportSettings::default());
    let answer = transport.call(&node_at(address), read("word"), later());
    assert_eq!(answer.await, found("word"), "two of one version");
}

#[tokio::test]
async fn a_node_refuses_who_speaks_no_version_that_it_knows() {
    let (listener, address) = listen();
    let words = Words::new();
    let _process = Process::start_with(listener, words.clone(), None);
    let refused = ask(address, NEXT_BUT_ONE).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), caller_too_new());
    assert_eq!(
        KEYS.map(|key| refused.metadata().get(key)?.to_str().ok()),
        here()
    );
    let unread = ask(address, [Some("two"), None, None]).await.unwrap_err();
    assert_eq!(unread.code(), Code::FailedPrecondition);
    assert_eq!(
        unread.message(),
        "the caller tells a wire version that can't be read"
    );
    assert_eq!(words.begun(), 0);
}

fn caller_too_new() -> String {
    format!(
        "the caller speaks wire versions 3 to 4 (pairdb 0.3.0); this node understands wire versions 1 to 2 (pairdb {}): \
         upgrade this node first, one version at a time",
        env!("CARGO_PKG_VERSION")
    )
}

/// A server that answers each stream with these headers and nothing else.
#[derive(Clone, Default)]
struct Other {
    streams: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Other {
    async fn answers(&self, headers: Vec<(&'static str, String)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (this, headers) = (this.clone(), headers.clone());
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        this.streams.fetch_add(1, Ordering::SeqCst);
                        let mut response =
                            http::Response::builder().header("content-type", "application/grpc");
                        for (key, value) in &headers {
                            response = response.header(*key, value);
                        }
                        let is_over = headers.iter().any(|(key, _)| *key == "grpc-status");
                        let response = response.body(()).unwrap();
                        let mut body = request.into_body();
                        let sending = respond.send_response(response, is_over);
                        let this = this.clone();
                        tokio::spawn(async move {
                            let _open = sending;
                            while let Some(Ok(data)) = body.data().await {
                                this.bytes.fetch_add(Bytes::len(&data), Ordering::SeqCst);
                            }
                            std::future::pending::<()>().await;
                        });
                    }
                });
            }
        });
        address
    }
}

/// What many calls that are made at once, and one later, are told.
async fn whys(address: SocketAddr) -> Vec<String> {
    let settings = TransportSettings {
        reconnect_delay_min: Duration::from_secs(600),
        reconnect_delay_max: Duration::from_secs(600),
        ..Default::default()
    };
    let transport = GrpcTransport::new(TokioClock::new(), settings);
    let node = node_at(address);
    let calls = (0..5).map(|_| transport.call(&node, read("word"), later()));
    let mut answers = join_all(calls).await;
    answers.push(transport.call(&node, read("word"), later()).await);
    let why = |answer| match answer {
        Err(CallError::NotSent(why)) => why,
        answer => panic!("{answer:?}"),
    };
    answers.into_iter().map(why).collect()
}

#[tokio::test]
async fn nothing_is_sent_to_a_node_that_speaks_no_version_that_we_know() {
    let other = Other::default();
    let told = KEYS.into_iter().zip(NEXT_BUT_ONE);
    let headers = told.map(|(key, value)| (key, value.unwrap().to_owned()));
    let address = other.answers(headers.collect()).await;
    let words = format!(
        "{address} speaks wire versions 3 to 4 (pairdb 0.3.0); this process understands wire versions 1 to 2 (pairdb \
         {}): upgrade this process first, one version at a time",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(whys(address).await, vec![words; 6]);
    let seen = (&other.streams, &other.bytes);
    let seen = (seen.0.load(Ordering::SeqCst), seen.1.load(Ordering::SeqCst));
    assert_eq!(seen, (1, 0), "streams and bytes");
}

#[tokio::test]
async fn who_is_refused_for_its_version_says_why_and_has_sent_nothing() {
    let other = Other::default();
    let message = "the caller speaks wire version 2 (pairdb 0.1.0); upgrade the caller\u{7}";
    let headers = vec![
        ("grpc-status", (Code::FailedPrecondition as i32).to_string()),
        ("grpc-message", message.replace('\u{7}', "%07")),
    ];
    let address = other.answers(headers).await;
    let words = format!(
        "{address} refuses the connection: {}",
        message.trim_end_matches('\u{7}')
    );
    assert_eq!(whys(address).await, vec![words; 6]);
    assert_eq!(other.bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_node_of_the_version_before_is_asked_as_ever() {
    let other = Other::default();
    let address = other.answers(vec![]).await;
    let transport = GrpcTransport::new(TokioClock::new(), TransportSettings::default());
    let node = node_at(address);
    let call = transport.call(&node, read("word"), later());
    let sent = eventually("a request", async || other.bytes.load(Ordering::SeqCst) > 0);
    tokio::select! {
        answer = call => panic!("it does not answer: {answer:?}"),
        () = sent => {}
    }
    // What it does not know it is not asked.
    let sent = other.bytes.load(Ordering::SeqCst);
    let fence = Maintenance::Fence {
        partitions: None,
        leaving: false,
        horizon: Stamp::ZERO,
    };
    let request = Request {
        operation: Operation::Maintenance(Box::new(fence)),
        ..read("word")
    };
    let why = "the node runs a version that knows nothing of changes of owners; upgrade it";
    let refused = Err(CallError::Refused(Refusal::Unavailable(why.into())));
    assert_eq!(transport.call(&node, request, later()).await, refused);
    assert_eq!(other.bytes.load(Ordering::SeqCst), sent);
}
