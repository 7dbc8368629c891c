//! Storage nodes and those who call them with certificates of one cluster, and strangers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::grpc_test::{
    Process, Words, eventually, found, later, listen, nobody, node_at, patient, read,
};
use super::*;
use crate::adapters::front::Budget;
use crate::adapters::tls::test_authority::{TestAuthority, TestFiles};
use crate::adapters::tls::{ClusterTls, ClusterTlsSettings, Listener, TlsSettings};
use crate::adapters::tokio::TokioClock;
use crate::placement::Node;
use crate::ports::conformance::{self, ScriptedNode, TransportBench};
use crate::ports::{CallError, ReplicaTransport, RequestHandler};

fn bounds() -> TlsSettings {
    TlsSettings {
        reload_interval: Duration::from_millis(20),
        ..TlsSettings::default()
    }
}

fn open(settings: &ClusterTlsSettings) -> ClusterTls {
    ClusterTls::open(settings, &bounds()).unwrap().unwrap()
}

/// A storage node, until the runtime of the test ends.
async fn serve(handler: impl RequestHandler, tls: Option<&ClusterTls>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, tls.map(|tls| tls.server.clone()));
    let never = std::future::pending();
    tokio::spawn(serve_storage(
        handler,
        listener,
        StorageFrontSettings::default(),
        Budget::unlimited(),
        never,
    ));
    address
}

fn transport(tls: Option<&ClusterTls>) -> GrpcTransport<TokioClock> {
    GrpcTransport::with(
        TokioClock::new(),
        patient(),
        tls.map(|tls| tls.client.clone()),
        Budget::unlimited(),
    )
}

/// Why there is no connection.
async fn refusal(tls: Option<&ClusterTls>, node: &Node) -> String {
    let transport = transport(tls);
    let _first = transport.call(node, read("one"), later()).await;
    match transport.call(node, read("one"), later()).await {
        Err(CallError::NotSent(why)) => why,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_certificates() {
    let (files, authority) = (TestFiles::new(), TestAuthority::new("cluster"));
    let tls = open(&files.cluster("node", &authority, &authority));
    conformance::replica_transport(&TokioClock::new(), async |scripted: ScriptedNode| {
        let (listener, address) = listen();
        let node = scripted.at("127.0.0.1", address.port());
        let (held, port) = nobody();
        let absent = Node {
            port,
            ..node.clone()
        };
        let process = Process::start_with(listener, scripted, Some(tls.server.clone()));
        TransportBench {
            transport: transport(Some(&tls)),
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

#[tokio::test]
async fn a_storage_node_lets_nobody_in_but_its_own_cluster() {
    let (files, cluster) = (TestFiles::new(), TestAuthority::new("cluster"));
    let strangers = TestAuthority::new("strangers");
    let node_tls = open(&files.cluster("node", &cluster, &cluster));
    let words = Words::new();
    let node = node_at(serve(words.clone(), Some(&node_tls)).await);

    let stranger = open(&files.cluster("stranger", &strangers, &cluster));
    let why = refusal(Some(&stranger), &node).await;
    assert!(why.contains("not signed by an authority"), "{why}");
    let why = refusal(None, &node).await;
    assert!(why.ends_with(" speaks TLS only"), "{why}");
    assert_eq!(words.begun(), 0);

    let own = open(&files.cluster("coordinator", &cluster, &cluster));
    let transport = transport(Some(&own));
    let answer = transport.call(&node, read("one"), later()).await;
    assert_eq!(answer, found("one"));
}

#[tokio::test]
async fn nobody_talks_to_a_storage_node_that_is_none_of_the_cluster() {
    let (files, cluster) = (TestFiles::new(), TestAuthority::new("cluster"));
    let strangers = TestAuthority::new("strangers");
    let own = open(&files.cluster("coordinator", &cluster, &cluster));

    let stranger = open(&files.cluster("stranger", &strangers, &cluster));
    let node = node_at(serve(Words::new(), Some(&stranger)).await);
    let why = refusal(Some(&own), &node).await;
    assert!(why.contains("can't be trusted"), "{why}");

    let node = node_at(serve(Words::new(), None).await);
    let why = refusal(Some(&own), &node).await;
    assert!(why.contains("speak TLS"), "{why}");
}

#[tokio::test]
async fn one_name_may_stand_in_all_certificates() {
    let (files, cluster) = (TestFiles::new(), TestAuthority::new("cluster"));
    let mut settings = files.cluster("node", &cluster, &cluster);
    let issued = cluster.issue(&["pairdb-storage"]);
    files.write_issued("node", &issued);
    let by_address = open(&settings);
    let node = node_at(serve(Words::new(), Some(&by_address)).await);
    let why = refusal(Some(&by_address), &node).await;
    assert!(why.contains("pairdb-storage"), "{why}");
    settings.server_name = "pairdb-storage".into();
    let by_name = open(&settings);
    let answer = transport(Some(&by_name))
        .call(&node, read("one"), later())
        .await;
    assert_eq!(answer, found("one"));
}

/// Whether somebody who comes now gets an answer.
async fn answered(tls: &ClusterTls, node: &Node) -> bool {
    let transport = transport(Some(tls));
    transport.call(node, read("one"), later()).await == found("one")
}

#[tokio::test]
async fn a_cluster_goes_over_to_another_authority_while_it_runs() {
    let (files, old) = (TestFiles::new(), TestAuthority::new("old"));
    let new = TestAuthority::new("new");
    let node_tls = open(&files.cluster("node", &old, &old));
    let own = open(&files.cluster("coordinator", &old, &old));
    let node = node_at(serve(Words::new(), Some(&node_tls)).await);
    let first = transport(Some(&own));
    assert_eq!(first.call(&node, read("one"), later()).await, found("one"));

    // Both count.
    let both = format!("{}{}", old.pem(), new.pem());
    let newcomer = files.cluster("newcomer", &new, &new);
    for name in ["node", "coordinator", "newcomer"] {
        files.write(&format!("{name}-ca.crt"), &both);
    }
    let newcomer = open(&newcomer);
    eventually("the new authority to count too", async || {
        answered(&newcomer, &node).await
    })
    .await;

    // Certificates of the new one.
    for name in ["node", "coordinator"] {
        files.write_issued(name, &new.issue(&["127.0.0.1"]));
    }
    let of_new = open(&files.cluster("of-new", &new, &new));
    eventually("the new certificate of the node", async || {
        answered(&of_new, &node).await
    })
    .await;
    // The connection from before never broke.
    assert_eq!(first.call(&node, read("two"), later()).await, found("two"));

    // Only the new one counts.
    for name in ["node", "coordinator"] {
        files.write(&format!("{name}-ca.crt"), new.pem());
    }
    let of_old = open(&files.cluster("of-old", &old, &new));
    eventually("the old authority to count no more", async || {
        !answered(&of_old, &node).await
    })
    .await;
    eventually("the cluster's own to be let in", async || {
        answered(&own, &node).await
    })
    .await;
}
