//! Put, get and delete, and what else a client is told.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use super::Dev;
use super::kit::{Program, http_get};

#[test]
fn a_value_is_put_read_and_deleted() {
    let cluster = Dev::start();
    let put = cluster.ok(&["put", "greeting", "hello"]);
    assert_eq!(put["consistency"], "quorum");
    assert!(put["replicas"].as_i64() >= Some(2));
    assert_eq!(put["is_duplicate"], false);
    let got = cluster.ok(&["get", "greeting"]);
    assert_eq!(
        (&got["value_utf8"], &got["value_base64"]),
        (&json!("hello"), &json!("aGVsbG8="))
    );
    let floor = got["context"].as_str().unwrap();
    let at_least = ["--consistency", "one", "--context", floor];
    let again = cluster.ok(&[&["get", "greeting"][..], &at_least].concat());
    assert_eq!(again["value_utf8"], "hello");
    cluster.ok(&["delete", "greeting"]);
    let gone = cluster.fails(&["get", "greeting"]);
    assert_eq!(gone, ("KEY_NOT_FOUND".into(), 3));
    cluster.ok(&["delete", "never there"]);
    cluster.server.stops(Signal::INT);
}

#[test]
fn values_are_kept_byte_for_byte() {
    let cluster = Dev::start();
    let bytes: Vec<u8> = (0..=255).collect();
    let file = cluster.directory.path().join("value");
    fs::write(&file, &bytes).unwrap();
    cluster.ok(&["put", "bytes", "--file", file.to_str().unwrap()]);
    let raw = Program::new(&["get", "bytes"]).at(&cluster).run();
    assert_eq!(raw.stdout, bytes);

    let put = Program::new(&["put", "piped"]).at(&cluster);
    let piped = put.input(b"from a pipe").run().exits(0);
    assert!(piped.stdout().starts_with("written: piped on "), "{piped}");
    assert_eq!(cluster.ok(&["get", "piped"])["value_utf8"], "from a pipe");

    assert_eq!(cluster.ok(&["put", "empty", ""])["key"], "empty");
    assert_eq!(cluster.ok(&["get", "empty"])["value_utf8"], "");
}

#[test]
fn one_idempotency_key_has_one_effect() {
    let cluster = Dev::start();
    let once = ["put", "order", "1", "--idempotency-key", "order-17"];
    assert_eq!(cluster.ok(&once)["is_duplicate"], false);
    assert_eq!(cluster.ok(&once)["is_duplicate"], true);
    let other = cluster.fails(&["put", "order", "2", "--idempotency-key", "order-17"]);
    assert_eq!(other, ("IDEMPOTENCY_KEY_CONFLICT".into(), 4));
}

#[test]
fn health_and_metrics_are_served() {
    let cluster = Dev::start();
    let ready = http_get(cluster.address("http"), "/ready");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = cluster.metrics();
    assert!(
        metrics.contains("\ncoordinator_storage_nodes_active 3\n"),
        "{metrics}"
    );
}

#[test]
fn wrong_values_are_the_callers_fault() {
    let cluster = Dev::start();
    for arguments in [
        &["put", "", "x"][..],
        &["get", "k", "--tenant", "a:b"],
        &["get", "k", "--context", "bm9uc2Vuc2U="],
    ] {
        let refused = cluster.fails(arguments);
        assert_eq!(refused, ("INVALID_REQUEST".into(), 2), "{arguments:?}");
    }
}

/// The wrong port, or a process that is no coordinator: it is named, and nothing was written.
#[test]
fn a_server_that_is_no_coordinator_is_named() {
    let cluster = Dev::start();
    let storage = cluster.ready["nodes"][0]["address"].as_str().unwrap();
    for (server, code) in [
        (cluster.address("http").to_string(), "NOT_PAIRDB"),
        (cluster.address("metrics").to_string(), "NOT_PAIRDB"),
        (storage.to_owned(), "UNIMPLEMENTED"),
    ] {
        let put = Program::new(&["put", "k", "v", "--json", "--server", &server]);
        let error = put.run().exits(5).error();
        assert_eq!(error["code"], code, "{server}: {error}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("50051"), "{server}: {hint}");
    }
}
