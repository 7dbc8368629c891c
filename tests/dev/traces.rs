//! What is followed, and where it is told: traces, over the real protocol.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pairdb::proto::v1::WriteKeyValueRequest;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::Request;

use super::collector::Collector;
use super::kit::{Program, Server};

/// A whole cluster in one process, with this in its configuration file.
fn dev_with(configuration: &str) -> Server {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pairdb.toml");
    std::fs::write(&file, configuration).unwrap();
    let dev = ["dev", "--ephemeral", "--config", file.to_str().unwrap()];
    Server::start(Program::new(&dev).with(&Server::FREE_PORTS))
}

/// A caller's trace goes on through the coordinator to the storage nodes, and what nobody asked to follow is not
/// followed.
#[tokio::test]
async fn a_write_is_followed_from_its_client_to_the_storage_nodes() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let cluster = dev_with(&format!(
        "[tracing]\nendpoint = \"{endpoint}\"\nsample = 0.0\n"
    ));
    let mut client = cluster.client().await;
    let write = |key: &str| {
        Request::new(WriteKeyValueRequest {
            tenant_id: "default".into(),
            key: key.into(),
            value: "v".into(),
            consistency: "all".into(),
            ..WriteKeyValueRequest::default()
        })
    };
    client.write_key_value(write("not followed")).await.unwrap();
    let mut followed = write("followed");
    let [trace, caller] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
    let traceparent = format!("00-{trace}-{caller}-01").parse().unwrap();
    followed.metadata_mut().insert("traceparent", traceparent);
    client.write_key_value(followed).await.unwrap();

    let named = |spans: &[Span], name: &str| -> Vec<Span> {
        spans
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect()
    };
    let spans = collector
        .until(|spans| {
            named(spans, "stored").len() >= 3 && !named(spans, "WriteKeyValue").is_empty()
        })
        .await;
    assert!(
        spans.iter().all(|span| span.trace_id == hex(trace)),
        "{spans:#?}"
    );
    let [request] = &named(&spans, "WriteKeyValue")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(request.parent_span_id, hex(caller));
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(attribute(request, "tenant"), "default");
    let called = named(&spans, "replica");
    for call in &called {
        assert_eq!(call.kind(), SpanKind::Client);
        assert!(
            ["stamp", "join"].contains(&attribute(call, "operation").as_str()),
            "{call:?}"
        );
    }
    let nodes = nodes_that_stored(&named(&spans, "stored"), &called);
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);
    cluster.stops(Signal::TERM);
}

/// A collector that takes connections and never answers costs traces, and neither requests nor an orderly stop.
#[tokio::test]
async fn a_collector_that_hangs_holds_nothing_up() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let cluster = dev_with(&format!(
        "[server]\nruntime = \"current_thread\"\n[tracing]\nendpoint = \"{endpoint}\"\nsample = 1.0\n"
    ));
    cluster.ok(&["put", "k", "v"]);
    let asked = Instant::now();
    cluster.stops(Signal::TERM);
    assert!(asked.elapsed() < Duration::from_secs(20));
}

/// The nodes that stored something, each because of a call to it.
fn nodes_that_stored(stored: &[Span], called: &[Span]) -> Vec<String> {
    let nodes = stored.iter().map(|stored| {
        let mut calls = called.iter();
        let call = calls.find(|call| call.span_id == stored.parent_span_id);
        let call = call.expect("a node's part is caused by a call");
        assert_eq!(attribute(call, "node"), attribute(stored, "node"));
        attribute(stored, "node")
    });
    let mut nodes: Vec<_> = nodes.collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn attribute(span: &Span, name: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == name);
    let value = found.and_then(|found| found.value.as_ref()?.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}
